from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from bonsai.builder.bonsai import FEATURES
from bonsai.builder.build import build_dataset
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.readings import check_readings
from bonsai.builder.editing import GroupChange, change_groups, read_lines
from bonsai.builder.errors import RecordError
from bonsai.builder.records import read_groups
from bonsai.builder.release import find_stale_records
from bonsai.builder.samples import blind_lines, check_verdicts, draw_sample, read_samples, read_verdicts, take_verdicts
from bonsai.builder.schema import Language, TextGroup
from bonsai.builder.signatures import (
    agreements,
    cohen_kappa,
    count_readings,
    digest_text,
    exact_interval,
    reader_columns,
    sign,
    standing,
)
from tests.builder.test_editing import records as records  # a fixture
from tests.builder.test_records import faults, group, written


def parsed(record: dict[str, Any]) -> TextGroup:
    return TextGroup.model_validate_json(json.dumps(record))


def signed(record: dict[str, Any], *signatures: tuple[str, str, str, str | None]) -> dict[str, Any]:
    for language, reader, kind, fault in signatures:
        record = sign(record, language, reader=reader, kind=kind, fault=fault, date="2026-12-02")  # type: ignore[arg-type]
    return record


SATO = ("ja", "Sato", "person", None)
CLAUDE = ("ja", "Claude", "model", "fact")


@pytest.mark.parametrize("field", ["instruction", "input", "reasoning", "output"])
def test_an_edit_of_any_field_makes_the_signature_stale_and_of_another_language_does_not(field: str) -> None:
    record = signed(group(), SATO, ("en", "Sato", "person", None))
    record["ja"] = {**record["ja"], field: "別の文。"}
    assert [reading.language for reading in standing(parsed(record))] == [Language.EN]
    counts = count_readings([parsed(record)])
    assert (counts["ja"].by_people, counts["ja"].stale, counts["en"].by_people, counts["en"].stale) == (0, 1, 1, 0)


def test_topic_and_key_order_and_empty_fields_of_later_are_no_edit() -> None:
    record = signed(group(), SATO)
    record |= {"topic": "rivers", "ja": dict(reversed(record["ja"].items()))}
    assert len(list(standing(parsed(record)))) == 1
    assert digest_text(record["ja"]) == digest_text({**record["ja"], "history": []})
    assert digest_text(record["ja"]) != digest_text({**record["ja"], "history": [{"role": "user", "content": "?"}]})


def test_an_edit_taken_back_makes_the_signature_hold_again() -> None:
    record = signed(group(), SATO)
    edited = {**record, "ja": {**record["ja"], "output": "利根川です。"}}
    assert not list(standing(parsed(edited)))
    assert list(standing(parsed({**edited, "ja": record["ja"]})))


