"""Files as people have them: every format and encoding, what becomes a group, what a draft, what is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bonsai.builder.checks.run import run_checks
from bonsai.builder.errors import RecordError
from bonsai.builder.importing.import_file import ImportResult
from bonsai.builder.records import read_groups
from tests.importing.files import AGAR_EN, AGAR_JA, EN, JA, brought_in, pair, table, write_jsonl


def check_the_group(result: ImportResult) -> None:
    (group,) = result.groups
    assert group["id"] == "open_qa-0001"
    for language, row in (("ja", JA), ("en", EN)):
        text = group[language]
        assert isinstance(text, dict)
        assert text == {name: row[name] for name in ("instruction", "input", "reasoning", "output")}
    assert group["source"] == "contributed under MIT: my notes"
    assert result.drafts == ()


@pytest.mark.parametrize(
    ("encoding", "rule"),
    [
        ("utf-8", "valid UTF-8"),
        ("utf-8-sig", "byte-order mark"),
        ("utf-16", "byte-order mark"),
        ("cp932", "not UTF-8; valid CP932 with more full-width than half-width kana"),
    ],
)
@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".csv", ";"), (".tsv", "\t")])
def test_a_table_is_read_in_the_encodings_of_japanese_spreadsheets(
    tmp_path: Path, encoding: str, rule: str, suffix: str, delimiter: str
) -> None:
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(table([JA, EN], delimiter).encode(encoding))
    result = brought_in(path)
    assert (result.encoding, result.encoding_rule) == (encoding, rule)
    check_the_group(result)


def test_json_jsonl_parquet_and_xlsx_give_the_same_group(tmp_path: Path) -> None:
    import pyarrow
    from openpyxl import Workbook
    from pyarrow import parquet

    rows = [JA, EN]
    (tmp_path / "rows.json").write_text(json.dumps({"data": rows}))
    (tmp_path / "rows.jsonl").write_text("\n\n".join(json.dumps(row) for row in rows) + "\r\n")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    book = Workbook()
    for row in [list(JA), *(list(row.values()) for row in rows)]:
        book.active.append(row)
    book.save(tmp_path / "rows.xlsx")
    for suffix in ("json", "jsonl", "parquet", "xlsx"):
        check_the_group(brought_in(tmp_path / f"rows.{suffix}", dry_run=True))


def test_what_is_written_can_be_read_as_records_and_numbers_follow_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lonely = {"instruction": "Name the tree.", "output": "Pine."}
    path.write_text("\n".join(json.dumps(row) for row in (JA, EN, lonely)))
    records = tmp_path / "records"
    records.mkdir()
    (records / "open_qa.jsonl").write_text('{"id": "open_qa-0041"}\n{"id": "open_qa-0017"}\n')
    before = (records / "open_qa.jsonl").read_bytes()
    result = brought_in(path)
    assert result.written == (tmp_path / "new" / "open_qa.jsonl", tmp_path / "new" / "drafts" / "drafts.jsonl")
    (located,) = read_groups(tmp_path / "new")
    assert located.group.id == "open_qa-0042"
    assert (records / "open_qa.jsonl").read_bytes() == before
    draft = json.loads(result.written[1].read_text(encoding="utf-8"))
    assert draft["reason"] == "no row in ja; a group needs ja and en: write it, or pair rows by 'group_id'"
    assert draft["rows"][0]["category_rule"] == "no word tells; there is no input"
    assert draft["rows"][0]["place"] == f"{path}:3"


def test_a_dry_run_shows_the_same_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (JA, EN)))
    result = brought_in(path, dry_run=True)
    assert result.guesses == {"open_qa: no word tells; there is no input": 2}
    assert (result.shape, result.categories, result.written) == ("BONSAI", {"open_qa": 1}, ())
    assert not (tmp_path / "new").exists()


def test_licence_source_and_a_fresh_folder_are_demanded_at_once(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    with pytest.raises(RecordError) as refused:
        brought_in(tmp_path / "rows.csv", source=" ", license="")
    assert [fault.split(":")[0] for fault in refused.value.faults] == ["source", "license", str(tmp_path / "new")]


def test_dolly_names_are_understood_and_an_unknown_category_waits_as_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {
            "group_id": "1",
            "instruction": "Sum up.",
            "context": "A long text.",
            "response": "Short.",
            "category": "summarization",
        },
        {
            "group_id": "1",
            "instruction": "要約して。",
            "context": "長い文です。",
            "response": "短い。",
            "category": "summarization",
        },
        {"group_id": "2", "instruction": "Hm", "context": "", "response": "Yes indeed.", "category": "chitchat"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    result = brought_in(path, dry_run=True)
    assert result.shape == "Dolly"
    reasons = [draft.reasons for draft in result.drafts]
    assert reasons[0] == ("'ja.reasoning' is empty; closed_qa needs it",)
    assert "the category is 'chitchat'; write one of open_qa" in reasons[1][0]
    assert "no row in ja; a group needs ja and en" in reasons[1][1]
    assert result.guesses == {"closed_qa: the file's 'summarization' is our closed_qa": 2}


def test_conversations_give_their_reasoning_and_longer_ones_wait(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    answer = "### Reasoning:\nPot and tree.\n\n### Response:\nA shaped tree."
    rows = [
        {"group_id": "1", "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": answer}]},
        {
            "group_id": "1",
            "messages": [{"role": "user", "content": "何？"}, {"role": "assistant", "content": "木です。"}],
        },
        {"messages": [{"role": role, "content": "Hi there"} for role in ("user", "assistant", "user")]},
    ]
    path.write_text(json.dumps(rows))
    result = brought_in(path, dry_run=True)
    piece = result.drafts[0].rows[0].text
    assert (piece.instruction, piece.reasoning, piece.output) == ("What?", "Pot and tree.", "A shaped tree.")
    assert "has 3 turns (user, assistant, user)" in result.drafts[1].reason


def test_parallel_columns_are_one_group_a_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row = {f"{name}_{language}": own[name] for language, own in (("ja", JA), ("en", EN)) for name in JA if name != "id"}
    path.write_text(table([row, row | {"output_en": ""}]), encoding="utf-8", newline="")
    result = brought_in(path, dry_run=True)
    assert len(result.groups) == 1
    assert "'en.output' is empty; write it" in result.drafts[0].reasons


def test_translation_rows_of_both_directions_become_one_group(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    ja, en = "木を植える。", "Plant a tree."
    shared = {"group_id": "t", "category": "translation", "instruction": "Translate."}
    rows = [
        shared | {"input": ja, "output": en, "reasoning": "を marks the object."},
        shared | {"input": en, "output": ja, "reasoning": "日本語に冠詞はない。"},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    (group,) = brought_in(path, dry_run=True).groups
    assert group["ja"] == {"text": ja, "reasoning": "日本語に冠詞はない。"}
    assert group["en"] == {"text": en, "reasoning": "を marks the object."}
    assert group["source"] == "contributed under MIT: my notes"


def test_all_faults_of_a_file_are_told_at_once_with_their_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('instruction,output\na,b\nx,y,z\nq,"two\r\nlines"\nw,"' + "長" * 100_001 + '"\nlast,"open\n')
    with pytest.raises(RecordError) as refused:
        brought_in(path)
    faults = refused.value.faults
    assert faults[0] == f"{path}:3: 3 cells below 2 column names; put a cell that contains ',' into quotes"
    assert faults[1] == f"{path}:6: 'output' has 100,001 characters; cut it to 100,000 or fewer"
    assert faults[2].startswith(f"{path}:7: unexpected end of data; double a quote")
    assert not (tmp_path / "new").exists()


def test_columns_that_make_no_shape_are_named_once_and_faults_beyond_fifty_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "?"}\n' * 60)
    with pytest.raises(RecordError) as refused:
        brought_in(path)
    (fault,) = refused.value.faults
    assert fault.startswith(f"{path}:1: the columns are question; name them instruction, input, output")
    path.write_text("{\n" * 60)
    with pytest.raises(RecordError, match="and 10 more faults"):
        brought_in(path)


def test_a_formula_in_a_workbook_is_refused_and_in_a_csv_it_is_text(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["instruction", "output"])
    book.active.append(["What is 1+1?", "=1+1"])
    book.save(tmp_path / "rows.xlsx")
    with pytest.raises(RecordError, match=r"Sheet:2: B2 holds the formula '=1\+1'; paste its value as text"):
        brought_in(tmp_path / "rows.xlsx")
    (tmp_path / "rows.csv").write_text('instruction,output\nWhat?,"=HYPERLINK(""http://x"")"\n')
    assert brought_in(tmp_path / "rows.csv", dry_run=True).drafts[0].rows[0].text.output == '=HYPERLINK("http://x")'


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "rows.xlsx", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/worksheets/sheet1.xml", b" " * 20_000_000)
    with pytest.raises(RecordError, match="as in a zip bomb"):
        brought_in(tmp_path / "rows.xlsx")


def test_a_workbook_whose_parts_are_named_to_lie_elsewhere_writes_nothing(tmp_path: Path) -> None:
    from openpyxl import Workbook

    book = Workbook()
    book.active.append(["instruction", "output"])
    book.active.append(["What is 1+1?", "2."])
    inside = tmp_path / "inside"
    inside.mkdir()
    book.save(inside / "rows.xlsx")
    with zipfile.ZipFile(inside / "rows.xlsx", "a") as file:
        for name in ("../evil.txt", "../../evil.txt", str(tmp_path / "evil.txt")):
            file.writestr(name, "evil")
    assert brought_in(inside / "rows.xlsx").rows == 1
    assert [path for path in tmp_path.rglob("*") if path.stem == "evil"] == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("rows.doc", b"x", "a '.doc' file; save it as one of .csv"),
        ("rows.xlsx", b"not a zip", "not an .xlsx file inside"),
        ("rows.parquet", b"PAR1", "not readable as Parquet"),
        ("rows.json", b'{"a": 1', r"rows\.json:1: not JSON"),
        ("rows.json", b"3", "a JSON int; write a list of objects"),
        ("rows.csv", b"a,b\n\x80\xff\xff,\xff", "not UTF-8, and no other encoding is certain"),
        ("rows.csv", b"instruction,output\n", "no row; a table needs a line of column names"),
        ("rows.csv", b"output,output\n1,2\n", "the column name 'output' occurs twice"),
        ("rows.jsonl", b"[1]\n", "a JSON list, not an object"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=sentence):
        brought_in(tmp_path / name)


def test_rows_that_claim_the_same_place_in_a_group_wait_as_a_draft(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row | {"order": "7"}) for row in (JA, EN, EN)))
    result = brought_in(path, dry_run=True)
    assert f"two rows in 'en' ({path}:2, {path}:3) have the same key" in result.drafts[0].reason


def test_another_column_can_pair_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [JA | {"id": "1", "thought": "x"}, EN | {"id": "2", "thought": "x"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert brought_in(path, dry_run=True).groups == ()
    check_the_group(brought_in(path, dry_run=True, pair_by="thought"))


def checked(result: ImportResult) -> list[str]:
    """Return what `bonsai check` calls an error in the groups that were written."""
    folder = result.written[0].parent
    return [finding.message for finding in run_checks(read_groups(folder), ()).errors]


@pytest.mark.parametrize("source", ["my notes", "authored", "社内の質問集", "notes of 2024, chapter 3"])
@pytest.mark.parametrize("generator", [None, "human: me", "gpt-oss-120b"])
def test_whatever_source_and_writer_are_named_the_groups_pass_the_check(
    tmp_path: Path, source: str, generator: str | None
) -> None:
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", pair()), source=source, generator=generator)
    assert len(result.groups) == 1
    assert checked(result) == []
    assert "guessed" not in result.groups[0]["source"]
    assert any("nobody is named as the writer" in note for note in result.notes) == (generator is None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"source": "unknown"}, "source 'contributed under MIT: unknown'"),
        ({"source": "alpaca_cleaned"}, "'alpaca' isn't ours to publish"),
        ({"license": "CC BY-SA 4.0"}, "license 'CC BY-SA 4.0'"),
        ({"generator": "LLM"}, "generator 'LLM'"),
        ({"generator": "unknown"}, "generator 'unknown'"),
        ({"expected_language": "english"}, "expect: got 'english'; give ja or zh"),
        ({"expected_language": "klingon"}, "expect: got 'klingon'; give ja or zh"),
        ({"category": "chitchat"}, "category: got 'chitchat'; give one of open_qa"),
        ({"pair_by": "nummer"}, "there is no column 'nummer'; there are group_id, instruction, reasoning, output"),
        ({"renamed": {"Antwort": "output"}}, "there is no column 'Antwort'"),
        ({"sheet": "一"}, "has no sheets"),
        ({"source": None}, r"source: nothing given, and .*rows.jsonl:1 has no column for it"),
    ],
)
def test_what_the_next_step_would_refuse_is_refused_before_anything_is_written(
    tmp_path: Path, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RecordError, match=sentence):
        brought_in(write_jsonl(tmp_path / "rows.jsonl", pair()), **options)
    assert not (tmp_path / "new").exists()


def test_rows_under_another_licence_and_rows_with_an_error_wait_as_drafts(tmp_path: Path) -> None:
    rows = [
        *pair("a"),
        *pair("b", AGAR_JA | {"instruction": "豆腐とは何ですか。", "license": "CC-BY-SA-3.0"}, AGAR_EN),
        *pair(
            "c", AGAR_JA | {"instruction": "豆乳とは何ですか。", "output": "It is made of beans and of water."}, AGAR_EN
        ),
        *pair(
            "d", AGAR_JA | {"instruction": "連絡先はどこですか。", "output": "taro.yamada@yahoo.co.jp です。"}, AGAR_EN
        ),
        *pair("e"),
    ]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert checked(result) == []
    reasons = " ".join(draft.reason for draft in result.drafts)
    for word in ("license 'CC-BY-SA-3.0'", "[language] ja.output", "[personal_data]", "[duplicates]"):
        assert word in reasons


@pytest.mark.parametrize("missing", [float("nan"), None, "", "NaN", "nan", "<NA>", "NaT", "None", "NULL", "#N/A"])
def test_a_missing_value_never_becomes_a_text(tmp_path: Path, missing: object) -> None:
    rows = [row | {"input": missing} for row in pair("a")]
    rows += [row | {"reasoning": missing} for row in pair("b")]
    rows += [row | {"output": missing} for row in pair("c")]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert [group["ja"]["input"] for group in result.groups] == [""]
    assert "'ja.reasoning' is empty" in result.drafts[0].reason
    assert "output" in result.drafts[1].reason
    assert not any("closed_qa" in guess for guess in result.guesses)


def test_missing_values_of_pandas_in_parquet_are_missing(tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(pair("a"))
    frame["input"] = float("nan")
    frame["number"] = pandas.array([1, None], dtype="Int64")
    frame["seen"] = pandas.to_datetime(["2026-01-01", None])
    frame.to_parquet(tmp_path / "rows.parquet")
    (group,) = brought_in(tmp_path / "rows.parquet", dry_run=True).groups
    assert (group["category"], group["ja"]["input"]) == ("open_qa", "")


@pytest.mark.parametrize(
    "nothing", ["<noinput>", "<no input>", "なし", "（なし）", "特になし", "N/A", "n/a", "none", "-", "ー", "无"]
)
def test_a_word_for_no_input_is_no_passage(tmp_path: Path, nothing: str) -> None:
    rows = [row | {"input": nothing} for row in pair("a")]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert (result.groups[0]["category"], result.groups[0]["en"]["input"]) == ("open_qa", "")
    assert nothing in ("none",) or any(repr(nothing) in note for note in result.notes)


@pytest.mark.parametrize(
    ("ja", "en"),
    [
        ({"language": "Japanese"}, {"language": "English"}),
        ({"language": "日本語"}, {"language": "英語"}),
        ({"言語": "JA"}, {"言語": "EN"}),
        ({"lang": "ja-JP"}, {"lang": "en_US"}),
        ({"id": "q1_JA"}, {"id": "q1_EN"}),
        ({"id": "ja/q1"}, {"id": "en/q1"}),
        ({"id": "q1-jp"}, {"id": "q1-eng"}),
        ({"id": "q1 (日本語)"}, {"id": "q1 (English)"}),
    ],
)
def test_languages_are_understood_in_columns_and_ids_however_they_are_written(
    tmp_path: Path, ja: dict[str, str], en: dict[str, str]
) -> None:
    key = {} if "id" in ja else {"pair_id": "1"}
    rows = [key | ja | AGAR_JA, key | en | AGAR_EN]
    assert len(brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True).groups) == 1


@pytest.mark.parametrize(
    ("name", "category"),
    [
        *(("open-qa", "open_qa"), ("Open QA", "open_qa"), ("OPEN_QA", "open_qa"), ("general_qa", "open_qa")),
        *(("creative_writing", "creative"), ("ブレインストーミング", "brainstorming"), ("創作", "creative")),
    ],
)
def test_categories_are_understood_however_they_are_written(tmp_path: Path, name: str, category: str) -> None:
    rows = [row | {"category": name} for row in pair("a")]
    (group,) = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True).groups
    assert group["category"] == category


@pytest.mark.parametrize(
    ("ja", "en", "answer"),
    [
        ("水の化学式は何ですか。", "What is the chemical formula of water?", "H2O"),
        (
            "Pythonで1から3までを足すコードを書いてください。",
            "Write Python that adds 1 to 3.",
            "print(sum(range(1, 4)))\n" * 5,
        ),
        ("世界保健機関の略称は何ですか。", "What is the abbreviation of that organization?", "WHO"),
        ("日本の首都はどこですか。漢字で書いてください。", "Write the name of Japan's capital in Japanese.", "東京"),
        ("一年は何日ですか。", "How many days are there in a year?", "365"),
    ],
)
def test_the_language_is_that_of_question_and_answer_together(tmp_path: Path, ja: str, en: str, answer: str) -> None:
    rows = pair("a", AGAR_JA | {"instruction": ja, "output": answer}, AGAR_EN | {"instruction": en, "output": answer})
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True, category="brainstorming")
    assert result.languages == {"ja": 1, "en": 1}


@pytest.mark.parametrize(
    "question",
    [
        "源氏物語の作者は誰ですか。",
        "聖書を英語に初めて全部翻訳したのは誰ですか。",
        "生物の分類で、イルカはどの綱に入りますか。",
        "次の提案を一文で説明してください。",
        "ニュートンの主要なアイデアは何ですか。",
        "マンションの三階建ては英語で何と言いますか。",
        "物語を読む時間はいつが多いですか。",
        "翻訳家になるには何が必要ですか。",
        "図書館の分類番号9は何を表しますか。",
        "歌詞の著作権は何年続きますか。",
        "この案を採用した理由は何ですか。",
        "Who wrote the story of Peter Rabbit?",
        "What is a haiku?",
        "Who translated the Iliad into English first?",
        "Where did the idea of zero come from?",
        "What does 'classified' mean on a document?",
        "谁写了《西游记》这个故事？",
        "诗经是什么时候编成的？",
    ],
)
def test_a_plain_question_with_a_telling_word_in_it_stays_a_question(tmp_path: Path, question: str) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [AGAR_JA | {"instruction": question}])
    (draft,) = brought_in(path, dry_run=True).drafts
    assert draft.rows[0].category is not None
    assert (draft.rows[0].category.category, draft.rows[0].category.guessed) == ("open_qa", True)


@pytest.mark.parametrize(
    ("request_", "category"),
    [
        ("次の文を英語に翻訳してください。", "translation"),
        ("Translate the following sentence into Japanese.", "translation"),
        ("请把下面的句子翻译成日语。", "translation"),
        ("次の語を果物と野菜に分類してください。", "classification"),
        ("気持ちを「喜び」「怒り」「悲しみ」から選んでください。", "classification"),
        ("Classify each animal as a mammal or a bird.", "classification"),
        ("海辺の町を元気にするアイデアをください。", "brainstorming"),
        ("雨の日の過ごし方の案を五つ挙げてください。", "brainstorming"),
        ("Give ideas to liven up a seaside town.", "brainstorming"),
        ("春の雨で俳句を作ってください。", "creative"),
        ("Write a haiku about rain.", "creative"),
        ("请写一首关于雨的诗。", "creative"),
        ("もっと深い問いを一つ書いてください。", "question_to_question"),
    ],
)
def test_a_request_in_plain_words_tells_its_category(tmp_path: Path, request_: str, category: str) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [AGAR_JA | {"instruction": request_}])
    result = brought_in(path, dry_run=True)
    guess = result.drafts[0].rows[0].category
    assert guess is not None
    assert guess.category == category
    assert any(told.startswith(f"{category}: ") for told in result.guesses)


def test_two_columns_of_one_meaning_are_refused_by_name_and_a_person_may_choose(tmp_path: Path) -> None:
    rows = [
        {"group_id": "a", "質問": AGAR_JA["instruction"], "output": AGAR_JA["output"], "response": "わかりません。"}
    ]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(RecordError, match=r"rows.jsonl:1: 'output' and 'response' both mean 'output'; remove one"):
        brought_in(path)
    result = brought_in(path, dry_run=True, renamed={"response": "output"})
    assert result.drafts[0].rows[0].text.output == "わかりません。"
    rows = [{"質問": "一", "question": "", "答え": "二"}, {"質問": None, "question": "三", "答え": "四"}]
    result = brought_in(write_jsonl(path, rows), dry_run=True)
    assert [draft.rows[0].text.instruction for draft in result.drafts] == ["一", "三"]


@pytest.mark.parametrize(
    "names",
    [
        ("question", "answer"),
        ("prompt", "completion"),
        ("query", "response"),
        ("質問", "回答"),
        ("Question", "ANSWER"),
        ("问题", "答案"),
        ("指示", "出力"),
        ("input", "output"),
    ],
)
def test_the_names_that_people_and_libraries_use_are_known_and_told(tmp_path: Path, names: tuple[str, str]) -> None:
    rows = [{"pair": "1", names[0]: text["instruction"], names[1]: text["output"]} for text in (AGAR_JA, AGAR_EN)]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True, category="brainstorming")
    assert result.groups[0]["en"]["output"] == AGAR_EN["output"]
    assert names[0].lower() in " ".join(result.notes).lower()


def test_columns_that_nothing_is_read_from_are_told(tmp_path: Path) -> None:
    rows = [row | {"難しさ": 3, "memo": "x", "tags": ["a"]} for row in pair("a")]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert "columns that nothing is read from: 難しさ, memo, tags; groups leave them out" in result.notes


def test_by_what_column_rows_were_paired_is_told_with_the_first_pair(tmp_path: Path) -> None:
    rows = [{"number": 1} | AGAR_JA, {"number": 1} | AGAR_EN | {"instruction": "What lets jam set?"}]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)
    result = brought_in(path, dry_run=True)
    (told,) = result.pairs
    assert told.startswith("rows with the same 'number' were put together: 1 times")
    assert "'What lets jam set?'" in told
    assert brought_in(path, dry_run=True, pair_by="none").groups == ()


def test_half_a_surrogate_pair_waits_as_a_draft_and_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = pair("a", AGAR_JA | {"instruction": "絵文字\ud83dは何ですか。"}) + pair("b")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = brought_in(path)
    assert len(result.groups) == 1
    assert "'instruction' has half of a character (U+D83D)" in result.drafts[0].reason
    (entry,) = [json.loads(line) for line in result.written[-1].read_text(encoding="utf-8").splitlines()]
    assert entry["rows"][0]["instruction"] == "絵文字\ud83dは何ですか。"
    assert [path.name for path in tmp_path.iterdir() if ".part" in path.name] == []


def test_drafts_name_all_that_they_lack_and_are_taken_up_again(tmp_path: Path) -> None:
    rows = [
        {"group_id": 1, "instruction": "海藻を三つ挙げてください。", "output": ["昆布", "わかめ", "海苔"], "memo": "x"},
        {"group_id": 2, **AGAR_EN, "system": "Be brief.", "history": [["Hi", "Hello."]]},
    ]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), generator="human: me")
    reasons = result.drafts[0].reasons
    assert "'output' is a list, no text" in reasons[0]
    assert "no row in en" in reasons[1]
    drafts = tmp_path / "new" / "drafts" / "drafts.jsonl"
    # unchanged, they stay drafts, and lose nothing
    again = brought_in(drafts, source=None, license=None, to=tmp_path / "again", records=tmp_path / "records")
    assert (len(again.groups), len(again.drafts)) == (0, 2)
    first, second = (json.loads(line) for line in again.written[0].read_text(encoding="utf-8").splitlines())
    assert second["rows"][0]["system"] == "Be brief."
    assert second["rows"][0]["history"] == [{"instruction": "Hi", "output": "Hello."}]
    assert first["rows"][0]["columns"]["memo"] == "x"
    # a person completes them
    first["rows"].append(
        {"instruction": "Give three ideas for seaweed dishes.", "output": "1. Soup\n2. Salad\n3. Rolls"}
    )
    first["rows"][0]["category"] = first["rows"][1]["category"] = "brainstorming"
    for name in ("system", "history"):
        del second["rows"][0][name]
    second["rows"].append({"language": "ja", **AGAR_JA})
    write_jsonl(drafts, [first, second])
    given: dict[str, Any] = {"to": tmp_path / "new", "records": tmp_path / "records"}
    done = brought_in(drafts, source=None, license=None, append=True, **given)
    assert [group["category"] for group in done.groups] == ["brainstorming", "open_qa"]
    assert done.groups[0]["ja"]["output"] == "昆布\nわかめ\n海苔"
    assert {group["generator"] for group in done.groups} == {"human: me"}
    assert drafts.read_text() == ""
    assert len(read_groups(tmp_path / "new")) == 2


def test_files_are_added_to_a_folder_under_free_ids_and_what_is_there_stays(tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "one.jsonl", pair("g1"))
    other = pair("g1", AGAR_JA | {"instruction": "豆腐は何から作られますか。", "output": "大豆です。"})
    other[1] |= {"instruction": "What is tofu made from?", "output": "Soybeans."}
    two = write_jsonl(tmp_path / "two.jsonl", [*other, AGAR_EN])
    brought_in(one, append=True)
    file = tmp_path / "new" / "open_qa.jsonl"
    before = file.read_bytes()
    result = brought_in(two, append=True)
    assert [located.group.id for located in read_groups(tmp_path / "new")] == ["open_qa-0001", "open_qa-0002"]
    assert file.read_bytes().startswith(before)
    assert result.written == (file, tmp_path / "new" / "drafts" / "drafts.jsonl")
    # the same file once more: what is there already is told, and its drafts are added
    again = brought_in(two, append=True)
    assert again.groups == ()
    assert any("1 of the groups are in" in note and "word for word" in note for note in again.notes)


def test_ids_go_on_past_9999(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    (records / "open_qa.jsonl").write_text('{"id": "open_qa-9999"}\n')
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", pair("a")))
    assert [located.group.id for located in read_groups(tmp_path / "new")] == ["open_qa-10000"]
    assert result.drafts == ()


def test_twelve_thousand_rows_of_one_category_all_get_an_id_in_a_few_seconds(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    row = {"category": "open_qa", "reasoning_ja": "理由です。", "reasoning_en": "A reason."}
    rows = [
        row
        | {"instruction_ja": f"問{i}は何ですか。", "output_ja": f"答え{i}です。"}
        | {"instruction_en": f"What is question {i}?", "output_en": f"It is answer {i}."}
        for i in range(12_000)
    ]
    path.write_text(table(rows), encoding="utf-8", newline="")
    result = brought_in(path, dry_run=True)
    assert (len(result.groups), len(result.drafts)) == (12_000, 0)
    assert result.groups[-1]["id"] == "open_qa-12000"
    assert any("not compared with one another" in note for note in result.notes)


@pytest.mark.parametrize("step", [1, 1.0, "1", "1.0"])
def test_the_step_of_a_chain_may_be_a_float_of_a_column_with_gaps(tmp_path: Path, step: object) -> None:
    ja = {
        "instruction": "もっと深い問いを一つ書いてください。",
        "input": "質問：なぜパンはふくらむのですか。\n答え：気体が出るからです。",
    }
    en = {"instruction": "Write one deeper question.", "input": "Question: Why does bread rise?\nAnswer: It makes gas."}
    ja |= {"reasoning": "気体の逃げ道を考える。", "output": "その気体はなぜ外へ逃げないのですか。"}
    en |= {"reasoning": "Think where the gas could go.", "output": "Why does that gas not escape?"}
    rows = [row | {"chain": "bread", "step": step} for row in pair("c", ja, en)]
    (group,) = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True).groups
    assert (group["category"], group["chain"]) == ("question_to_question", {"id": "bread", "step": 1})


def test_the_indent_of_a_first_line_stays_and_white_space_around_goes(tmp_path: Path) -> None:
    rows = pair(
        "a",
        AGAR_JA | {"output": "　寒天は海藻からできる。\n　心太も同じ。 \n"},
        AGAR_EN | {"output": "\n    x = 1\n    y = 2\n"},
    )
    rows += pair(
        "b",
        AGAR_JA | {"instruction": "  別の問いは何ですか。  "},
        AGAR_EN | {"instruction": "\tWhat is the other one?"},
    )
    one, other = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True, pair_by="group_id").groups
    assert one["ja"]["output"] == "　寒天は海藻からできる。\n　心太も同じ。"
    assert one["en"]["output"] == "    x = 1\n    y = 2"
    assert (other["ja"]["instruction"], other["en"]["instruction"]) == (
        "別の問いは何ですか。",
        "What is the other one?",
    )


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("instruction,output\n寒天は何から\n作られますか。,海藻です。\nWhat is it?,Algae.\n", 2),
        ("instruction;output\nWhat is\nit?;Algae.\n", 2),
        ("group_id,instruction,output\na,What?,Algae.\nb,What\nelse?,Algae.\n", 3),
    ],
)
def test_a_line_break_without_quotes_is_refused_with_its_line(tmp_path: Path, text: str, line: int) -> None:
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=f"rows.csv:{line}: .* put a cell that contains a line break into quotes"):
        brought_in(tmp_path / "rows.csv")


def test_trailing_commas_that_a_spreadsheet_left_out_are_empty_cells(tmp_path: Path) -> None:
    text = f"pair,instruction,output,reasoning,input\n1,{AGAR_JA['instruction']},{AGAR_JA['output']},煮る。\n"
    text += f"1,{AGAR_EN['instruction']},{AGAR_EN['output']},Boiled.\n"
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8")
    assert len(brought_in(tmp_path / "rows.csv", dry_run=True).groups) == 1


@pytest.mark.parametrize("before", ["", "sep=;\n", "Training data 2026\n\n", '"題名、第二版"\n'])
def test_excels_first_line_and_a_title_are_no_column_names(tmp_path: Path, before: str) -> None:
    text = before + table(pair("a"), ";", "\n")
    (tmp_path / "rows.csv").write_text(text, encoding="utf-8-sig")
    result = brought_in(tmp_path / "rows.csv", dry_run=True)
    assert len(result.groups) == 1
    assert any("above the column names" in note for note in result.notes) == bool(before) ^ before.startswith("sep")


def test_a_row_without_a_key_is_a_draft_like_one_with_null(tmp_path: Path) -> None:
    rows = [*pair("a"), {"group_id": "b", "instruction": "?", "output": None}, {"group_id": "c", "instruction": "?"}]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert len(result.groups) == 1
    assert [any("no letter tells the language" in reason for reason in draft.reasons) for draft in result.drafts] == [
        True
    ] * 2


def test_drafts_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [AGAR_JA | {"instruction": f"問い{number}は何ですか。"} for number in range(15)] + [AGAR_EN]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert list(result.reasons.values()) == [15, 1]
    assert next(iter(result.reasons)).startswith("no row in en; a group needs ja and en")


def test_pandas_and_datasets_tables_in_json_are_rows(tmp_path: Path) -> None:
    import pandas

    frame = pandas.DataFrame(pair("a"))
    path = tmp_path / "rows.json"
    for orient in ("columns", "records", "split", "index", "table"):
        frame.to_json(path, orient=orient, force_ascii=False)
        assert len(brought_in(path, dry_run=True).groups) == 1, orient
    frame.to_json(path, orient="records", lines=True)
    assert len(brought_in(path, dry_run=True).groups) == 1
    path.write_text(json.dumps(frame.to_dict("list")))
    assert len(brought_in(path, dry_run=True).groups) == 1
    (tmp_path / "rows.jsonl").write_text(json.dumps(pair("a"), indent=2))
    assert len(brought_in(tmp_path / "rows.jsonl", dry_run=True).groups) == 1
