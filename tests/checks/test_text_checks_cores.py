"""Test the string functions of the single-record checks, each on its own."""

from __future__ import annotations

import doctest
import importlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.language import language_issues
from bonsai.builder.checks.numbers import requested_counts
from bonsai.builder.checks.repetition import repetition_issues
from bonsai.builder.checks.text import count_sentences, not_simplified, simplified_only
from bonsai.builder.checks.unicode import mojibake_issues, unpaired_brackets
from bonsai.builder.schema import Language
from tests.checks.labelled import CASES, TEXT_CHECKS, lines_of, located

ODD_TEXT = st.text(
    alphabet=st.sampled_from("あア亜认縣。、，「」“”\"'.:：1一２①%\n \u200b\ufffdaeT縺Ã©-|()（）？?"),
    min_size=1,
    max_size=60,
)


@pytest.mark.parametrize(
    "module",
    [
        "base",
        "text",
        "numbers",
        "quantities",
        "paraphrase",
        "contradiction",
        "repetition",
        "reasoning",
        "provenance",
        "privacy",
        "unicode",
        "language",
        "form",
        "constraints",
    ],
)
def test_docstring_examples_hold(module: str) -> None:
    result = doctest.testmod(importlib.import_module(f"bonsai.builder.checks.{module}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_finding_has_location_message_and_hint() -> None:
    group = lines_of(CASES / "base_groups.jsonl")[0]
    group["zh"]["output"] = "滋賀縣的琵琶湖。"
    (finding,) = TEXT_CHECKS["language"]([located(group, 7)])
    assert finding.location.endswith("open_qa.jsonl:7")
    assert (finding.group_id, finding.field) == (group["id"], "zh.output")
    assert "'賀縣'" in finding.message
    assert "write the simplified ones" in finding.hint


@pytest.mark.parametrize(
    ("character", "in_japanese", "in_chinese"),
    [("认", False, True), ("県", True, False), ("縣", True, False), ("湖", True, True)],
)
def test_character_sets_tell_japanese_from_chinese(character: str, in_japanese: bool, in_chinese: bool) -> None:
    assert (character not in simplified_only()) is in_japanese
    assert (character not in not_simplified()) is in_chinese


def test_language_issues_grades_whole_texts_and_single_words() -> None:
    (whole,) = language_issues("It is Lake Biwa in Shiga Prefecture.", Language.JA)
    (stray,) = language_issues("琵琶湖です because 面積が日本一だからです。", Language.JA)
    assert (whole.severity, stray.severity) == (Severity.ERROR, Severity.WARNING)


def test_mojibake_issues_shows_the_intended_text() -> None:
    (fault,) = mojibake_issues("琵琶湖は滋賀県にあります。".encode().decode("cp932", errors="ignore"))
    assert "湖" in fault.message


def test_unpaired_brackets_accepts_labels_that_count_on() -> None:
    for text in ("1) A market. 2) Tours. 3) A contest.", "次の順です。1）市場。2）見学。", "Take a) this or b) that."):
        assert [*unpaired_brackets(text)] == []
    for text in ("It costs 5) yen.", "It ends here)", "1) one (two"):
        assert len([*unpaired_brackets(text)]) == 1


@given(
    st.recursive(
        st.just("水"),
        lambda inner: st.tuples(st.sampled_from(["「」", "（）", "“”", "《》"]), inner).map(
            lambda pair: f"{pair[0][0]}{pair[1]}{pair[0][1]}"
        ),
    )
)
def test_unpaired_brackets_accepts_nested_pairs(text: str) -> None:
    assert [*unpaired_brackets(text)] == []
    assert [*unpaired_brackets(text[:-1])] != [] or text == "水"


@pytest.mark.parametrize(
    ("instruction", "language", "asked"),
    [
        ("一枚の券を五人で分けられません。決め方を六つ示してください。", Language.JA, {6}),
        ("You have 15 minutes to wait. Name eight things.", Language.EN, {8}),
        ("请设计五个游戏，让8岁的孩子明白钱的作用。", Language.ZH, {5}),
        ("手順を考えてください。", Language.JA, set()),
    ],
)
def test_requested_counts_ignores_other_numbers(instruction: str, language: Language, asked: set[int]) -> None:
    assert requested_counts(instruction, language) == asked


@pytest.mark.parametrize(
    ("text", "fewest", "most"),
    [
        ("「逃げろ。」と言いました。泥だけが残りました。", 2, 3),
        ("Mr. Mori opens at 7 a.m. and sweeps. Dr. Ito comes.", 2, 2),
        ("Dear Left,\nI wait at 3.5 metres.\nRight", 1, 3),
        ("青蛙说：“快走。”苍鹭闭上眼睛。", 1, 2),
    ],
)
def test_count_sentences_returns_a_range(text: str, fewest: int, most: int) -> None:
    assert count_sentences(text) == (fewest, most)


@given(st.text(alphabet="山川雨風空海石", min_size=7, max_size=20))
def test_repetition_issues_finds_a_doubled_sentence(sentence: str) -> None:
    assert [*repetition_issues(f"{sentence}。{sentence}。")] != []


@pytest.mark.parametrize("check", TEXT_CHECKS)
@settings(deadline=None)
@given(instruction=ODD_TEXT, passage=ODD_TEXT, reasoning=ODD_TEXT, output=ODD_TEXT, which=st.integers(0, 4))
def test_checks_accept_any_text(
    check: str, instruction: str, passage: str, reasoning: str, output: str, which: int
) -> None:
    group = lines_of(CASES / "base_groups.jsonl")[which]
    odd = {
        "instruction": f"字{instruction}",
        "input": f"字{passage}",
        "reasoning": f"字{reasoning}",
        "output": f"字{output}",
    }
    for finding in TEXT_CHECKS[check]([located(group | {"ja": odd, "en": odd, "zh": odd})]):
        assert finding.message
        assert finding.hint
