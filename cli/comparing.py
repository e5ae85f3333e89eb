"""`bonsai compare`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bonsai.builder.folder import exclusive
from bonsai.cli.bars import Bars
from bonsai.cli.compared_tables import compared_changes_table, likeness_table, measures_table, ranking_table
from bonsai.cli.quieting import quiet_libraries
from bonsai.cli.serving import ensure_bases, hub_for
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.registry import recipe_names

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.comparing.changes import Changes
    from bonsai.recipes.evaluation.comparing.record import Comparison
    from bonsai.recipes.evaluation.comparing.run import Plan

SAMPLES = 3
"""of each answer by default, where the decoder draws; greedy says the same again"""


def compare(
    models: Sequence[str],
    *,
    folder: Path,
    out: Path,
    console: Console,
    questions: Sequence[str] = ("post-ja",),
    samples: int | None = None,
    decoder: str = "post",
    max_new_tokens: int | None = None,
    persona: str | None = None,
    against: Path | None = None,
    blind: bool = False,
) -> bool:
    """Ask several models the same questions; print and write what came of it.

    Args:
        models: as `bonsai.recipes.inference.models.opening.open_model` takes them.
        folder: where the comparison goes.
        out: where `nox -s train` puts adapters.
        questions: lists or files, see `bonsai.recipes.evaluation.comparing.questions.read_questions`.
        samples: of each answer; None: three, and one where the decoder draws none.
        persona: system text before each question; None: the post's with the post's decoder, else none.
        against: the folder of an earlier comparison, which may be ``folder`` itself.
        blind: write the page without names alone, for `vote`.

    Returns:
        Whether every model answered everything, and nothing got worse, beyond chance, than in ``against``.

    Raises:
        RecipeError, EvaluationError, GenerationError, AskingError: with the reason.
        FolderInUseError: another comparison or vote writes here.
    """
    missing = [package for package in ("sacrebleu", "scipy") if importlib.util.find_spec(package) is None]
    if missing:
        raise RecipeError(f"{', '.join(missing)} not installed; pip install 'qeu-bonsai[train]'")
    quiet_libraries()
    names = [name for name in models if name in recipe_names()]
    with exclusive(folder), hub_for(names, out):
        plan, earlier = _planned(questions, samples, decoder, max_new_tokens, persona, against, blind)
        ensure_bases(names)
        comparison = _asked(models, plan, folder, out, console)
        comparison.write(folder)
        return _told(comparison, earlier, str(against), folder, console, blind)


def vote(folder: Path, *, console: Console) -> None:
    """Ask a person which answer is better, question by question; the ranking once all are judged.

    Raises:
        EvaluationError: no comparison lies in the folder.
        FolderInUseError: a comparison or another vote writes here.
    """
    from bonsai.cli.voting import judge
    from bonsai.recipes.evaluation.comparing.record import read_comparison

    comparison = read_comparison(folder)
    with exclusive(folder):
        left = judge(comparison, folder, console)
        if left:
            console.print(f"{left} questions are left; `bonsai compare --vote {folder}` goes on. 残り{left}問。")
        else:
            _show(comparison, folder, console, None)


def _planned(
    questions: Sequence[str],
    samples: int | None,
    decoder: str,
    max_new_tokens: int | None,
    persona: str | None,
    against: Path | None,
    blind: bool,
) -> tuple[Plan, Comparison | None]:
    """What is to be asked, and what to compare with; read now, for it may lie where the new one goes."""
    from bonsai.recipes.evaluation.comparing.questions import read_questions, with_persona
    from bonsai.recipes.evaluation.comparing.record import read_comparison
    from bonsai.recipes.evaluation.comparing.run import Plan
    from bonsai.recipes.evaluation.errors import EvaluationError
    from bonsai.recipes.inference.asking.limits import check_questions
    from bonsai.recipes.inference.generation.decoder import decoder_called

    settings = decoder_called(decoder, EvaluationError, max_new_tokens=max_new_tokens)
    if blind and against is not None:
        raise EvaluationError("--blind hides the figures that --against compares; give one of the two")
    listed = with_persona(read_questions(questions), "" if persona is None and decoder != "post" else persona)
    check_questions([one.question for one in listed])
    plan = Plan(
        lists=tuple(questions),
        questions=tuple(listed),
        samples=samples or (SAMPLES if settings.temperature else 1),
        decoder_name=decoder,
        decoder=settings,
    )
    return plan, read_comparison(against) if against else None


def _asked(models: Sequence[str], plan: Plan, folder: Path, out: Path, console: Console) -> Comparison:
    from bonsai.recipes.evaluation.comparing.run import ANSWERS, compare

    started = time.perf_counter()
    try:
        with Bars(console) as bars:
            comparison = compare(models, plan, folder=folder, out=out, told=bars.tell)
    except KeyboardInterrupt:
        console.print(
            f"the answers so far are kept in {folder / ANSWERS}; the same command goes on from there. "
            "ここまでの回答は残っています。同じコマンドで続きから始まります。"
        )
        raise
    console.print(
        f"{len(comparison.models)} models, {len(comparison.questions)} questions, {len(comparison.answers)} answers "
        f"in {time.perf_counter() - started:.0f} s"
    )
    return comparison


def _told(
    comparison: Comparison, earlier: Comparison | None, place: str, folder: Path, console: Console, blind: bool
) -> bool:
    """Show it; whether it is as it should be."""
    from bonsai.recipes.evaluation.comparing.changes import changes

    found = changes(earlier, comparison, place=place) if earlier else None
    if blind:
        _hide(comparison, folder, console)
    else:
        _show(comparison, folder, console, found)
    failed = [side for side in comparison.models if side.failed_because]
    for side in failed:
        console.print(f"{side.name}: answers are missing: {side.failed_because or ''}", style="red")
    return not failed and not (found and found.worse)


def _show(comparison: Comparison, folder: Path, console: Console, changed: Changes | None) -> None:
    from bonsai.recipes.evaluation.comparing.page import PAGE, page
    from bonsai.recipes.evaluation.comparing.ranking import ranking
    from bonsai.recipes.evaluation.comparing.results import results, write_results
    from bonsai.recipes.evaluation.comparing.votes import counted, read_votes
    from bonsai.recipes.evaluation.record import write_whole

    found = results(comparison)
    votes = counted(comparison, read_votes(folder))
    names = [side.name for side in comparison.models]
    ranked = ranking([vote.order for vote in votes], names) if votes else []
    write_results(found, folder, changes=changed, ranked=ranked)
    write_whole(folder / PAGE, page(found, changes=changed, ranked=ranked, votes=len(votes)))
    console.print(measures_table(found))
    if found.matrix:
        console.print(likeness_table(found))
    if ranked:
        console.print(ranking_table(ranked, len(votes)))
    if changed:
        if any(change.difference.value for change in changed.changes):
            console.print(compared_changes_table(changed, found))
        better = sum(change.verdict == "better" for change in changed.changes)
        console.print(
            f"against {changed.earlier}: {better} better, {len(changed.worse)} worse beyond chance, "
            f"of {len(changed.changes)} compared"
        )
    console.print(Text.assemble("page -> ", (str(folder / PAGE), "bold")))


def _hide(comparison: Comparison, folder: Path, console: Console) -> None:
    from bonsai.recipes.evaluation.comparing.page import BLIND, PAGE, blind_page
    from bonsai.recipes.evaluation.comparing.results import CSV, MEASURED
    from bonsai.recipes.evaluation.comparing.votes import hidden
    from bonsai.recipes.evaluation.record import write_whole

    for name in (PAGE, CSV, MEASURED):  # of an earlier run; they would tell who is who
        (folder / name).unlink(missing_ok=True)
    write_whole(folder / BLIND, blind_page(list(hidden(comparison)), str(folder)))
    console.print(
        f"page without names -> {folder / BLIND}; vote with `bonsai compare --vote {folder}`. 名前を伏せたページです。"
    )