def test_a_later_signature_takes_the_place_of_the_readers_earlier_one() -> None:
    record = signed(group(), ("ja", "Sato", "person", "fact"), ("ja", "Claude", "model", None), SATO)
    assert [(one["reader"], one["verdict"]) for one in record["read"]] == [("Claude", "fine"), ("Sato", "fine")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"verdict": "fault"}, "a reading has a 'fault' if its verdict is fault"),
        ({"fault": "fact"}, "a reading has a 'fault' if its verdict is fault"),
        ({"verdict": "good"}, "'read.0.verdict' is 'good'"),
        ({"kind": "robot"}, "'read.0.kind' is 'robot'"),
        ({"reader": " "}, "'read.0.reader' is empty"),
        ({"date": "yesterday"}, "'read.0.date' is"),
        ({"sha256": "xyz"}, "'read.0.sha256' is"),
        ({"language": "zh"}, "'read' has a reading of zh, which the group does not have"),
    ],
)
def test_what_is_no_signature_is_told(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    record = signed(group(), SATO)
    record["read"] = [record["read"][0] | changes]
    (fault,) = faults(written(tmp_path, record))
    assert told in fault


def test_readers_of_a_row_read_all_its_texts() -> None:
    record = {
        **group(id="translation-0001", category="translation"),
        "ja": {"text": "川。", "reasoning": "直訳でよい。"},
        "en": {"text": "River.", "reasoning": "Literal."},
    }
    record = signed(record, SATO, ("en", "Sato", "person", None), ("ja", "Claude", "model", None))
    from bonsai.builder.rows import group_to_rows
    from bonsai.builder.schema import TranslationGroup

    translation = TranslationGroup.model_validate_json(json.dumps(record))
    for row in group_to_rows(translation):
        assert reader_columns(translation, row) == {"read_by_people": ["Sato"], "read_by_models": []}
    faulty = parsed(signed(group(), CLAUDE, SATO))
    by_language = {row["id"]: reader_columns(faulty, row) for row in group_to_rows(faulty)}
    assert by_language["open_qa-0001-ja"] == {"read_by_people": ["Sato"], "read_by_models": []}
    assert by_language["open_qa-0001-en"] == {"read_by_people": [], "read_by_models": []}


def test_columns_appear_with_the_first_signature_and_the_card_tells_who_read(records: Path, tmp_path: Path) -> None:
    for path in records.glob("*.jsonl"):  # 20 groups a category have all splits
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:20]))
    plain = build_dataset(records, tmp_path / "plain", "me/bonsai", check=False)
    assert columns(plain.path).keys() == FEATURES.keys()
    assert "read_by" not in (plain.path / "README.md").read_text("utf-8")
    assert list(find_stale_records(plain.path, records)) == []

    line = read_lines(records)["open_qa-0001"]
    edited = signed(line.record, ("en", "Sato", "person", None))
    edited["en"] = {**edited["en"], "output": "Lake Biwa, that is."}
    change_groups(records, [GroupChange(read=line, record=signed(edited, SATO, CLAUDE))], note="sign")
    (told,) = find_stale_records(plain.path, records)
    assert "differ from what was built, in open_qa-0001" in told
    built = build_dataset(records, tmp_path / "signed", "me/bonsai", check=False)
    rows = datasets.load_dataset("parquet", data_files=str(built.path / "default" / "*.parquet"), split="train")
    by_id = {row["id"]: (row["read_by_people"], row["read_by_models"]) for row in rows}
    assert by_id.pop("open_qa-0001-ja") == (["Sato"], [])
    assert set(map(str, by_id.values())) == {"([], [])"}
    assert list(find_stale_records(built.path, records)) == []
    card = (built.path / "README.md").read_text("utf-8")
    assert "| ja | 140 | 1 | 1 | 1 | 0 |" in card
    assert "| en | 140 | 0 | 0 | 0 | 1 |" in card
    assert "| Claude and Sato | 1 | 0 % | 0.00 |" in card
    assert "no line bears" not in card
    assert "140件中、人が1件、言語モデルが1件を読みました" in card
    assert "read_by_people" in (built.path / "croissant.json").read_text("utf-8")


def columns(built: Path) -> dict[str, Any]:
    files = str(built / "default" / "*.parquet")
    return dict(datasets.load_dataset("parquet", data_files=files, split="train").features)


def test_a_fault_that_nobody_mended_is_a_warning_and_a_stale_signature_a_note(tmp_path: Path) -> None:
    stale = signed(group(id="open_qa-0002"), SATO)
    stale["ja"] = {**stale["ja"], "output": "利根川です。"}
    located = read_groups(written(tmp_path, signed(group(), CLAUDE, SATO), stale))
    fault, note = check_readings(located)
    assert (fault.severity, fault.group_id, fault.field) == (Severity.WARNING, "open_qa-0001", "ja")
    assert "Claude (model, 2026-12-02) found a fault: fact" in fault.message
    assert (note.severity, note.group_id) == (Severity.NOTE, "open_qa-0002")


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_kappa_is_that_of_the_formula(pairs: list[tuple[bool, bool]]) -> None:
    n = len(pairs)
    observed = sum(one == other for one, other in pairs) / n
    shares = [(sum(p[side] for p in pairs) / n, 1 - sum(p[side] for p in pairs) / n) for side in (0, 1)]
    chance = sum(one * other for one, other in zip(*shares, strict=True))
    kappa = cohen_kappa(pairs)
    if kappa is None:
        assert chance == pytest.approx(1)
    else:
        assert kappa == pytest.approx((observed - chance) / (1 - chance))


