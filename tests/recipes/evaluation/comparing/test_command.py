"""`bonsai compare` as its command calls it, and the voting as a person types."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bonsai.builder.errors import EvaluationError
from bonsai.cli.compare import compare, vote
from bonsai.recipes.evaluation.comparison.record import read_comparison
from bonsai.recipes.evaluation.comparison.voting import VOTES, blind_questions, read_votes
from tests.recipes.evaluation.comparing.conftest import Tiny
from tests.recipes.evaluation.comparing.made import answer, comparison

FILES = {"comparison.json", "compare.html", "answers.csv", "measures.json"}


class Terminal(Console):
    """A console whose text is kept."""

    def __init__(self) -> None:
        super().__init__(file=io.StringIO(), width=160, highlight=False)

    @property
    def told(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "rivers.txt"
    file.write_text("Which river is the longest?\nWhich lake is the deepest?\n")
    return file


def run(tiny: Tiny, folder: Path, questions: Path, terminal: Terminal, **options: Any) -> bool:
    given = {"samples": 2, "max_new_tokens": 6, **options}
    models = [tiny.base, tiny.adapter]
    return compare(models, folder=folder, out=folder, console=terminal, questions=[str(questions)], **given)


def test_the_command_writes_its_files_and_shows_the_figures(tiny: Tiny, tmp_path: Path, questions: Path) -> None:
    terminal = Terminal()
    folder = tmp_path / "compare"
    assert run(tiny, folder, questions, terminal)
    assert {path.name for path in folder.iterdir()} == {*FILES, "answers"}
    made = read_comparison(folder)
    assert made.questions[0].question.system == "You are a conscientious scientist."
    assert (made.decoder_name, made.decoder.temperature, made.decoder.max_new_tokens) == ("post", 0.2, 6)
    for text in ("side by side", "Reasoning present", "who answers like whom", "tokens a second", "base", "adapter"):
        assert text in terminal.told
    again = Terminal()
    assert run(tiny, folder, questions, again, against=folder)
    assert "0 better, 0 worse beyond chance" in again.told
    assert "4 of 4 answers are kept from an earlier run" in again.told


def test_a_regression_and_a_failed_model_both_end_badly(tiny: Tiny, tmp_path: Path, questions: Path) -> None:
    asked = [f"Which river is number {number}?" for number in range(10)]
    questions.write_text("\n".join(asked))
    folder, terminal = tmp_path / "compare", Terminal()
    options: dict[str, Any] = {"samples": 1, "persona": ""}
    assert run(tiny, folder, questions, terminal, **options)
    made = read_comparison(folder)
    fluent = [
        one.model_copy(update={"answer": answer("The river flows north.", model=one.model)}) for one in made.answers
    ]
    made.model_copy(update={"answers": tuple(fluent)}).write(tmp_path / "better")
    worse = Terminal()
    assert not run(tiny, folder, questions, worse, against=tmp_path / "better", **options)
    assert "worse" in worse.told
    failed = Terminal()
    assert not compare(
        [tiny.base, tiny.broken],
        folder=folder,
        out=folder,
        console=failed,
        questions=[str(questions)],
        max_new_tokens=6,
        **options,
    )
    assert "answers are missing" in failed.told


def test_blind_tells_nobody_who_is_who_until_all_is_judged(
    tiny: Tiny, tmp_path: Path, questions: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, terminal = tmp_path / "compare", Terminal()
    run(tiny, folder, questions, Terminal())
    run(tiny, folder, questions, terminal, blind=True)
    assert {path.name for path in folder.iterdir()} == {"comparison.json", "blind.html", "answers"}
    assert "side by side" not in terminal.told
    monkeypatch.setattr("sys.stdin", io.StringIO("x\nA\nq\n"))
    first = Terminal()
    vote(folder, console=first)
    assert "'x' does not order A, B" in first.told
    assert "1 questions are left" in first.told
    assert len(read_votes(folder)) == 1
    assert not (folder / "compare.html").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("="))
    last = Terminal()
    vote(folder, console=last)
    assert "preferred by 2 votes" in last.told
    assert {path.name for path in folder.iterdir()} == {*FILES, "answers", "blind.html", VOTES}
    assert len(json.loads((folder / "measures.json").read_text(encoding="utf-8"))["ranking"]) == 2
    assert "What a person preferred" in (folder / "compare.html").read_text(encoding="utf-8")


def test_votes_count_for_the_model_behind_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = comparison({"juniper": [[f"Yes {n}."] for n in range(6)], "pine": [[f"No {n}."] for n in range(6)]})
    made.write(tmp_path)
    letters = [next(letter for letter, model in one.models.items() if model == "pine") for one in blind_questions(made)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(letters) + "\n"))
    vote(tmp_path, console=Terminal())
    assert {vote.order for vote in read_votes(tmp_path)} == {(("pine",), ("juniper",))}


def test_a_person_who_closes_the_terminal_keeps_the_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison({"a": [["One."], ["Two."], ["Three."]], "b": [["1."], ["2."], ["3."]]}).write(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("A\n"))
    terminal = Terminal()
    vote(tmp_path, console=terminal)
    assert "2 questions are left" in terminal.told
    assert len(read_votes(tmp_path)) == 1


def test_an_answer_cannot_move_the_cursor_of_whoever_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comparison({"a": [["\x1b]0;taken\x07\x1b[2J [red]plain[/]"]], "b": [["1."]]}).write(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    terminal = Terminal()
    vote(tmp_path, console=terminal)
    assert "\x1b" not in terminal.told
    assert "[red]plain[/]" in terminal.told


def test_an_unknown_decoder_is_refused_before_anything_is_loaded(tiny: Tiny, tmp_path: Path, questions: Path) -> None:
    with pytest.raises(EvaluationError, match=r"no decoder is called 'hot'; there are greedy, post"):
        run(tiny, tmp_path, questions, Terminal(), decoder="hot")


def test_figures_are_not_compared_while_names_are_hidden(tiny: Tiny, tmp_path: Path, questions: Path) -> None:
    with pytest.raises(EvaluationError, match=r"--blind hides the figures that --against compares"):
        run(tiny, tmp_path, questions, Terminal(), blind=True, against=tmp_path)
