"""`bonsai ask` as it is read: word by word, several answers, JSON, and what remains after Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from bonsai.builder.errors import AskingError
from bonsai.builder.prompt import RESPONSE_MARKER
from bonsai.builder.schema import Language
from bonsai.cli.ask import answer_all, ask
from bonsai.recipes.inference.conversation import Question, load_questions
from bonsai.recipes.inference.generation import GREEDY, GenerationError, GenerationSettings
from tests.recipes.inference.asking.scripted import Scripted
from tests.recipes.inference.models.openai_server import OURS, OpenAIServer, serving

WHY = Question(instruction="Why is the sky blue?")
REASON = "Air scatters short waves of light more than long ones."
BLUE = "Because blue light [sic] reaches us from all sides."


def printed(engine: Scripted, questions: list[Question], *, as_json: bool = False, terminal: bool = False) -> str:
    console = Console(file=io.StringIO(), width=60, force_terminal=terminal, highlight=False)
    answer_all(engine, questions, decoder=GREEDY, passes="auto", as_json=as_json, console=console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plain(_prompt: str, _decoder: GenerationSettings) -> str:
    return f"{REASON}\n\n{RESPONSE_MARKER}{BLUE}"


def test_a_question_is_answered_reasoning_first_and_each_part_once() -> None:
    said = printed(Scripted(plain), [WHY])
    lines = said.splitlines()
    assert lines[:2] == [REASON, BLUE]
    assert lines[2].startswith("scripted, ")
    assert len(lines) == 3


def test_on_a_terminal_the_reasoning_is_dim_and_the_answer_bold() -> None:
    said = printed(Scripted(plain), [WHY], terminal=True)
    assert said.startswith("\x1b[2mAir")
    assert "\x1b[1mB" in said


def test_what_was_said_anew_is_printed_anew_and_the_reason_is_told() -> None:
    loop = "It is blue because it looks blue to all of us. " * 9

    def script(prompt: str, decoder: GenerationSettings) -> str:
        return BLUE if decoder != GREEDY else f"{REASON}\n\n{RESPONSE_MARKER}{loop}"

    lines = printed(Scripted(script), [WHY]).splitlines()
    assert lines[0] == REASON
    assert lines[2] == BLUE
    assert lines[3].startswith("(asked again 再質問: the answer ran in a loop")

    def aloud(prompt: str, _: GenerationSettings) -> str:
        return BLUE if prompt.endswith(RESPONSE_MARKER) else f"{REASON} " * 9

    cut = printed(Scripted(aloud), [WHY]).splitlines()
    assert cut[0].startswith(REASON)
    assert cut[1] == BLUE
    assert cut[2].startswith("(two passes 二段階: the Reasoning ran in a loop"), "no part is told twice"
    twice = printed(Scripted(lambda prompt, _: BLUE if prompt.endswith(RESPONSE_MARKER) else REASON), [WHY])
    assert "(two passes 二段階: one pass gave no Reasoning: it is missing. 一段ではReasoningが" in twice
    assert twice.index(REASON) < twice.index(BLUE)


def test_several_answers_stand_below_their_questions() -> None:
    said = printed(Scripted(plain), [WHY, Question(instruction="And at dusk?")])
    assert said.index("1/2 Why is the sky blue?") < said.index("2/2 And at dusk?")
    assert said.count(REASON) == said.count(BLUE) == 2


def test_json_is_a_line_an_answer() -> None:
    question = Question(instruction="空はなぜ青いのですか。")
    lines = printed(Scripted(plain), [question, WHY], as_json=True).splitlines()
    told = [json.loads(line) for line in lines]
    assert sorted(one["number"] for one in told) == [1, 2]
    japanese = next(one for one in told if one["number"] == 1)
    assert japanese["question"]["instruction"] == question.instruction
    assert japanese["answer"]["answer"] == BLUE
    assert japanese["answer"]["language"] == "ja"
    assert any("空はなぜ" in line for line in lines), "Japanese is not escaped"


def test_after_an_interruption_what_is_done_stands(capsys: pytest.CaptureFixture[str]) -> None:
    def script(prompt: str, decoder: GenerationSettings) -> str:
        if "dusk" in prompt:
            raise KeyboardInterrupt
        return plain(prompt, decoder)

    console = Console(file=io.StringIO(), width=60)
    with pytest.raises(KeyboardInterrupt):
        answer_all(
            Scripted(script),
            [WHY, Question(instruction="And at dusk?")],
            decoder=GREEDY,
            passes="auto",
            as_json=False,
            console=console,
        )
    assert isinstance(console.file, io.StringIO)
    assert BLUE in console.file.getvalue()
    assert "1 of 2 questions are answered" in capsys.readouterr().err


def test_a_file_of_questions_may_be_plain_or_json_lines() -> None:
    text = 'Why?\n\n{"instruction": "何が書いてありますか。", "input": "盆栽", "language": "en"}\n'
    first, second = load_questions(text, "list.txt", language=Language.JA, system="You are a gardener.")
    assert first == Question(instruction="Why?", language=Language.JA, system="You are a gardener.")
    assert second == Question(
        instruction="何が書いてありますか。", input="盆栽", language=Language.EN, system="You are a gardener."
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n\n", "list.txt has no question; write one a line"),
        ('Why?\n{"instruction": ', r"list.txt:2: starts like JSON but is not \(.*, column \d+\)"),
        ('{"question": "Why?"}', "list.txt:1: 'instruction': Field required"),
        ('{"instruction": "Why?", "language": "fr"}', "list.txt:1: 'language': Input should be 'ja', 'en' or 'zh'"),
    ],
)
def test_a_file_that_cannot_be_asked_is_told_by_its_line(text: str, told: str) -> None:
    with pytest.raises((AskingError, GenerationError), match=told):
        load_questions(text, "list.txt")


def test_the_command_refuses_what_it_cannot_ask_before_a_model_is_loaded(tmp_path: Path) -> None:
    binary = tmp_path / "picture.png"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\xff")
    for settings, told in (
        ({"question": None}, "no question to ask: give either one question or a file"),
        ({"question": "Why?", "questions": "x"}, "give either one question or a file"),
        ({"question": " "}, "the question is empty"),
        ({"question": "What is this?", "input_file": str(binary)}, r"picture.png: byte 0 is not UTF-8"),
        ({"question": None, "questions": str(binary)}, r"picture.png: byte 0 is not UTF-8"),
        ({"question": "Why?", "decoder": "wild"}, "no decoder is called 'wild'; there are greedy, post"),
    ):
        with pytest.raises((AskingError, GenerationError), match=told):
            ask(**{"model": "nowhere", "out": tmp_path, **settings})  # type: ignore[arg-type]


def test_a_model_behind_an_address_needs_no_torch_and_no_transformers_here(tmp_path: Path) -> None:
    without = "import sys\nsys.modules.update(torch=None, transformers=None)\nfrom bonsai.cli.main import main\nmain()"
    with serving(OpenAIServer(says=lambda _: plain("", GREEDY), template=OURS)) as server:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                without,
                "ask",
                "Why is the sky blue?",
                "--base-url",
                server.base_url,
                "-m",
                "small",
            ],
            cwd=tmp_path,
            env={**os.environ, "HF_HOME": str(tmp_path / "hf-home")},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == [REASON, BLUE]
