"""Prompts as turns: our template renders them back, other models are told in words."""

from __future__ import annotations

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonsai.builder.prompt import CHAT_TEMPLATE
from bonsai.recipes.inference.endpoint_engine import (
    messages_for_generic_model,
    messages_for_own_template,
    strip_leading_marker,
)

REASON = "### Instruction:\nWhy does dough rise?\n\n### Reasoning:\n"
ANSWER = REASON + "Yeast makes gas.\n\n### Response:\n"
TEMPLATE = jinja2.Template(CHAT_TEMPLATE)


def rendered(prompt: str) -> str:
    """As llama.cpp renders: the assistant's turn is put behind the generation prompt."""
    messages = messages_for_own_template(prompt, adds_marker=True)
    said = messages.pop()["content"] if messages[-1]["role"] == "assistant" else ""
    return TEMPLATE.render(messages=messages, eos_token="<|end|>", add_generation_prompt=True) + said


texts = st.text(min_size=1).filter(lambda text: "### " not in text)


@given(system=st.just("") | texts, question=texts, reasoning=st.just("") | texts)
def test_our_template_renders_the_turns_back_into_the_prompt(system: str, question: str, reasoning: str) -> None:
    before = f"{system}\n\n" if system else ""
    prompt = f"{before}### Instruction:\n{question}\n\n### Reasoning:\n"
    if reasoning:
        prompt += f"{reasoning}\n\n### Response:\n"
    assert rendered(prompt) == prompt


def test_an_input_and_a_conversation_before_it_stay_in_the_users_turn() -> None:
    prompt = "### Instruction:\nSum up.\n\n### Input:\nA long text.\n\n### Reasoning:\n"
    assert messages_for_own_template(prompt, adds_marker=False) == [
        {"role": "user", "content": "Sum up.\n\n### Input:\nA long text."}
    ]
    twice = ANSWER + "It rises.\n\n" + REASON
    assert rendered(twice) == twice


def test_any_other_model_is_told_in_words_which_parts_are_wanted() -> None:
    system, user = messages_for_generic_model("あなたは良心的な科学者です。\n\n" + REASON)
    assert system["content"].startswith("あなたは良心的な科学者です。\n\nAnswer in two parts")
    assert "### Reasoning:" in system["content"]
    assert "### Response:" in system["content"]
    assert user == {"role": "user", "content": "Why does dough rise?"}
    system, user = messages_for_generic_model(ANSWER)
    assert "write the answer alone" in system["content"]
    assert user["content"] == "Why does dough rise?\n\n### Reasoning:\nYeast makes gas."


def test_a_prompt_for_the_response_alone_asks_for_nothing_else() -> None:
    prompt = "### Instruction:\nWhy does dough rise?\n\n### Response:\n"
    assert messages_for_generic_model(prompt) == [{"role": "user", "content": "Why does dough rise?"}]
    assert messages_for_own_template(prompt, adds_marker=False)[1:] == [
        {"role": "assistant", "content": "### Response:\n"}
    ]


def test_a_prompt_without_markers_is_the_users_turn_as_it_is() -> None:
    hello = [{"role": "user", "content": "Hello"}]
    assert messages_for_generic_model("Hello") == messages_for_own_template("Hello", adds_marker=False) == hello


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("### Reasoning:\nGas.\n\n### Response:\nIt rises.", "Gas.\n\n### Response:\nIt rises."),
        ("\n### Reasoning: Gas.", "Gas."),
        ("### Reas", ""),
        ("Gas.", "Gas."),
        ("", ""),
    ],
)
def test_a_marker_said_again_is_left_out_while_it_grows_and_after(text: str, kept: str) -> None:
    assert strip_leading_marker(REASON, text) == kept
    assert strip_leading_marker("Hello", text) == text
