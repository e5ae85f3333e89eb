"""`bonsai qtq` as a person sees it: chains that grow, a まとめ at the end, and nothing lost by Ctrl-C."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bonsai.builder.errors import AskingError
from bonsai.builder.schema import Language
from bonsai.cli.qtq import qtq, run_and_show
from bonsai.recipes.inference.conversation import Question, prepared
from bonsai.recipes.inference.generation import Engine, GenerationError, GenerationSettings
from bonsai.recipes.inference.qtq import QtQSettings
from tests.recipes.inference.chains.scripted import Scripted, circular, deeper
from tests.recipes.tiny import write_tiny_llama

QUESTIONS = [
    Question(instruction="Why does bad news reach the managers of a company so late?"),
    Question(instruction="Who should tell the managers that a project has failed?"),
]


def led(
    engine: Engine, folder: Path, questions: list[Question], *, terminal: bool = False, in_own_words: bool = False
) -> str:
    written = io.StringIO()
    console = Console(file=written, width=160, force_terminal=terminal, highlight=False)
    run_and_show(
        engine, questions, depth=3, settings=QtQSettings(), folder=folder, console=console, in_own_words=in_own_words
    )
    return written.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_chains_grow_before_the_eyes_and_the_summary_lies_where_it_is_said(terminal: bool, tmp_path: Path) -> None:
    shown = led(Scripted(deeper), tmp_path, QUESTIONS, terminal=terminal)
    for question in QUESTIONS:
        assert question.instruction in shown
    assert str(tmp_path / "summary.html") in shown.replace("\n", "")
    assert (tmp_path / "summary.html").is_file()
    assert len([*tmp_path.glob("chain-*.md")]) == len([*(tmp_path / "chains").glob("chain-*.json")]) == 2


def test_a_log_tells_each_step_and_why_a_chain_ended(tmp_path: Path) -> None:
    shown = led(Scripted(deeper), tmp_path / "deep", QUESTIONS)
    assert all(f"{number}/2 step {step}/3: " in shown for number in (1, 2) for step in (1, 2, 3))
    shown = led(Scripted(circular), tmp_path / "round", QUESTIONS[:1])
    assert "1/1 ended: all 12 candidates for the next question were refused: 12 repeated an earlier question" in shown


def test_after_each_step_an_interim_report_is_told_and_the_summary_lies_on_disk(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def watching(prompt: str, decoder: GenerationSettings) -> str:
        """Looks into the folder, as a reader would, while the model speaks."""
        kept = [json.loads(path.read_text(encoding="utf-8")) for path in (tmp_path / "chains").glob("*.json")]
        page = tmp_path / "summary.html"
        steps = page.read_text(encoding="utf-8").count('<section class="step"') if page.is_file() else 0
        seen.append((sum(len(chain["steps"]) for chain in kept), steps))
        return deeper(prompt, decoder)

    shown = led(Scripted(watching), tmp_path, QUESTIONS[:1])
    assert {kept for kept, _ in seen} == {0, 1, 2}
    assert all(kept == told for kept, told in seen)
    (first, *_, last) = (shown.index(f"## Step {number}: ") for number in (1, 2, 3))
    assert first < shown.index("1/1 step 2/3") < last
    assert "**Why it went deeper**" in shown


def test_the_model_sums_up_in_its_own_words_where_that_is_asked_for(tmp_path: Path) -> None:
    def script(prompt: str, decoder: GenerationSettings) -> str:
        if "Sum up in three to five sentences" in prompt:
            return "Fear of blame slows bad news."
        return deeper(prompt, decoder)

    shown = led(Scripted(script), tmp_path / "told", QUESTIONS[:1], in_own_words=True)
    assert "Fear of blame slows bad news." in shown
    assert "Fear of blame slows bad news." in (tmp_path / "told" / "summary.html").read_text(encoding="utf-8")
    assert "Fear of blame slows bad news." not in led(Scripted(script), tmp_path / "untold", QUESTIONS[:1])


def test_after_ctrl_c_the_summary_is_there_and_the_same_command_goes_on(tmp_path: Path) -> None:
    written = io.StringIO()
    console = Console(file=written, width=160)
    with pytest.raises(KeyboardInterrupt):
        run_and_show(
            Scripted(deeper, stop_after=12),
            QUESTIONS,
            depth=3,
            settings=QtQSettings(),
            folder=tmp_path,
            console=console,
        )
    assert "stopped; 4 steps are kept, the same command goes on" in written.getvalue()
    assert (tmp_path / "summary.html").is_file()
    engine = Scripted(deeper)
    shown = led(engine, tmp_path, QUESTIONS)
    assert "4 steps are kept from an earlier run" in shown
    assert sum(count for count, _ in engine.asked) == 8 + 2, "candidates after step 2, answers of step 3"


def test_a_model_that_says_nothing_sensible_ends_its_chain_with_a_summary_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qtq(
        "Why is the sky blue?",
        model=str(write_tiny_llama(tmp_path / "tiny")),
        depth=2,
        max_new_tokens=8,
        out=tmp_path,
    )
    shown = capsys.readouterr().out
    assert "1/1 step 1/2: Why is the sky blue?" in shown
    assert "1/1 ended: all 12 candidates for the next question were refused" in shown
    (page,) = (tmp_path / "qtq").glob("*.html")
    assert "Why is the sky blue?" in page.read_text(encoding="utf-8")


def test_nine_questions_are_prepared_in_each_language() -> None:
    for language in Language:
        questions = prepared(language, "A persona.")
        assert len({question.instruction for question in questions}) == 9
        assert {(question.language, question.system) for question in questions} == {(language, "A persona.")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"question": "  "}, "is empty"),
        ({"question": "x" * 100_000}, "100,000 characters"),
        ({"question": "Why?", "depth": 0}, "at least one step"),
        ({"question": "Why?", "decoder": "warm"}, "no decoder is called 'warm'; there are greedy, post"),
        ({"question": "Why?", "questions": Path("x.txt")}, "not both"),
    ],
)
def test_what_cannot_be_asked_is_told_before_a_model_is_opened(
    arguments: dict[str, object], told: str, tmp_path: Path
) -> None:
    with pytest.raises((AskingError, GenerationError), match=told):
        qtq(**{"model": "none", "out": tmp_path, **arguments})  # type: ignore[arg-type]


def test_a_binary_file_of_questions_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "questions.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(AskingError, match=r"questions\.bin: byte 0 is not UTF-8"):
        qtq(None, model="none", questions=tmp_path / "questions.bin", out=tmp_path)


def test_a_chain_that_was_led_in_another_dtype_is_begun_anew(tmp_path: Path) -> None:
    for dtype, kept in ((None, 1), ("bfloat16", 2), ("bfloat16", 2)):
        run_and_show(
            Scripted(deeper),
            QUESTIONS[:1],
            depth=2,
            settings=QtQSettings(),
            folder=tmp_path,
            console=Console(file=io.StringIO()),
            dtype=dtype,
        )
        assert len([*(tmp_path / "chains").glob("chain-*.json")]) == kept
