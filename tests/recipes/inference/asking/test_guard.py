"""Loops are found while they are written, in three languages; good prose, lists, cries and verse are left alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonsai.builder.checks.repetition import allows_repetition, detect_loop, trim_to_first
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import TextGroup


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
    loop = detect_loop(text)
    assert loop is not None
    assert trim_to_first(text, loop) == kept


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
    assert detect_loop(text) is None


def test_lines_of_verse_may_come_again_and_loops_may_not() -> None:
    line = "And miles to go before I sleep at night,\n"
    assert allows_repetition("Write a poem with a refrain.")
    assert allows_repetition("秋の詩を書いてください。")
    assert not allows_repetition("What is the capital of Japan?")
    assert detect_loop(line * 2, refrain=True) is None
    assert detect_loop(line * 2) is not None
    assert detect_loop(line * 6, refrain=True) is not None


def test_no_answer_of_the_records_would_have_been_stopped() -> None:
    stopped = []
    for located in read_groups(default_records_dir()):
        group = located.group
        if isinstance(group, TextGroup):
            for text in group.texts().values():
                refrain = allows_repetition(text.instruction)
                for said in (text.reasoning, text.output):
                    ends = [at + 1 for at, letter in enumerate(said) if letter in "。，、,.\n！？!?"]
                    stopped += [said[:end] for end in (*ends, len(said)) if detect_loop(said[:end], refrain=refrain)]
    assert stopped == []


@settings(deadline=None)
@given(st.text(max_size=60), st.text("abcdefghij日本語の ", min_size=1, max_size=30), st.integers(2, 12))
def test_a_cut_text_is_a_beginning_of_the_text_and_cutting_ends(head: str, unit: str, rounds: int) -> None:
    text = head + unit * rounds
    while loop := detect_loop(text):
        shorter = trim_to_first(text, loop)
        assert text.startswith(shorter)
        assert len(shorter) < len(text)
        text = shorter
