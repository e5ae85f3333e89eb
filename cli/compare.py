"""Implement `bonsai compare` and its blind voting."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bonsai.builder.files import atomic_write_text, exclusive
from bonsai.cli.common import AnswerProgress, ensure_base_models, local_hub_for, quiet_libraries
from bonsai.cli.evaluate import ChangeRow, changes_table
from bonsai.recipes.training.recipe import RecipeError, recipe_names

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.comparison.compare import ComparisonConfig
    from bonsai.recipes.evaluation.comparison.record import Comparison
    from bonsai.recipes.evaluation.comparison.results import ComparisonDiff, Pair, Results
    from bonsai.recipes.evaluation.comparison.voting import BlindQuestion, RankedModel
    from bonsai.recipes.inference.conversation import Answer


def measures_table(results: Results) -> Table:
    """A column a model."""
    from bonsai.recipes.evaluation.comparison.report import shown
    from bonsai.recipes.evaluation.comparison.results import MEASURES

    table = Table(title="side by side (95 % intervals)", title_style="bold")
    table.add_column("measure")
    for name in _short(results).values():
        table.add_column(Text(name), justify="right")
    for name, metric in MEASURES.items():
        found = [one.estimates.get(name) for one in results.measured]
        if any(found):
            table.add_row(
                metric.english + (" ↓" if metric.direction == "lower" else ""),
                *(
                    f"{shown(one.value, name)} ({shown(one.low, name)} … {shown(one.high, name)})" if one else ""
                    for one in found
                ),
            )
    table.add_section()
    speeds = [one.tokens_per_second for one in results.measured]
    table.add_row("tokens a second, all questions together", *("" if one is None else f"{one:.1f}" for one in speeds))
    prices = [one.usd_per_1000 for one in results.measured]
    if any(price is not None for price in prices):
        table.add_row("US$ for 1,000 answers", *("" if one is None else f"{one:.3f}" for one in prices))
    return table


def likeness_table(results: Results) -> Table:
    """Every model with every other; with itself, its own samples."""
    names = _short(results)
    known = {frozenset((pair.first, pair.second)): pair for pair in results.matrix}
    table = Table(
        title="who answers like whom (mean cosine; in brackets: over different questions)", title_style="bold"
    )
    table.add_column("")
    for name in names.values():
        table.add_column(Text(name), justify="right")
    for first in names:
        pairs = [known.get(frozenset((first, second))) for second in names]
        table.add_row(Text(names[first]), *map(_likeness, pairs))
    return table


def _likeness(pair: Pair | None) -> str:
    if pair is None:
        return "–"
    return f"{pair.likeness.value:.2f}" + ("" if pair.by_chance is None else f" ({pair.by_chance:.2f})")


def compared_changes_table(changes: ComparisonDiff, results: Results) -> Table:
    """What is different from an earlier comparison; what stayed as it was is left out."""
    from bonsai.recipes.evaluation.comparison.report import shown
    from bonsai.recipes.evaluation.comparison.results import MEASURES

    names = _short(results)
    return changes_table(
        changes.earlier,
        ("model", "measure"),
        (
            ChangeRow(
                names[change.model], MEASURES[change.measure].english, change, partial(shown, measure=change.measure)
            )
            for change in changes.changes
            if change.difference.value
        ),
    )


def ranking_table(ranked: Sequence[RankedModel], votes: int) -> Table:
    """The models from the most preferred to the least."""
    table = Table(title=f"preferred by {votes} votes (Bradley–Terry, 95 % intervals)", title_style="bold")
    table.add_column("model")
    for column in ("preferred to the others", "strength"):
        table.add_column(column, justify="right")
    for one in ranked:
        share, strength = one.preferred, one.strength
        table.add_row(
            Text(one.model),
            f"{share.value:.0%} ({share.low:.0%} … {share.high:.0%})",
            f"{strength.value:+.2f} ({strength.low:+.2f} … {strength.high:+.2f})",
        )
    return table


def _short(results: Results) -> dict[str, str]:
    from bonsai.recipes.evaluation.comparison.compare import short_names

    return short_names([side.name for side in results.comparison.models])


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
        models: as `bonsai.recipes.inference.models.open_model` takes them.
        folder: where the comparison goes.
        out: where `nox -s train` puts adapters.
        questions: lists or files, see `bonsai.recipes.evaluation.comparison.record.read_questions`.
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
    with exclusive(folder), local_hub_for(names, out):
        plan, earlier = _config(questions, samples, decoder, max_new_tokens, persona, against, blind)
        ensure_base_models(names)
        comparison = _run(models, plan, folder, out, console)
        comparison.write(folder)
        return _report(comparison, earlier, str(against), folder, console, blind)


def vote(folder: Path, *, console: Console) -> None:
    """Ask a person which answer is better, question by question; the ranking once all are judged.

    Raises:
        EvaluationError: no comparison lies in the folder.
        FolderInUseError: a comparison or another vote writes here.
    """
    from bonsai.recipes.evaluation.comparison.record import read_comparison

    comparison = read_comparison(folder)
    with exclusive(folder):
        left = collect_votes(comparison, folder, console)
        if left:
            console.print(f"{left} questions are left; `bonsai compare --vote {folder}` goes on. 残り{left}問。")
        else:
            _show(comparison, folder, console, None)


def _config(
    questions: Sequence[str],
    samples: int | None,
    decoder: str,
    max_new_tokens: int | None,
    persona: str | None,
    against: Path | None,
    blind: bool,
) -> tuple[ComparisonConfig, Comparison | None]:
    """What is to be asked, and what to compare with; read now, for it may lie where the new one goes."""
    from bonsai.builder.errors import EvaluationError
    from bonsai.recipes.evaluation.comparison.compare import ComparisonConfig
    from bonsai.recipes.evaluation.comparison.record import read_comparison, read_questions, with_persona
    from bonsai.recipes.inference.ask import check_questions
    from bonsai.recipes.inference.generation import get_preset

    settings = get_preset(decoder, EvaluationError, max_new_tokens=max_new_tokens)
    if blind and against is not None:
        raise EvaluationError("--blind hides the figures that --against compares; give one of the two")
    listed = with_persona(read_questions(questions), "" if persona is None and decoder != "post" else persona)
    check_questions([one.question for one in listed])
    plan = ComparisonConfig(
        lists=tuple(questions),
        questions=tuple(listed),
        samples=samples or (SAMPLES if settings.temperature else 1),
        decoder_name=decoder,
        decoder=settings,
    )
    return plan, read_comparison(against) if against else None


def _run(models: Sequence[str], plan: ComparisonConfig, folder: Path, out: Path, console: Console) -> Comparison:
    from bonsai.recipes.evaluation.comparison.compare import ANSWERS, compare

    started = time.perf_counter()
    try:
        with AnswerProgress(console) as bars:
            comparison = compare(models, plan, folder=folder, out=out, on_progress=bars.tell)
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


def _report(
    comparison: Comparison, earlier: Comparison | None, place: str, folder: Path, console: Console, blind: bool
) -> bool:
    """Show it; whether it is as it should be."""
    from bonsai.recipes.evaluation.comparison.results import diff_comparisons

    found = diff_comparisons(earlier, comparison, location=place) if earlier else None
    if blind:
        _write_blind_page(comparison, folder, console)
    else:
        _show(comparison, folder, console, found)
    failed = [side for side in comparison.models if side.failed_because]
    for side in failed:
        console.print(f"{side.name}: answers are missing: {side.failed_because or ''}", style="red")
    return not failed and not (found and found.worse)


def _show(comparison: Comparison, folder: Path, console: Console, changed: ComparisonDiff | None) -> None:
    from bonsai.recipes.evaluation.comparison.report import PAGE, page
    from bonsai.recipes.evaluation.comparison.results import results, write_results
    from bonsai.recipes.evaluation.comparison.voting import ranking, read_votes, valid_votes

    found = results(comparison)
    votes = valid_votes(comparison, read_votes(folder))
    names = [side.name for side in comparison.models]
    ranked = ranking([vote.order for vote in votes], names) if votes else []
    write_results(found, folder, changes=changed, ranked=ranked)
    atomic_write_text(folder / PAGE, page(found, changes=changed, ranked=ranked, votes=len(votes)))
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


def _write_blind_page(comparison: Comparison, folder: Path, console: Console) -> None:
    from bonsai.recipes.evaluation.comparison.report import BLIND, PAGE, blind_page
    from bonsai.recipes.evaluation.comparison.results import CSV, MEASURED
    from bonsai.recipes.evaluation.comparison.voting import blind_questions

    for name in (PAGE, CSV, MEASURED):  # of an earlier run; they would tell who is who
        (folder / name).unlink(missing_ok=True)
    atomic_write_text(folder / BLIND, blind_page(list(blind_questions(comparison)), str(folder)))
    console.print(
        f"page without names -> {folder / BLIND}; vote with `bonsai compare --vote {folder}`. 名前を伏せたページです。"
    )


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""a model's text could move the cursor or set the window's title"""


