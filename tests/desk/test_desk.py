"""The desk's answers, as its page asks for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from huggingface_hub import HfApi
from pyarrow import parquet
from starlette.testclient import TestClient

from bonsai.builder.desk.desk import Desk
from bonsai.builder.desk.releases import Releases
from bonsai.builder.editing import GroupChange, change_groups, read_lines
from bonsai.builder.errors import ReleaseError
from bonsai.builder.records import read_groups
from bonsai.builder.rows import group_to_rows
from bonsai.builder.samples import read_samples
from bonsai.builder.schema import CATEGORIES
from bonsai.builder.signatures import sign
from bonsai.hub.server.accounts import default_token
from bonsai.hub.server.serve import run_hub
from tests.builder.test_editing import contents, differing
from tests.desk.conftest import Asked, check_everything, run_tend, until

EVIL = "</script><script>alert('盆栽')</script><img src=x onerror=alert(1)>"


def edited(found: dict[str, Any], language: str, field: str, text: str) -> dict[str, Any]:
    record = json.loads(json.dumps(found["record"]))
    record[language][field] = text
    return dict(record)


def save(ask: Asked, name: str, language: str, field: str, text: str, **options: Any) -> Any:
    found = ask("group", id=name)
    return ask("save", id=name, digest=found["digest"], record=edited(found, language, field, text), **options)


# what is shown


def test_the_list_has_a_row_for_each_group_with_its_languages_and_marks(ask: Asked, records: Path) -> None:
    rows = ask("rows", reader="Sato")["rows"]
    assert [row["id"] for row in rows] == [located.group.id for located in read_groups(records)]
    (row,) = [row for row in rows if row["id"] == "open_qa-0001"]
    assert row["heads"]["ja"].startswith("面積で比べたとき")
    assert row["signed"] == {"ja": "", "en": "", "zh": ""}


def test_search_finds_words_in_any_field_width_and_case(ask: Asked) -> None:
    assert ask("search", words="琵琶湖") == ["open_qa-0001"]
    assert "open_qa-0001" in ask("search", words="ｌａｋｅ BIWA 670")
    assert ask("search", words="no such words anywhere") == []
    save(ask, "open_qa-0002", "en", "output", "Say Xyzzy.")
    assert ask("search", words="xyzzy") == ["open_qa-0002"]


def test_a_group_comes_with_place_split_and_hashes_of_its_texts(ask: Asked) -> None:
    found = ask("group", id="open_qa-0001")
    assert found["location"].endswith("open_qa.jsonl:1")
    assert set(found["keys"]) == {"ja", "en", "zh"}
    assert found["split"] in ("train", "validation", "test")
    assert ask("group", id="open_qa-9999") is None


def test_findings_of_everything_come_by_themselves_and_follow_an_edit(desk: Desk, ask: Asked) -> None:
    check_everything(desk)
    rows = {row["id"]: row for row in ask("rows")["rows"]}
    assert "duplicates" not in rows["open_qa-0002"]["findings"]
    twin = ask("group", id="open_qa-0001")["record"]
    found = ask("group", id="open_qa-0002")
    record = {**found["record"], **{language: twin[language] for language in ("ja", "en", "zh")}}
    record.pop("original", None)
    ask("save", id="open_qa-0002", digest=found["digest"], record=record)

    def marked() -> bool:
        rows = {row["id"]: row["findings"] for row in ask("rows")["rows"]}
        return rows["open_qa-0001"].get("duplicates") == "error"  # the first of the two has it

    until(marked)
    ask("undo")
    until(lambda: not marked())


def test_a_file_changed_by_another_program_is_seen(ask: Asked, records: Path) -> None:
    before = ask("state")["version"]
    path = records / "open_qa.jsonl"
    path.write_bytes(path.read_bytes().replace("琵琶湖".encode(), "びわ湖".encode()))
    assert ask("state")["version"] > before
    assert "びわ湖" in ask("group", id="open_qa-0001")["record"]["ja"]["output"]


def test_a_line_that_cannot_be_built_is_told_and_can_be_mended(ask: Asked, records: Path) -> None:
    path = records / "open_qa.jsonl"
    good = ask("group", id="open_qa-0001")["record"]
    bad = json.dumps({**good, "ja": {**good["ja"], "output": ""}}, ensure_ascii=False).encode()
    path.write_bytes(b"\n".join([bad, *path.read_bytes().split(b"\n")[1:], b"{not JSON"]))
    rows = ask("rows")
    assert len(rows["faults"]) == 2
    assert "'ja.output' is empty" in rows["faults"][0]
    assert rows["rows"][0]["id"] == "open_qa-0001"
    assert rows["rows"][0]["findings"] == {"schema": "error"}
    assert "'ja.output' is empty" in ask("check", record=ask("group", id="open_qa-0001")["record"])["faults"][0]
    save(ask, "open_qa-0001", "ja", "output", "琵琶湖です。")
    assert len(ask("rows")["faults"]) == 1


# checks while somebody types


def test_checks_and_counts_of_what_is_being_typed(ask: Asked) -> None:
    record = edited(ask("group", id="brainstorming-0001"), "en", "output", "1. Tea 2024\n2. Cake\n4. Bread")
    found = ask("check", record=record)
    assert found["counts"]["en.output"] == {"words": 7, "sentences": 1, "lines": 3, "items": 3, "digits": 7}
    assert any("the items are numbered [1, 2, 4]" in one["message"] for one in found["findings"])
    assert {one["field"] for one in found["findings"] if one["check"] == "form"} >= {"en.output"}


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ({"topic": ""}, "'topic' is empty"),
        ({"ja": None}, "'ja' is None"),
        ({"ja": "text"}, "'ja' is 'text'"),
        ({"category": "translation"}, "missing"),
        ({"category": "haiku"}, "the category is 'haiku'"),
        ({"read": [1]}, "'read.0' is 1"),
    ],
)
def test_what_is_no_group_yet_is_told_while_it_is_typed(ask: Asked, spoil: dict[str, Any], told: str) -> None:
    record = {**ask("group", id="open_qa-0001")["record"], **spoil}
    found = ask("check", record=record)
    assert any(told in fault for fault in found["faults"]), found["faults"]
    assert ask("relations", record=record) is None
    ask("save", id="open_qa-0001", digest=ask("group", id="open_qa-0001")["digest"], record=record, status=400)


def test_relations_are_found_before_the_group_is_saved(desk: Desk, ask: Asked) -> None:
    assert ask("relations", record=ask("group", id="open_qa-0001")["record"]) in (None, [])
    check_everything(desk)
    twin = ask("group", id="open_qa-0001")["record"]
    record = {**ask("new", category="open_qa"), **{name: twin[name] for name in ("topic", "ja", "en", "zh")}}
    found = ask("relations", record=record)
    assert ("duplicates", "open_qa-0001") in {(one["check"], one["group"]) for one in found}
    assert any(record["id"] in one["message"] for one in found)


# what changes the files


def test_saving_changes_one_line(ask: Asked, records: Path) -> None:
    before = contents(records)
    assert save(ask, "creative-0003", "ja", "output", "春の庭。") == {"id": "creative-0003"}
    after = contents(records)
    assert [name for name in before if before[name] != after[name]] == ["creative.jsonl"]
    assert differing(before["creative.jsonl"], after["creative.jsonl"]) == [3]
    assert list(read_lines(records)["creative-0003"].record) == list(
        json.loads(before["creative.jsonl"].split(b"\n")[2])
    )


def test_saving_over_somebody_elses_change_is_refused_with_both_versions(ask: Asked, records: Path) -> None:
    mine = ask("group", id="open_qa-0004")
    line = read_lines(records)["open_qa-0004"]
    theirs = {**line.record, "topic": "their topic"}
    change_groups(records, [GroupChange(read=line, record=theirs)], note="theirs")
    before = contents(records)
    record = edited(mine, "en", "output", "Mine.")
    refused = ask("save", id="open_qa-0004", digest=mine["digest"], record=record, status=409)
    assert refused["record"] == theirs
    assert "was changed since it was read" in refused["error"]
    assert contents(records) == before
    ask("save", id="open_qa-0004", digest=refused["digest"], record=record)  # mine over it, knowing of theirs
    assert read_lines(records)["open_qa-0004"].record["en"]["output"] == "Mine."


def test_saving_a_group_that_is_gone_is_refused(ask: Asked, records: Path) -> None:
    mine = ask("group", id="open_qa-0004")
    change_groups(records, [GroupChange(read=read_lines(records)["open_qa-0004"])], note="remove")
    refused = ask("save", id="open_qa-0004", digest=mine["digest"], record=mine["record"], status=409)
    assert (refused["record"], refused["digest"]) == (None, None)


def test_undo_takes_back_what_was_saved_signed_and_dropped(ask: Asked, records: Path) -> None:
    before = contents(records)
    save(ask, "open_qa-0004", "ja", "output", "一。")
    found = ask("group", id="open_qa-0005")
    ask("sign", id="open_qa-0005", language="ja", key=found["keys"]["ja"], reader="Sato", kind="person")
    ask("drop", id="open_qa-0006", digest=ask("group", id="open_qa-0006")["digest"])
    assert [ask("undo")["note"] for _ in range(3)] == [
        "open_qa-0006 to the drafts",
        "sign open_qa-0005 ja",
        "edit open_qa-0004",
    ]
    assert contents(records) == before
    assert ask("undo") is None


def test_a_dropped_group_lies_in_the_drafts_and_its_id_is_not_given_again(
    ask: Asked, records: Path, tmp_path: Path
) -> None:
    last = sorted(name for name in read_lines(records) if name.startswith("open_qa"))[-1]
    found = ask("group", id=last)
    ask("drop", id=last, digest=found["digest"])
    assert ask("group", id=last) is None
    (draft,) = (tmp_path / "drafts" / "open_qa.jsonl").read_text("utf-8").splitlines()
    assert json.loads(draft) == found["record"]
    assert ask("new", category="open_qa")["id"] > last


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_new_group_of_each_category_needs_no_more_than_its_texts(ask: Asked, records: Path, category: str) -> None:
    record = ask("new", category=category)
    assert ask("check", record=record)["faults"]
    for language in ("ja", "en"):
        for field in record[language]:
            record[language][field] = (
                f"text {field} {language}" if record[language][field] == "" else record[language][field]
            )
    record["topic"] = "food"
    if "chain" in record:
        record["chain"] = {"id": "new chain", "step": 1}
    assert ask("check", record=record)["faults"] == []
    (name,) = ask("save", id=record["id"], record=record).values()
    assert read_lines(records)[name].path.name == f"{category}.jsonl"
    read_groups(records)


def test_two_new_groups_at_once_do_not_share_an_id(ask: Asked, records: Path) -> None:
    one, other = ask("new", category="open_qa"), ask("new", category="open_qa")
    assert one["id"] == other["id"]
    twin = ask("group", id="open_qa-0001")["record"]
    texts = {name: twin[name] for name in ("topic", "ja", "en")}
    ask("save", id=one["id"], record={**one, **texts})
    refused = ask("save", id=other["id"], record={**other, **texts}, status=409)
    assert refused["record"]["id"] == one["id"]


def test_another_category_moves_the_group_to_its_file_under_a_new_id(ask: Asked, records: Path) -> None:
    found = ask("group", id="closed_qa-0002")
    record = {**found["record"], "category": "classification"}
    assert ask("check", record=record)["faults"] == []
    (name,) = ask("save", id="closed_qa-0002", digest=found["digest"], record=record).values()
    assert name.startswith("classification-")
    lines = read_lines(records)
    assert "closed_qa-0002" not in lines
    assert lines[name].record["ja"] == found["record"]["ja"]
    ask("undo")
    assert read_lines(records)["closed_qa-0002"].raw.decode() == json.dumps(found["record"], ensure_ascii=False)


def test_a_language_is_added_and_taken_away(ask: Asked, records: Path) -> None:
    name = next(name for name, line in read_lines(records).items() if "zh" not in line.record and name < "t")
    found = ask("group", id=name)
    texts = dict.fromkeys(found["record"]["ja"], "中文。")
    ask("save", id=name, digest=found["digest"], record={**found["record"], "zh": texts})
    keys = list(read_lines(records)[name].record)
    assert keys[keys.index("en") + 1] == "zh"
    found = ask("group", id=name)
    del found["record"]["zh"]
    ask("save", id=name, digest=found["digest"], record=found["record"])
    assert "zh" not in read_lines(records)[name].record


# signatures


def test_a_signature_is_below_the_text_that_was_read_and_an_edit_makes_it_stale(ask: Asked) -> None:
    found = ask("group", id="open_qa-0001")
    for language, fault in (("ja", None), ("en", "fact")):
        signature = {"language": language, "key": found["keys"][language], "fault": fault, "words": " wrong lake "}
        ask("sign", id="open_qa-0001", reader=" Sato ", kind="person", **signature)
    row = next(row for row in ask("rows", reader="Sato")["rows"] if row["id"] == "open_qa-0001")
    assert row["signed"] == {"ja": "fine", "en": "fault", "zh": ""}
    assert row["mine"] == ["ja", "en"]
    assert ask("rows", reader="Tanaka")["rows"][0]["mine"] == []
    fault = ask("group", id="open_qa-0001")["record"]["read"][1]
    assert (fault["reader"], fault["kind"], fault["fault"], fault["words"]) == ("Sato", "person", "fact", "wrong lake")

    save(ask, "open_qa-0001", "ja", "output", "別の湖です。")
    assert ask("rows", reader="Sato")["rows"][0]["signed"]["ja"] == "stale"
    assert ask("group", id="open_qa-0001")["stale"] == [True, False]
    assert ask("readings")["counts"]["ja"]["by_people"] == 0
    assert ask("readings")["counts"]["ja"]["stale"] == 1


def test_a_text_that_changed_while_it_was_read_is_not_signed(ask: Asked) -> None:
    found = ask("group", id="open_qa-0001")
    save(ask, "open_qa-0001", "ja", "output", "別の湖です。")
    refused = ask("sign", id="open_qa-0001", language="ja", key=found["keys"]["ja"], reader="Sato", status=409)
    assert refused["record"]["ja"]["output"] == "別の湖です。"
    assert "read" not in ask("group", id="open_qa-0001")["record"]
    ask("sign", id="open_qa-0001", language="en", key=found["keys"]["en"], reader="Sato")  # this one is as it was


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"reader": " "}, "a signature needs a name"),
        ({"kind": "robot"}, "was not understood"),
        ({"fault": "ugly"}, "was not understood"),
        ({"reader": 3}, "was not understood"),
        ({"surprise": 1}, "was not understood"),
    ],
)
def test_a_signature_without_a_reader_or_of_another_kind_is_refused(
    ask: Asked, body: dict[str, Any], told: str
) -> None:
    found = ask("group", id="open_qa-0001")
    asked = {"id": "open_qa-0001", "language": "ja", "key": found["keys"]["ja"], "reader": "Sato", **body}
    assert told in ask("sign", status=400, **asked)["error"]


def test_agreement_is_told_by_pair_of_readers(ask: Asked) -> None:
    for number, fault in enumerate(("fact", None, None, "demand"), 1):
        found = ask("group", id=f"open_qa-000{number}")
        for reader, kind, verdict in (("Sato", "person", fault), ("Claude", "model", "fact" if number == 1 else None)):
            found = ask("group", id=f"open_qa-000{number}")
            ask(
                "sign",
                id=f"open_qa-000{number}",
                language="ja",
                key=found["keys"]["ja"],
                reader=reader,
                kind=kind,
                fault=verdict,
            )
    (pair,) = ask("readings")["agreements"]
    assert pair == {"first": "Claude", "second": "Sato", "texts": 4, "share": 0.75, "kappa": 0.5}


# a blind sample


def test_a_blind_sample_shows_texts_only_and_becomes_signatures_and_a_file(ask: Asked, records: Path) -> None:
    texts = ask("sample", size=10, seed=3)
    assert all(set(text) == {"key", "seed", "size", "language", "text", "verdict", "fault", "words"} for text in texts)
    given = [{"key": text["key"], "language": text["language"], "verdict": "fine"} for text in texts]
    given[4] |= {"verdict": "fault", "fault": "language", "words": "stiff"}
    result = ask("verdicts", seed=3, reader="Sato", kind="person", verdicts=given)
    assert (result["faults"], result["size"], result["edited"]) == (1, 10, 0)
    assert (round(result["low"], 3), round(result["high"], 3)) == (0.003, 0.445)
    (kept,) = read_samples(records)
    assert (kept.reader, kept.seed) == ("Sato", 3)
    assert sum(len(located.group.read) for located in read_groups(records)) == 10
    assert ask("readings")["samples"][0]["size"] == 10
    assert str(records) not in json.dumps(result)
    assert {text["language"] for text in ask("sample", size=10, seed=3, languages=["zh"])} == {"zh"}


@pytest.mark.parametrize("verdicts", [[], [{"key": "x"}], [{"key": "0" * 16, "language": "ja", "verdict": "maybe"}]])
def test_verdicts_that_are_none_are_refused(ask: Asked, records: Path, verdicts: list[Any]) -> None:
    ask("verdicts", seed=3, reader="Sato", verdicts=verdicts, status=400)
    assert not (records / "readings").exists()


def test_a_reader_that_works_with_files_draws_a_sample_and_hands_it_in(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    draw = ("--records", records, "--sample", "6", "--seed", "4", "--to", path)
    assert run_tend(*draw).exit_code == 0
    assert "exists already" in str(run_tend(*draw).exception)
    take = ("--records", records, "--verdicts", path)
    assert str(run_tend(*take, "--reader", "Claude", "--model").exception).count("the verdict is ''") == 6
    lines = [json.loads(line) | {"verdict": "fine"} for line in path.read_text("utf-8").splitlines()]
    lines[0] |= {"verdict": "fault", "fault": "fact", "words": "no such lake"}
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines), "utf-8")
    assert "--reader: nothing given" in str(run_tend(*take).exception)
    told = run_tend(*take, "--reader", "Claude", "--model").stdout
    assert "Claude (model) read 6 texts: 1 with a fault, 16.7% (95% interval 0.4% to 64.1%)" in told
    readings = [reading for located in read_groups(records) for reading in located.group.read]
    assert [(one.reader, one.kind) for one in readings] == [("Claude", "model")] * 6
    wrong = run_tend("--records", records, "--sample", "6", "--language", "fr")
    assert "there is no such language" in str(wrong.exception)


# safety


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Host": "evil.example"}, "the Host header must name this machine"),
        ({"Host": "127.0.0.1:1"}, "the Host header must name this machine"),
        ({"Origin": "https://evil.example"}, "may not use this server"),
        ({"Origin": "null"}, "may not use this server"),
    ],
)
def test_other_hosts_and_pages_are_refused(page: TestClient, headers: dict[str, str], told: str) -> None:
    for answer in (page.get("/", headers=headers), page.post("/api/rows", json={}, headers=headers)):
        assert answer.status_code == 403
        assert told in answer.json()["error"]


def test_without_the_pages_token_nothing_is_told_or_done(page: TestClient, records: Path) -> None:
    before = contents(records)
    for path in ("rows", "group", "save", "undo", "sign", "drop", "sample", "verdicts"):
        for token in ({}, {"X-Desk-Token": "guess"}):
            answer = page.post(f"/api/{path}", json={}, headers=token)
            assert answer.status_code == 403
            assert page.get(f"/api/{path}", headers=token).status_code == 405
    assert contents(records) == before


def test_the_page_allows_its_own_script_and_style_only(page: TestClient) -> None:
    for path in ("/", "/desk.js", "/desk.css"):
        answer = page.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
    html = page.get("/").text
    assert re.findall(r"<script(?![^>]*(?:src=|type=\"application/json\"))", html) == []
    assert re.findall(r"\son\w+=|style=", html) == []
    assert page.get("/desk.py").status_code == page.get("/../desk.py").status_code == 404


def test_what_a_record_says_stays_text(ask: Asked, page: TestClient) -> None:
    save(ask, "open_qa-0001", "en", "instruction", EVIL)
    assert EVIL not in page.get("/").text
    answer = ask("group", id="open_qa-0001")
    assert answer["record"]["en"]["instruction"] == EVIL


def test_no_path_of_the_machine_is_told(desk: Desk, ask: Asked, records: Path, tmp_path: Path) -> None:
    check_everything(desk)
    (records / "open_qa.jsonl").write_bytes((records / "open_qa.jsonl").read_bytes() + b"{broken\n")
    twin = ask("group", id="open_qa-0001")["record"]
    new = {**ask("new", category="open_qa"), **{name: twin[name] for name in ("topic", "ja", "en")}}
    said = [
        ask("rows"),
        ask("group", id="open_qa-0001"),
        ask("check", record={**new, "topic": ""}),
        ask("relations", record=new),
        ask("save", id=new["id"], record={**new, "topic": ""}, status=400),
        ask("changed", release="v9.9.9", status=400),
    ]
    assert said[3]
    assert str(tmp_path) not in json.dumps(said, ensure_ascii=False)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"id": 3}', b'{"record": {"topic": "\\ud800"}}', b"\xff"])
def test_a_request_that_is_none_gets_a_sentence(page: TestClient, body: bytes) -> None:
    token = re.search(r'"token":"([^"]+)"', page.get("/").text)
    assert token is not None
    answer = page.post("/api/check", content=body, headers={"X-Desk-Token": token[1]})
    assert answer.status_code == 400
    assert "was not understood" in answer.json()["error"]


# languages of the page


@pytest.mark.parametrize(
    ("headers", "query", "language"),
    [
        ({"Accept-Language": "ja,en;q=0.8"}, "", "ja"),
        ({"Accept-Language": "en-GB,ja;q=0.8"}, "", "en"),
        ({"Accept-Language": "fr,ja;q=0.8"}, "", "ja"),
        ({"Accept-Language": "fr"}, "", "en"),
        ({"Accept-Language": "ja"}, "?language=en", "en"),
        ({"Accept-Language": "en"}, "?language=xx", "en"),
    ],
)
def test_the_page_speaks_the_readers_language(
    page: TestClient, headers: dict[str, str], query: str, language: str
) -> None:
    assert f'<html lang="{language}">' in page.get(f"/{query}", headers=headers).text


def test_a_chosen_language_is_remembered_and_both_have_every_label(page: TestClient) -> None:
    page.get("/?language=ja")
    assert '<html lang="ja">' in page.get("/", headers={"Accept-Language": "en"}).text
    labels = {}
    for language in ("ja", "en"):
        boot = re.search(r'id="boot">(.*?)</script>', page.get(f"/?language={language}").text)
        assert boot is not None
        labels[language] = json.loads(boot[1])["labels"]
    assert labels["ja"].keys() == labels["en"].keys()
    script = page.get("/desk.js").text
    used = set(re.findall(r"\bt\.(\w+)|say\(\"(\w+)\"", script))
    assert {one or other for one, other in used} <= labels["en"].keys()
    for name in labels["ja"]:
        holes = [len(re.findall(r"\{\d?\}", labels[language][name])) for language in ("ja", "en")]
        assert holes[0] == holes[1], name


def test_the_desk_is_for_records_that_are_there(tmp_path: Path) -> None:
    assert "no such folder" in str(run_tend("--records", tmp_path / "nothing", "--port", "0").exception)


# changed since a release


def test_groups_that_changed_since_a_release_are_found(records: Path, tmp_path: Path) -> None:
    rows = [dict(row) for located in read_groups(records) for row in group_to_rows(located.group)]
    with run_hub(tmp_path / "hub", users={"qeu": default_token("qeu")}) as address:
        api = HfApi(endpoint=address.endpoint, token=address.token)
        api.create_repo("qeu/bonsai", repo_type="dataset")
        for number, split in enumerate(("train", "test")):
            parquet.write_table(pa.Table.from_pylist(rows[number::2]), tmp_path / "rows.parquet")
            name = f"default/{split}-00000-of-00001.parquet"
            api.upload_file(
                path_or_fileobj=tmp_path / "rows.parquet", path_in_repo=name, repo_id="qeu/bonsai", repo_type="dataset"
            )
        api.create_tag("qeu/bonsai", tag="v0.1.0", repo_type="dataset")
    releases = Releases(tmp_path / "hub", "qeu/bonsai")
    assert releases.names() == ["v0.1.0"]
    assert releases.changed("v0.1.0", read_groups(records)) == []

    lines = read_lines(records)
    signed = sign(lines["open_qa-0001"].record, "ja", reader="Sato", kind="person")
    edited = {**lines["open_qa-0002"].record, "topic": "another"}
    new = {**lines["open_qa-0003"].record, "id": "open_qa-0500"}
    less = {key: value for key, value in lines["open_qa-0004"].record.items() if key not in ("zh", "original")}
    change_groups(
        records,
        [
            GroupChange(read=lines["open_qa-0001"], record=signed),
            GroupChange(read=lines["open_qa-0002"], record=edited),
            GroupChange(record=new),
            GroupChange(read=lines["open_qa-0004"], record=less),
        ],
        note="edit",
    )
    changed = ["open_qa-0002", "open_qa-0004", "open_qa-0500"]
    assert releases.changed("v0.1.0", read_groups(records)) == changed
    with pytest.raises(ReleaseError, match="no release of qeu/bonsai can be read"):
        releases.changed("v9.9.9", read_groups(records))


def test_the_first_group_of_an_empty_folder_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    desk = Desk(folder, tmp_path / "drafts")
    record = desk.template("open_qa")
    for fields in (record["ja"], record["en"], record):
        fields.update({name: "text" for name, value in fields.items() if value == ""})
    assert desk.save(record["id"], None, record) == "open_qa-0001"
    assert [located.group.id for located in read_groups(folder)] == ["open_qa-0001"]
