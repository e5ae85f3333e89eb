"""Implement `bonsai compare` and its blind voting."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from bonsai.builder.errors import EvaluationError
from bonsai.builder.files import atomic_write_text, exclusive
from bonsai.cli.common import OUT, AnswerProgress, DecoderName, MaxNewTokens, Out, console, quiet_libraries
from bonsai.cli.evaluate import ChangeRow, changes_table
from bonsai.cli.hub import ensure_base_models, local_hub_for
from bonsai.recipes.training.recipe import RecipeError, recipe_names

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.comparison.record import Comparison
    from bonsai.recipes.evaluation.comparison.results import ComparisonDiff, Results
    from bonsai.recipes.evaluation.comparison.voting import RankedModel

SAMPLES = 3
"""answers to each question by default where the decoder samples; greedy decoding would repeat itself"""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""characters with which a model's text could move the cursor or set the window's title"""


def compare(
    models: Annotated[list[str] | None, typer.Argument(help="Two or more; see `bonsai ask --model`. モデル。")] = None,
    questions: Annotated[
        list[str] | None, typer.Option("--questions", help="post-ja, post-en, probes, or a file; repeatable. 質問集。")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Answers to each question. 一問あたりの回答数。")] = None,
    decoder: DecoderName = "post",
    max_new_tokens: MaxNewTokens = None,
    persona: Annotated[str | None, typer.Option(help="System text; else the post's. システム文。")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Else out/compared. 出力フォルダー。")] = None,
    against: Annotated[Path | None, typer.Option(help="An earlier one; exit code 1 if worse. 比較対象。")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="A page without names, to be judged. 名前を伏せる。")] = False,
    vote: Annotated[
        Path | None, typer.Option("--vote", help="Judge the comparison in this folder. 名前を伏せて投票する。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Put the same questions to several models, side by side. 同じ質問で複数のモデルを比べる。"""
    if vote is not None:
        judge(vote)
        return
    missing = [package for package in ("sacrebleu", "scipy") if importlib.util.find_spec(package) is None]
    if missing:
        raise RecipeError(f"{', '.join(missing)} not installed; pip install 'qeu-bonsai[train]'")
    quiet_libraries()
    sources, lists, folder = models or [], questions or ["post-ja"], folder or out / "compared"
    recipes = [name for name in sources if name in recipe_names()]
    with exclusive(folder), local_hub_for(recipes, out):
        from bonsai.recipes.evaluation.comparison import compare as comparing
        from bonsai.recipes.evaluation.comparison.record import read_comparison, read_questions, with_persona
        from bonsai.recipes.evaluation.comparison.results import diff_comparisons
        from bonsai.recipes.inference.ask import check_questions
        from bonsai.recipes.inference.generation import get_preset

        # 1. Refuse what can't be asked before a model is loaded. Only the post's decoder brings the post's persona.
        settings = get_preset(decoder, max_new_tokens=max_new_tokens)
        if blind and against is not None:
            raise EvaluationError("--blind hides the figures that --against compares; give one of the two")
        listed = with_persona(read_questions(lists), "" if persona is None and decoder != "post" else persona)
        check_questions([one.question for one in listed])
        plan = comparing.ComparisonConfig(
            lists=tuple(lists),
            questions=tuple(listed),
            samples=samples or (SAMPLES if settings.temperature else 1),
            decoder_name=decoder,
            decoder=settings,
        )
        # 2. Read what to compare with now: the new comparison may be written over it.
        earlier = read_comparison(against) if against else None
        # 3. Ask all models.
        ensure_base_models(recipes)
        started = time.perf_counter()
        try:
            with AnswerProgress(console) as progress:
                comparison = comparing.compare(sources, plan, folder=folder, out=out, on_progress=progress.update)
        except KeyboardInterrupt:
            console.print(
                f"the answers so far are kept in {folder / comparing.ANSWERS}; the same command goes on from there. "
                "ここまでの回答は残っています。同じコマンドで続きから始まります。"
            )
            raise
        seconds = time.perf_counter() - started
        console.print(
            f"{len(comparison.models)} models, {len(comparison.questions)} questions, "
            f"{len(comparison.answers)} answers in {seconds:.0f} s"
        )
        # 4. Write and show; with --blind nothing that tells who is who.
        comparison.write(folder)
        diff = diff_comparisons(earlier, comparison, location=str(against)) if earlier else None
        if blind:
            write_blind_page(comparison, folder)
        else:
            show_comparison(comparison, folder, diff)
    failed = [side for side in comparison.models if side.failed_because]
    for side in failed:
        console.print(f"{side.name}: answers are missing: {side.failed_because}", style="red")
    if failed or (diff and diff.worse):
        raise typer.Exit(1)


def show_comparison(comparison: Comparison, folder: Path, diff: ComparisonDiff | None) -> None:
    """Print the tables and write the page; the votes given so far are part of both."""
    from bonsai.recipes.evaluation.comparison.report import PAGE, page
    from bonsai.recipes.evaluation.comparison.results import results, write_results
    from bonsai.recipes.evaluation.comparison.voting import ranking, read_votes, valid_votes

    found = results(comparison)
    votes = valid_votes(comparison, read_votes(folder))
    ranked = ranking([vote.order for vote in votes], [side.name for side in comparison.models]) if votes else []
    write_results(found, folder, changes=diff, ranked=ranked)
    atomic_write_text(folder / PAGE, page(found, changes=diff, ranked=ranked, votes=len(votes)))
    console.print(measures_table(found))
    if found.matrix:
        console.print(likeness_table(found))
    if ranked:
        console.print(ranking_table(ranked, len(votes)))
    if diff:
        if any(change.difference.value for change in diff.changes):
            console.print(compared_changes_table(diff, found))
        better = sum(change.verdict == "better" for change in diff.changes)
        console.print(
            f"against {diff.earlier}: {better} better, {len(diff.worse)} worse beyond chance, "
            f"of {len(diff.changes)} compared"
        )
    console.print(Text.assemble("page -> ", (str(folder / PAGE), "bold")))


def write_blind_page(comparison: Comparison, folder: Path) -> None:
    """Write the page without names, and remove the files of an earlier run that tell who is who."""
    from bonsai.recipes.evaluation.comparison.report import BLIND, PAGE, blind_page
    from bonsai.recipes.evaluation.comparison.results import CSV, MEASURED
    from bonsai.recipes.evaluation.comparison.voting import blind_questions

    for name in (PAGE, CSV, MEASURED):
        (folder / name).unlink(missing_ok=True)
    atomic_write_text(folder / BLIND, blind_page(list(blind_questions(comparison)), str(folder)))
    console.print(
        f"page without names -> {folder / BLIND}; vote with `bonsai compare --vote {folder}`. 名前を伏せたページです。"
    )


def judge(folder: Path) -> None:
    """Ask a person which answer is better, question by question; show the ranking once all are judged.

    Ctrl-D, ``q`` and Ctrl-C stop; each vote is on disk as soon as it is given.

    Raises:
        EvaluationError: there is no comparison in the folder.
        FolderInUseError: a comparison or another vote writes here.
    """
    from bonsai.recipes.evaluation.comparison.record import read_comparison
    from bonsai.recipes.evaluation.comparison.voting import Vote, append_vote, blind_questions, read_votes, valid_votes

    comparison = read_comparison(folder)
    with exclusive(folder):
        done = {vote.question for vote in valid_votes(comparison, read_votes(folder))}
        pending = [one for one in blind_questions(comparison) if one.listed.id not in done]
        for number, one in enumerate(pending):
            # 1. Show the question and the answers under letters.
            question, letters = one.listed.question, list(one.models)
            console.rule(f"{len(done) + number + 1} / {len(done) + len(pending)}")
            text = "\n".join(filter(None, (question.instruction, question.input)))
            console.print(Text(_without_control(text), style="bold"))
            for letter, answer in one.answers.items():
                reasoning = (_without_control(answer.reasoning) or "no Reasoning", "dim")
                shown = Text.assemble(reasoning, "\n\n", _without_control(answer.answer) or "no answer")
                console.print(Panel(shown, title=Text(letter), title_align="left"))
            # 2. Ask until an order is given.
            example = " ".join(reversed(letters))
            if len(letters) == 2:
                example = f"{letters[0]}, {letters[1]} or {'='.join(letters)}"
            order = None
            while order is None:
                try:
                    typed = console.input(f"the best first ({example}; q: stop) 良い順に: ", markup=False, emoji=False)
                except EOFError:
                    typed = "q"
                if typed.strip().lower() == "q":
                    left = len(pending) - number
                    command = f"bonsai compare --vote {folder}"
                    console.print(f"{left} questions are left; `{command}` goes on. 残り{left}問。")
                    return
                try:
                    order = one.order(typed)
                except EvaluationError as error:
                    console.print(Text(str(error), style="red"))
            append_vote(folder, Vote(question=one.listed.id, order=order, answers=one.digest))
        # 3. All are judged: names may be seen again.
        show_comparison(comparison, folder, None)


def _without_control(text: str) -> str:
    return _CONTROL.sub("\ufffd", text)


def measures_table(results: Results) -> Table:
    """Show every measure, with a column per model."""
    from bonsai.recipes.evaluation.comparison.report import shown
    from bonsai.recipes.evaluation.comparison.results import MEASURES

    table = Table(title="side by side (95 % intervals)", title_style="bold")
    table.add_column("measure")
    for name in _short_names(results).values():
        table.add_column(Text(name), justify="right")
    for name, metric in MEASURES.items():
        estimates = [model.estimates.get(name) for model in results.measured]
        if any(estimates):
            table.add_row(
                metric.english + (" ↓" if metric.direction == "lower" else ""),
                *(
                    f"{shown(one.value, name)} ({shown(one.low, name)} … {shown(one.high, name)})" if one else ""
                    for one in estimates
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
    """Show how alike the models answer; on the diagonal, how alike a model's own samples are."""
    names = _short_names(results)
    known = {frozenset((pair.first, pair.second)): pair for pair in results.matrix}
    table = Table(
        title="who answers like whom (mean cosine; in brackets: over different questions)", title_style="bold"
    )
    table.add_column("")
    for name in names.values():
        table.add_column(Text(name), justify="right")
    for first in names:
        cells = []
        for second in names:
            pair = known.get(frozenset((first, second)))
            chance = "" if pair is None or pair.by_chance is None else f" ({pair.by_chance:.2f})"
            cells.append("–" if pair is None else f"{pair.likeness.value:.2f}{chance}")
        table.add_row(Text(names[first]), *cells)
    return table


def compared_changes_table(changes: ComparisonDiff, results: Results) -> Table:
    """Show what differs from an earlier comparison; unchanged figures are left out."""
    from bonsai.recipes.evaluation.comparison.report import shown
    from bonsai.recipes.evaluation.comparison.results import MEASURES

    names = _short_names(results)
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
    """Show the models from the most preferred to the least."""
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


def _short_names(results: Results) -> dict[str, str]:
    from bonsai.recipes.evaluation.comparison.compare import short_names

    return short_names([side.name for side in results.comparison.models])