def test_agreement_leaves_stale_signatures_out() -> None:
    both = [signed(group(id=f"open_qa-{n:04d}"), SATO, ("ja", "Claude", "model", None)) for n in range(1, 5)]
    both.append(signed(group(id="open_qa-0005"), SATO, CLAUDE))
    both[0]["ja"] = {**both[0]["ja"], "output": "後で直した。"}
    (pair,) = agreements(map(parsed, both))
    assert (pair.first, pair.second, pair.texts, pair.share, pair.kappa) == ("Claude", "Sato", 4, 0.75, 0.0)


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_that_of_scipy(case: tuple[int, int]) -> None:
    found, of = case
    expected = binomtest(found, of).proportion_ci(0.95, "exact")
    assert exact_interval(found, of) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_a_sample_is_the_same_for_a_seed_and_spread_as_the_records_are(records: Path) -> None:
    groups = [located.group for located in read_groups(records)]
    sample = draw_sample(groups, 90, 7)
    assert sample == draw_sample(groups, 90, 7)
    assert sample != draw_sample(groups, 90, 8)
    assert len({text.group.id for text in sample}) == 90
    everything = {(g.category, language): 0 for g in groups for language in g.texts()}
    drawn = dict.fromkeys(everything, 0)
    for one in groups:
        for language in one.texts():
            everything[one.category, language] += 1
    for text in sample:
        drawn[text.group.category, text.language] += 1
    total = sum(everything.values())
    for key, number in everything.items():
        assert abs(drawn[key] - 90 * number / total) < 1, key
    assert {text.language for text in draw_sample(groups, 30, 7, [Language.ZH])} == {Language.ZH}
    assert len(draw_sample(groups, 10**6, 1)) == total


def test_another_group_changes_little_of_a_sample(records: Path) -> None:
    groups = [located.group for located in read_groups(records)]
    before = {(text.group.id, text.language) for text in draw_sample(groups[:-1], 60, 3)}
    after = {(text.group.id, text.language) for text in draw_sample(groups, 60, 3)}
    assert len(before & after) >= 55


def test_a_blind_line_holds_nothing_but_the_text(records: Path) -> None:
    groups = [located.group for located in read_groups(records)]
    for line in blind_lines(draw_sample(groups, 50, 1), 1):
        assert set(line) == {"key", "seed", "size", "language", "text", "verdict", "fault", "words"}
        assert set(line["text"]) <= {"history", "instruction", "input", "reasoning", "output", "text"}
        assert not re.search(r"_qa-\d|classification-|creative-", json.dumps(line))


def filled(records: Path, path: Path, *, size: int = 20, faulty: int = 2) -> list[dict[str, Any]]:
    lines = blind_lines(draw_sample([located.group for located in read_groups(records)], size, 5), 5)
    for number, line in enumerate(lines):
        line |= {"verdict": "fault", "fault": "fact", "words": "wrong"} if number < faulty else {"verdict": "fine"}
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    return lines


def test_a_sample_becomes_signatures_and_a_file_that_the_card_quotes(records: Path, tmp_path: Path) -> None:
    filled(records, tmp_path / "sample.jsonl")
    seed, verdicts = read_verdicts(tmp_path / "sample.jsonl")
    result = take_verdicts(records, verdicts, seed=seed, reader="Claude", kind="model", date="2026-12-02")
    assert result.path == records / "readings" / "2026-12-02-5.json"
    expected = binomtest(2, 20).proportion_ci(0.95, "exact")
    assert (result.facts.low, result.facts.high) == pytest.approx((expected.low, expected.high))
    readings = [reading for located in read_groups(records) for reading in standing(located.group)]
    assert sorted(reading.verdict for reading in readings) == ["fault"] * 2 + ["fine"] * 18
    assert {(reading.reader, reading.kind, reading.date) for reading in readings} == {("Claude", "model", "2026-12-02")}

    # a second reader of the same texts goes into the same file, and the two can be compared
    filled(records, tmp_path / "sample.jsonl", faulty=1)
    _, verdicts = read_verdicts(tmp_path / "sample.jsonl")
    take_verdicts(records, verdicts, seed=seed, reader="Sato", kind="person", date="2026-12-03")
    assert [path.name for path in (records / "readings").iterdir()] == ["2026-12-02-5.json"]
    assert [(one.reader, one.faults, one.size) for one in read_samples(records)] == [("Claude", 2, 20), ("Sato", 1, 20)]
    (pair,) = agreements([located.group for located in read_groups(records)])
    assert (pair.texts, pair.share) == (20, 0.95)


