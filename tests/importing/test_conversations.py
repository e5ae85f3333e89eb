"""Conversations as chat and annotation tools export them: what is a record, what waits, and that nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonsai.builder.importing.conversations import parse_history, parse_list, read_conversation
from tests.importing.files import AGAR_EN, AGAR_JA, brought_in, pair, table, write_jsonl

Q, A = AGAR_JA["instruction"], AGAR_JA["output"]


def turns(*spoken: tuple[str, Any], role: str = "role", content: str = "content") -> list[dict[str, Any]]:
    return [{role: who, content: text} for who, text in spoken]


@pytest.mark.parametrize(
    "value",
    [
        turns(("user", Q), ("assistant", A)),
        turns(("human", Q), ("gpt", A), role="from", content="value"),
        turns(("User", Q), ("model", A)),
        turns(("prompter", Q), ("assistant", A), content="text"),
        turns(("ユーザー", Q), ("アシスタント", A)),
        turns(("user", [{"type": "text", "text": Q}]), ("assistant", [{"type": "text", "text": A}])),
        turns(("user", f"\r\n{Q}\r\n"), ("assistant", A)),
        json.dumps(turns(("user", Q), ("assistant", A))),
        str(turns(("user", Q), ("assistant", A))),
        "\n ".join(
            ["[" + str(turns(("user", Q))[0]), str(turns(("assistant", A))[0]) + "]"]
        ),  # numpy, in a CSV of pandas
    ],
    ids=["openai", "sharegpt", "model", "oasst", "japanese", "parts", "line ends", "json", "python", "numpy"],
)
def test_one_question_and_its_answer_is_a_record_whoever_wrote_it_down(value: object) -> None:
    talk = read_conversation(value)
    assert (talk.instruction, talk.output, talk.doubts) == (Q, A, ())


@pytest.mark.parametrize(
    ("answer", "reasoning", "output"),
    [
        ({"content": A, "reasoning_content": "煮る。"}, "煮る。", A),
        ({"content": f"<think>\n煮る。\n</think>\n\n{A}"}, "煮る。", A),
        ({"content": f"<think></think>{A}"}, "", A),
        ({"content": f"<think>煮る。</think><answer>{A}</answer>"}, "煮る。", A),
        ({"content": f"### Reasoning:\n煮る。\n\n### Response:\n{A}"}, "煮る。", A),
        ({"content": f"### Response:\n{A}"}, "", A),
    ],
)
def test_reasoning_is_told_from_the_answer(answer: dict[str, str], reasoning: str, output: str) -> None:
    talk = read_conversation([{"role": "user", "content": Q}, {"role": "assistant", **answer}])
    assert (talk.reasoning, talk.output, talk.doubts) == (reasoning, output, ())


def test_think_in_a_column_is_reasoning_too_and_an_open_one_waits(tmp_path: Path) -> None:
    rows = pair("a", AGAR_JA | {"reasoning": None, "output": f"<think>煮る。</think>{A}"})
    rows += pair("b", AGAR_JA | {"reasoning": None, "output": f"<think>煮る。{A}"})
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert result.groups[0]["ja"]["reasoning"] == "煮る。"
    assert "has <think> without its end" in result.drafts[0].reason


@pytest.mark.parametrize(
    ("value", "doubt"),
    [
        (turns(("system", "短く。"), ("user", Q), ("assistant", A)), "has a system prompt"),
        (turns(("user", Q), ("system", "三つ。"), ("assistant", A)), "has a system prompt"),
        (turns(("developer", "短く。"), ("user", Q), ("assistant", A)), "has a system prompt"),
        (turns(("user", Q), ("assistant", A), ("user", "では？"), ("assistant", "40度。")), "has 4 turns"),
        (turns(("user", Q), ("function_call", "{}"), ("observation", "21"), ("gpt", A)), "calls a tool"),
        (
            [{"role": "user", "content": Q}, {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
            "calls a tool",
        ),
        (turns(("user", Q), ("assistant", None)), "has a turn of assistant without a text"),
        (turns(("user", Q), ("narrator", A)), "has a turn of 'narrator'"),
        (
            turns(("user", [{"type": "image_url"}, {"type": "text", "text": Q}]), ("assistant", A)),
            "with a picture or a sound",
        ),
        (turns(("user", Q)), "has 1 turns (user)"),
        ("hello", "its conversation is no list of turns"),
        ("[{'role': 'user'", "its conversation is no list of turns"),
        ([Q, A], "its conversation is no list of turns"),
    ],
)
def test_what_is_more_than_that_waits_as_a_draft_that_keeps_every_text(
    tmp_path: Path, value: object, doubt: str
) -> None:
    fine = {"group_id": "b", "messages": turns(("user", Q), ("assistant", A))}
    path = write_jsonl(tmp_path / "rows.jsonl", [{"group_id": "a", "messages": value}, fine])
    result = brought_in(path)
    assert len(result.drafts) == 2
    assert doubt in result.drafts[0].reason
    assert "no row in en" in result.drafts[1].reason
    draft = json.loads(result.written[0].read_text(encoding="utf-8").splitlines()[0])
    kept = json.dumps(draft["rows"], ensure_ascii=False)
    said = (
        [turn["content"] for turn in value if isinstance(turn, dict)] if isinstance(value, list) else [str(value)[:4]]
    )
    assert all(text in kept for text in said if isinstance(text, str))


def test_earlier_turns_are_kept_in_the_form_that_the_records_will_have() -> None:
    talk = read_conversation(turns(("user", "一？"), ("assistant", "二。"), ("user", "三？"), ("assistant", "四。")))
    assert (talk.instruction, talk.output) == ("三？", "四。")
    assert talk.context == {"history": [{"instruction": "一？", "output": "二。"}]}


def test_system_history_tools_and_pictures_in_columns_of_their_own_wait(tmp_path: Path) -> None:
    rows = [
        *pair("a", AGAR_JA | {"history": [["寒天とは。", "食品です。"]]}),
        *pair("b", AGAR_JA | {"system": "短く。"}),
        *pair("c", AGAR_JA | {"tools": '[{"name": "temp"}]'}),
        *pair("d", AGAR_JA | {"images": ["a.png"]}),
        *pair("e", AGAR_JA | {"system": "", "history": [], "tools": "[]", "images": None}),
    ]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert len(result.groups) == 1
    words = ("earlier turns in 'history'", "a system prompt", "has tools", "has pictures")
    assert all(word in draft.reason for word, draft in zip(words, result.drafts, strict=True))
    drafts = [json.loads(line) for line in result.written[-1].read_text(encoding="utf-8").splitlines()]
    assert drafts[0]["rows"][0]["history"] == [{"instruction": "寒天とは。", "output": "食品です。"}]
    assert drafts[1]["rows"][0]["system"] == "短く。"
    # taken up as it is, the earlier turn is meant, and then it is missing in the other language
    again = brought_in(result.written[-1], source=None, license=None, to=tmp_path / "again", records=tmp_path / "no")
    assert "'history' differs in length: ja has 1, en has 0" in again.drafts[0].reason
    assert "a system prompt" in again.drafts[1].reason


@pytest.mark.parametrize("earlier", [1, 2, 3])
def test_a_draft_of_several_turns_becomes_a_group_if_a_record_can_hold_them(tmp_path: Path, earlier: int) -> None:
    before = [turn for n in range(earlier) for turn in (("user", f"第{n}問。"), ("assistant", f"第{n}答。"))]
    english = [turn for n in range(earlier) for turn in (("user", f"Question {n}."), ("assistant", f"Answer {n}."))]
    rows = [
        {"group_id": "a", "messages": turns(*before, ("user", Q), ("assistant", A))},
        {
            "group_id": "a",
            "messages": turns(*english, ("user", AGAR_EN["instruction"]), ("assistant", AGAR_EN["output"])),
        },
    ]
    first = brought_in(write_jsonl(tmp_path / "rows.jsonl", [row | {"category": "brainstorming"} for row in rows]))
    assert not first.groups
    assert f"has {2 * earlier + 2} turns" in first.drafts[0].reason
    again = brought_in(first.written[-1], source=None, license=None, to=tmp_path / "again", records=tmp_path / "no")
    assert [len(group["ja"]["history"]) for group in again.groups] == ([earlier] if earlier < 3 else [])
    if again.groups:
        assert again.groups[0]["en"]["history"][-1] == {
            "instruction": f"Question {earlier - 1}.",
            "output": f"Answer {earlier - 1}.",
        }


def test_earlier_turns_printed_by_numpy_are_read() -> None:
    nested = np.empty(2, dtype=object)
    nested[:] = [np.array(["問い、'引用'。", "答え。\n二行目"], dtype=object), np.array(["Why?", "So."], dtype=object)]
    assert parse_history(str(nested)) == (
        {"instruction": "問い、'引用'。", "output": "答え。\n二行目"},
        {"instruction": "Why?", "output": "So."},
    )


def test_trl_and_argilla_and_axolotl_shapes_are_read(tmp_path: Path) -> None:
    halves = {"prompt": turns(("user", Q)), "completion": turns(("assistant", A))}
    rows = [
        {"group_id": "a", **halves},
        {"group_id": "a", "prompt": AGAR_EN["instruction"], "completion": AGAR_EN["output"]},
        {"group_id": "b", "fields": {"prompt": Q, "completion": A}, "suggestions": {}},
        {"group_id": "b", "fields": {"prompt": AGAR_EN["instruction"], "completion": AGAR_EN["output"]}},
    ]
    rows = [row | {"category": "brainstorming"} for row in rows]
    result = brought_in(write_jsonl(tmp_path / "rows.jsonl", rows), dry_run=True)
    assert [group["ja"]["instruction"] for group in result.groups] == [Q]
    assert "[duplicates]" in result.drafts[0].reason  # the second group says the same


def test_a_conversation_in_a_cell_of_a_csv_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    rows = [{"group_id": "a", "messages": str(turns(("user", Q), ("assistant", A)))}]
    rows.append(
        {"group_id": "a", "messages": str(turns(("user", "It’s agar, isn't it?"), ("assistant", 'Yes, "agar".')))}
    )
    path.write_text(table(rows), encoding="utf-8", newline="")
    result = brought_in(path, dry_run=True, category="brainstorming")
    assert result.groups[0]["en"] == {
        "instruction": "It’s agar, isn't it?",
        "input": "",
        "reasoning": "",
        "output": 'Yes, "agar".',
    }


@pytest.mark.parametrize(
    ("cell", "listed"),
    [
        ("[]", []),
        ("['a' 'b']", ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        ("[{'a': nan} {'a': None}]", [{"a": None}, {"a": None}]),
        ("[a, b]", None),
        ("a, b", None),
    ],
)
def test_lists_in_cells_are_read_as_json_python_and_numpy_write_them(cell: str, listed: list[Any] | None) -> None:
    assert parse_list(cell) == listed
