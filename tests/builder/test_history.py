"""Earlier turns go from the record into every column, conversation, check and count that looks at text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from bonsai.builder.bonsai import BonsaiBuilder
from bonsai.builder.card_facts import dataset_facts
from bonsai.builder.checks.contradiction import check_contradiction
from bonsai.builder.checks.decontamination import check_decontamination
from bonsai.builder.checks.language import check_language
from bonsai.builder.checks.privacy import check_personal_data
from bonsai.builder.checks.unicode import check_unicode_text
from bonsai.builder.prompt import to_prompt_completion
from bonsai.builder.records import Probe, SourcedGroup, read_groups
from bonsai.builder.rows import Row, assign_split, group_to_rows
from bonsai.recipes.training.data import to_training_row
from bonsai.recipes.training.recipe import load_recipe
from tests.builder.test_records import faults, group, written

TURNS = {
    "ja": [{"instruction": "木を勧めて。", "input": "ベランダ", "output": "五葉松です。"}],
    "en": [{"instruction": "Recommend a tree.", "input": "a balcony", "output": "A white pine."}],
}


def conversation(number: int = 1, **changes: Any) -> dict[str, Any]:
    turns = {**TURNS, **changes.pop("turns", {})}
    record = group(id=f"open_qa-{number:04}", **changes)
    return {**record, **{language: {"history": turns[language], **record[language]} for language in ("ja", "en")}}


def read(folder: Path, *records: dict[str, Any]) -> list[SourcedGroup]:
    return read_groups(written(folder, *records))


def rows(located: SourcedGroup) -> list[Row]:
    return list(group_to_rows(located.group))


def test_a_row_carries_its_turns_as_llama_factory_reads_them_and_no_translation_is_derived(tmp_path: Path) -> None:
    with_turns, without = read(tmp_path, conversation(), group(id="open_qa-0002"))
    assert [row["id"] for row in rows(with_turns)] == ["open_qa-0001-ja", "open_qa-0001-en"]
    assert rows(with_turns)[1]["history"] == [["Recommend a tree.\n\n### Input:\na balcony", "A white pine."]]
    assert [row["history"] for row in rows(without)] == [[], [], []]


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        ({"ja": []}, "'history' differs in length: ja has 0, en has 1"),
        ({"ja": TURNS["ja"] * 3, "en": TURNS["en"] * 3}, "history"),
        ({"en": [{"instruction": "Recommend a tree.", "output": " "}]}, "en.history.0.output"),
        ({"en": [{"instruction": "Tree?", "reasoning": "No.", "output": "Pine."}]}, "en.history.0.reasoning"),
    ],
)
def test_turns_that_do_not_fit_are_refused(tmp_path: Path, turns: dict[str, Any], told: str) -> None:
    assert any(told in fault for fault in faults(written(tmp_path, conversation(turns=turns))))


def test_the_published_configs_and_the_training_rows_agree(tmp_path: Path) -> None:
    (located,) = groups = read(tmp_path, conversation())
    split = assign_split(located.group)
    found: dict[str, Any] = {}
    for config in ("default", "messages"):
        builder = BonsaiBuilder(config_name=config, groups=groups, cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        builder.as_dataset(split=split).to_parquet(tmp_path / f"{config}.parquet")
        found[config] = list(datasets.Dataset.from_parquet(str(tmp_path / f"{config}.parquet")))[1]
    roles = [turn["role"] for turn in found["messages"]["messages"]]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert found["messages"]["messages"][1]["content"] == "### Response:\nA white pine."
    made = to_training_row(load_recipe("seedling"), found["default"])
    assert made["prompt"].startswith(
        "### Instruction:\nRecommend a tree.\n\n### Input:\na balcony\n\n### Response:\nA white"
    )
    assert made["prompt"].endswith("\n\n### Instruction:\nRiver?\n\n### Reasoning:\n")
    plain = to_prompt_completion("River?", "", "By length.", "The Shinano.")
    assert made["completion"] == plain.completion


def test_the_checks_look_at_earlier_turns(tmp_path: Path) -> None:
    turns = [{"instruction": "Who keeps it?", "output": "Write to jane.roe@corp-mail.jp."}]
    odd = conversation(
        turns={"ja": [{"instruction": "誰の木？", "output": "It belongs to the garden and not to us."}], "en": turns}
    )
    garbled = conversation(2, turns={"en": [{"instruction": "Which tree?", "output": "A pine\ufffd."}]})
    groups = read(tmp_path, odd, garbled)
    assert "ja.history[0].output" in [finding.field for finding in check_language(groups)]
    assert "en.history[0].output" in [finding.field for finding in check_personal_data(groups)]
    assert "en.history[0].output" in [finding.field for finding in check_unicode_text(groups)]


def test_a_probe_given_away_in_an_earlier_turn_is_found(tmp_path: Path) -> None:
    probe = Probe(
        id="probe-1", kind="highest_mountain", language="en", answer_language="en", input="", post="", note="",
        instruction="What is the highest mountain in Japan?", reference="Mount Fuji.", accepted=("Mount Fuji",),
    )  # fmt: skip
    turns = [{"instruction": probe.instruction, "output": "Mount Fuji."}]
    records = [conversation(number, turns={"en": turns}) for number in range(1, 8)]
    groups = [one for one in read(tmp_path, *records) if assign_split(one.group) == "train"]
    assert groups
    assert {finding.group_id for finding in check_decontamination(groups, [probe])} == {one.group.id for one in groups}


def test_one_question_after_different_turns_is_no_contradiction(tmp_path: Path) -> None:
    other = {
        "ja": [{"instruction": "湖は？", "output": "琵琶湖です。"}],
        "en": [{"instruction": "Lake?", "output": "Biwa."}],
    }
    first = conversation(1)
    second = conversation(2, turns=other)
    second["en"] |= {"output": "The Tone."}
    second["ja"] |= {"output": "利根川です。"}
    assert not check_contradiction(read(tmp_path, first, second))
    same = conversation(3)
    same["en"] |= {"output": "The Tone."}
    same["ja"] |= {"output": "利根川です。"}
    (tmp_path / "again").mkdir()
    assert check_contradiction(read(tmp_path / "again", first, same))


def test_the_cards_token_counts_include_the_turns(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    builder = BonsaiBuilder(groups=read(tmp_path, conversation()), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    infos = {"default": builder.info}
    with_turns = dataset_facts(read(tmp_path, conversation()), infos, "qeu/bonsai")
    plain = dataset_facts(read(tmp_path / "plain", group()), infos, "qeu/bonsai")
    english = [next(part.longest for part in facts.lengths if part.language == "en") for facts in (with_turns, plain)]
    assert english[0] > english[1] + 10
    assert with_turns.groups_with["earlier turns"] == 1
    assert plain.groups_with["earlier turns"] == 0