def test_a_text_that_was_edited_meanwhile_counts_in_the_sample_and_is_not_signed(records: Path, tmp_path: Path) -> None:
    lines = filled(records, tmp_path / "sample.jsonl")
    edited = next(
        (line, language)
        for line in read_lines(records).values()
        for language in ("ja", "en", "zh")
        if language in line.record and digest_text(line.record[language]) == lines[0]["key"]
    )
    line, language = edited
    field = "text" if "text" in line.record[language] else "output"
    record = {**line.record, language: {**line.record[language], field: "x"}}
    change_groups(records, [GroupChange(read=line, record=record)], note="edit")
    seed, verdicts = read_verdicts(tmp_path / "sample.jsonl")
    result = take_verdicts(records, verdicts, seed=seed, reader="Claude", kind="model")
    assert (result.edited, result.facts.size, result.facts.faults) == (1, 20, 2)
    assert sum(len(located.group.read) for located in read_groups(records)) == 19


def test_another_sample_of_the_same_seed_and_day_overwrites_nothing(records: Path, tmp_path: Path) -> None:
    for size in (20, 10, 5):
        filled(records, tmp_path / "sample.jsonl", size=size, faulty=0)
        seed, verdicts = read_verdicts(tmp_path / "sample.jsonl")
        take_verdicts(records, verdicts, seed=seed, reader="Claude", kind="model", date="2026-12-02")
    assert sorted(one.size for one in read_samples(records)) == [5, 10, 20]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        ({"verdict": ""}, r"sample.jsonl:3: the verdict is ''; write"),
        ({"verdict": "doubt"}, "the verdict is 'doubt'"),
        ({"verdict": "fault", "fault": "ugly"}, "the fault is 'ugly'; write one of fact,"),
        ({"verdict": "fault", "fault": ""}, "the fault is None"),
        ({"verdict": "fine", "fault": "fact"}, "the verdict is fine, but the fault is 'fact'"),
        ({"key": 3}, "'key' and 'language' are not those of the sample"),
        ({"language": "fr"}, "'key' and 'language' are not those of the sample"),
        ({"words": 3}, "'words' is no text"),
    ],
)
def test_a_file_that_is_not_filled_in_is_refused(records: Path, tmp_path: Path, spoil: Any, told: str) -> None:
    path = tmp_path / "sample.jsonl"
    lines = filled(records, path, faulty=0)
    lines[2] |= spoil
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    with pytest.raises(RecordError, match=told):
        read_verdicts(path)


def test_a_part_of_a_sample_is_refused(records: Path, tmp_path: Path) -> None:
    path = tmp_path / "sample.jsonl"
    filled(records, path)
    path.write_text("".join(path.read_text("utf-8").splitlines(keepends=True)[1:]), "utf-8")
    with pytest.raises(RecordError, match="19 texts of a sample of 20"):
        read_verdicts(path)
    path.write_text("not JSON\n[1]\n", "utf-8")
    with pytest.raises(RecordError, match=r"jsonl:1: not a JSON object.*\n.*jsonl:2: not a JSON object"):
        read_verdicts(path)
    with pytest.raises(RecordError, match="cannot be read"):
        read_verdicts(tmp_path / "nothing.jsonl")


def test_a_file_beside_the_samples_that_is_none_is_told(records: Path) -> None:
    (records / "readings").mkdir()
    (records / "readings" / "notes.json").write_text("[]")
    with pytest.raises(RecordError, match=r"notes.json: this is no sample"):
        read_samples(records)


def test_a_verdict_is_checked_one_by_one() -> None:
    good = {"key": "0" * 16, "language": "ja", "verdict": "fine"}
    verdicts, told = check_verdicts([good, {}, good])
    assert len(verdicts) == 2
    assert [index for index, _ in told] == [1]
