"""`bonsai compare` as its command calls it, and the voting as a person types."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer

from bonsai.builder.errors import EvaluationError
from bonsai.cli.compare import compare, judge
from bonsai.recipes.evaluation.comparison.record import read_comparison
from bonsai.recipes.evaluation.comparison.voting import VOTES, blind_questions, read_votes
from bonsai.recipes.inference.generation import GenerationError
from tests.recipes.evaluation.comparing.conftest import Tiny
from tests.recipes.evaluation.comparing.made import answer, comparison

FILES = {"comparison.json", "compare.html", "answers.csv", "measures.json"}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "rivers.txt"
    file.write_text("Which river is the longest?\nWhich lake is the deepest?\n")
    return file


Printed = pytest.CaptureFixture[str]


def run(tiny: Tiny, folder: Path, questions: Path, **options: Any) -> None:
    given = {"samples": 2, "max_new_tokens": 6, **options}
    compare([tiny.base, tiny.adapter], folder=folder, out=folder, questions=[str(questions)], **given)


def test_the_command_writes_its_files_and_shows_the_figures(
    tiny: Tiny, tmp_path: Path, questions: Path, capsys: Printed
) -> None:
    folder = tmp_path / "compare"
    run(tiny, folder, questions)
    shown = capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {*FILES, "answers"}
    made = read_comparison(folder)
    assert made.questions[0].question.system == "You are a conscientious scientist."
    assert (made.decoder_name, made.decoder.temperature, made.decoder.max_new_tokens) == ("post", 0.2, 6)
    for text in ("side by side", "Reasoning present", "who answers like whom", "tokens a second", "base", "adapter"):
        assert text in shown
    run(tiny, folder, questions, against=folder)
    again = capsys.readouterr().out
    assert "0 better, 0 worse beyond chance" in again
    assert "4 of 4 answers are kept from an earlier run" in again


def test_a_regression_and_a_failed_model_both_end_badly(
    tiny: Tiny, tmp_path: Path, questions: Path, capsys: Printed
) -> None:
    asked = [f"Which river is number {number}?" for number in range(10)]
    questions.write_text("\n".join(asked))
    folder = tmp_path / "compare"
    options: dict[str, Any] = {"samples": 1, "persona": ""}
    run(tiny, folder, questions, **options)
    made = read_comparison(folder)
    fluent = [
        one.model_copy(update={"answer": answer("The river flows north.", model=one.model)}) for one in made.answers
    ]
    made.model_copy(update={"answers": tuple(fluent)}).write(tmp_path / "better")
    with pytest.raises(typer.Exit) as worse:
        run(tiny, folder, questions, against=tmp_path / "better", **options)
    assert worse.value.exit_code == 1
    assert " 0 worse" not in capsys.readouterr().out
    models = [tiny.base, tiny.broken]
    with pytest.raises(typer.Exit) as failed:
        compare(models, folder=folder, out=folder, questions=[str(questions)], max_new_tokens=6, **options)
    assert failed.value.exit_code == 1
    assert "answers are missing" in capsys.readouterr().out


def test_blind_tells_nobody_who_is_who_until_all_is_judged(
    tiny: Tiny, tmp_path: Path, questions: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    folder = tmp_path / "compare"
    run(tiny, folder, questions)
    capsys.readouterr()
    run(tiny, folder, questions, blind=True)
    assert {path.name for path in folder.iterdir()} == {"comparison.json", "blind.html", "answers"}
    assert "side by side" not in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("x\nA\nq\n"))
    judge(folder)
    first = capsys.readouterr().out
    assert "'x' does not order A, B" in first
    assert "1 questions are left" in first
    assert len(read_votes(folder)) == 1
    assert not (folder / "compare.html").exists()
    monkeypatch.setattr("sys.stdin", io.StringIO("="))
    judge(folder)
    assert "preferred by 2 votes" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == {*FILES, "answers", "blind.html", VOTES}
    assert len(json.loads((folder / "measures.json").read_text(encoding="utf-8"))["ranking"]) == 2
    assert "What a person preferred" in (folder / "compare.html").read_text(encoding="utf-8")


def test_votes_count_for_the_model_behind_the_letter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = comparison({"juniper": [[f"Yes {n}."] for n in range(6)], "pine": [[f"No {n}."] for n in range(6)]})
    made.write(tmp_path)
    letters = [next(letter for letter, model in one.models.items() if model == "pine") for one in blind_questions(made)]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(letters) + "\n"))
    judge(tmp_path)
    assert {vote.order for vote in read_votes(tmp_path)} == {(("pine",), ("juniper",))}


def test_a_person_who_closes_the_terminal_keeps_the_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    comparison({"a": [["One."], ["Two."], ["Three."]], "b": [["1."], ["2."], ["3."]]}).write(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("A\n"))
    judge(tmp_path)
    assert "2 questions are left" in capsys.readouterr().out
    assert len(read_votes(tmp_path)) == 1


def test_an_answer_cannot_move_the_cursor_of_whoever_votes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Printed
) -> None:
    comparison({"a": [["\x1b]0;taken\x07\x1b[2J [red]plain[/]"]], "b": [["1."]]}).write(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    judge(tmp_path)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "[red]plain[/]" in shown


def test_an_unknown_decoder_is_refused_before_anything_is_loaded(tiny: Tiny, tmp_path: Path, questions: Path) -> None:
    with pytest.raises(GenerationError, match=r"no decoder is called 'hot'; there are greedy, post"):
        run(tiny, tmp_path, questions, decoder="hot")


def test_figures_are_not_compared_while_names_are_hidden(tiny: Tiny, tmp_path: Path, questions: Path) -> None:
    with pytest.raises(EvaluationError, match=r"--blind hides the figures that --against compares"):
        run(tiny, tmp_path, questions, blind=True, against=tmp_path)
