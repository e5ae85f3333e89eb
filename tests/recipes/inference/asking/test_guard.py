"""Loops are found while they are written, in three languages; good prose, lists, cries and verse are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonsai.builder.reader import default_records, read_groups
from bonsai.builder.schema import TextGroup
from bonsai.recipes.inference.asking.guard import loop_at_end, may_repeat, once


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("In Japan. The old capital was Kyoto. The old capital was Kyoto.", "In Japan. The old capital was Kyoto."),
        ("日本の首都は東京です。日本の首都は東京です。", "日本の首都は東京です。"),
        ("東京です。東京です。東京です。", "東京です。"),
        ("首都是北京，首都是北京，首都是北京，", "首都是北京，"),
        ("はい、そうですねねねねねねねねねね", "はい、そうですね"),
        (
            "1. Eat fresh vegetables every day.\n2. Eat fresh vegetables every day.\n",
            "1. Eat fresh vegetables every day.",
        ),
        ("so a tree is a plant and so a tree is a plant and so a tree is a plant and ", "so a tree is a plant and"),
        ("." * 80, "."),
    ],
)
def test_a_loop_is_found_and_cut_back_to_what_is_said_once(text: str, kept: str) -> None:
    loop = loop_at_end(text)
    assert loop is not None
    assert once(text, loop) == kept


@pytest.mark.parametrize(
    "text",
    [
        "ha ha ha ha ha",
        "おにぎりがころころころころと転がる",
        "It was a very, very, very good year.",
        "1/3 is 0.33333333333333333333 and so on",
        "| a | b |\n|-----------|-----------|\n",
        "Row, row, row your boat, gently down the stream.",
        "Yes.\nYes.\nNo.\nYes.\nYes.\n",
        "",
    ],
)
def test_what_is_short_or_a_cry_may_come_again(text: str) -> None:
    assert loop_at_end(text) is None


def test_lines_of_verse_may_come_again_and_loops_may_not() -> None:
    line = "And miles to go before I sleep at night,\n"
    assert may_repeat("Write a poem with a refrain.")
    assert may_repeat("秋の詩を書いてください。")
    assert not may_repeat("What is the capital of Japan?")
    assert loop_at_end(line * 2, refrain=True) is None
    assert loop_at_end(line * 2) is not None
    assert loop_at_end(line * 6, refrain=True) is not None


def test_no_answer_of_the_records_would_have_been_stopped() -> None:
    stopped = []
    for located in read_groups(default_records()):
        group = located.group
        if isinstance(group, TextGroup):
            for text in group.texts().values():
                refrain = may_repeat(text.instruction)
                for said in (text.reasoning, text.output):
                    ends = [at + 1 for at, letter in enumerate(said) if letter in "。，、,.\n！？!?"]
                    stopped += [said[:end] for end in (*ends, len(said)) if loop_at_end(said[:end], refrain=refrain)]
    assert stopped == []


@settings(deadline=None)
@given(st.text(max_size=60), st.text("abcdefghij日本語の ", min_size=1, max_size=30), st.integers(2, 12))
def test_a_cut_text_is_a_beginning_of_the_text_and_cutting_ends(head: str, unit: str, rounds: int) -> None:
    text = head + unit * rounds
    while loop := loop_at_end(text):
        shorter = once(text, loop)
        assert text.startswith(shorter)
        assert len(shorter) < len(text)
        text = shorter