def collect_votes(comparison: Comparison, folder: Path, console: Console) -> int:
    """Ask about every question that has no vote yet; how many are left when the person stops.

    Ctrl-D and ``q`` stop, and so does Ctrl-C; each vote given is on disk by then.
    """
    from bonsai.recipes.evaluation.comparison.voting import Vote, append_vote, blind_questions, read_votes, valid_votes

    done = {vote.question for vote in valid_votes(comparison, read_votes(folder))}
    waiting = [one for one in blind_questions(comparison) if one.listed.id not in done]
    for number, one in enumerate(waiting):
        _show_pair(one, f"{len(done) + number + 1} / {len(done) + len(waiting)}", console)
        order = _order(one, console)
        if order is None:
            return len(waiting) - number
        append_vote(folder, Vote(question=one.listed.id, order=order, answers=one.digest))
    return 0


def _show_pair(one: BlindQuestion, place: str, console: Console) -> None:
    question = one.listed.question
    console.rule(place)
    console.print(Text(_clean("\n".join(filter(None, (question.instruction, question.input)))), style="bold"))
    for letter, answer in one.answers.items():
        console.print(Panel(_text(answer), title=Text(letter), title_align="left"))


def _order(one: BlindQuestion, console: Console) -> tuple[tuple[str, ...], ...] | None:
    from bonsai.builder.errors import EvaluationError

    letters = list(one.models)
    example = f"{letters[0]}, {letters[1]} or {'='.join(letters)}" if len(letters) == 2 else " ".join(reversed(letters))
    while True:
        try:
            told = console.input(f"the best first ({example}; q: stop) 良い順に: ", markup=False, emoji=False)
        except EOFError:
            return None
        if told.strip().lower() == "q":
            return None
        try:
            return one.order(told)
        except EvaluationError as error:
            console.print(Text(str(error), style="red"))


def _text(answer: Answer) -> Text:
    reasoning = Text(_clean(answer.reasoning) or "no Reasoning", style="dim")
    return Text.assemble(reasoning, "\n\n", _clean(answer.answer) or "no answer")


def _clean(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)
