"""Implement `bonsai evaluate`: ask a recipe's test questions and probes before and after training."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer
from rich.table import Table
from rich.text import Text

from bonsai.builder.files import atomic_write_text, exclusive
from bonsai.cli.common import OUT, AnswerProgress, DecoderName, Out, console, note_stage, quiet_libraries
from bonsai.cli.hub import ensure_base_models, local_hub_for
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import RecipeError, load_recipe

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.results import Evaluation, ScoreChange
    from bonsai.recipes.evaluation.statistics import Change

ANSWERS = "answers"
"""below the output folder: answers are stored here as they come, so that an interrupted run continues"""
_COLORS = {"worse": "red", "better": "green", "unchanged": "dim"}


def evaluate(
    recipe: Annotated[str, typer.Argument(help="Recipe name. レシピ名。")],
    base: Annotated[bool, typer.Option("--base", help="The bare base model only. 土台モデルだけ。")] = False,
    decoder: DecoderName = "greedy",
    limit: Annotated[
        int | None, typer.Option(min=0, help="Questions of each category and language; 0: all. 質問数の上限。")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A folder or a Hub revision; exit code 1 if worse. 比較対象。")
    ] = None,
    out: Out = OUT,
) -> None:
    """Ask the test questions and probes before and after training. 学習の前後で質問して比べる。"""
    with local_hub_for([recipe], out):
        got_worse = run_evaluation(recipe, out=out, base=base, decoder=decoder, limit=limit, against=against)
    if got_worse:
        raise typer.Exit(1)


def run_evaluation(
    name: str,
    *,
    out: Path,
    base: bool = False,
    decoder: str = "greedy",
    limit: int | None = None,
    against: str | None = None,
) -> bool:
    """Evaluate a recipe's adapter, or its bare base model, inside `local_hub_for`; print the scores and write the page.

    Args:
        limit: at most this many questions of each category and language; 0: all; None: as the machine allows.
        against: a folder or a revision to compare with.

    Returns:
        Whether something got worse, beyond chance, than in ``against``.

    Raises:
        RecipeError, EvaluationError, GenerationError: with the reason.
        FolderInUseError: another run trains, evaluates or publishes this adapter.
    """
    recipe = load_recipe(name)
    adapter = None if base else out / "adapters" / name
    with exclusive(adapter or out / "base" / name):
        missing = [package for package in ("torch", "peft", "sacrebleu") if importlib.util.find_spec(package) is None]
        if missing:
            raise RecipeError(f"{', '.join(missing)} not installed; pip install 'qeu-bonsai[train]'")
        quiet_libraries()
        from bonsai.recipes.evaluation import evaluate as evaluating
        from bonsai.recipes.evaluation import lm_eval
        from bonsai.recipes.evaluation.report import PAGE, card_evaluation, page
        from bonsai.recipes.evaluation.results import FOLDER, compare_evaluations, load_evaluation
        from bonsai.recipes.training.release import edited_card, write_card
        from bonsai.recipes.training.run_record import FOLDER as RECORD_FOLDER
        from bonsai.recipes.training.run_record import RUN_FILE, read_record

        # 1. Read what to compare with before hours of asking; it may also be overwritten below.
        evaluating.check_inputs(name, adapter, out / "dataset")
        earlier = load_evaluation(against, with_namespace(recipe.repo_id)) if against else None
        # 2. Ask.
        ensure_base_models([name])
        started = time.perf_counter()
        last_answer = {"before": started}
        with AnswerProgress(console) as progress:

            def on_progress(when: str, done: int, total: int) -> None:
                last_answer[when] = time.perf_counter()
                progress.update(f"answers {when} training", done, total)

            evaluation = evaluating.evaluate(
                name,
                recipe,
                adapter=adapter,
                dataset=out / "dataset",
                answers=out / ANSWERS,
                scope=evaluating.scope(decoder, limit),
                on_progress=on_progress,
            )
        note_stage("ask before", last_answer["before"] - started)
        if adapter is not None:
            note_stage("ask after", time.perf_counter() - last_answer["before"])
        # 3. Write the record, the page, and the same questions as tasks of the lm-evaluation-harness.
        suffix = "" if decoder == "greedy" else f"-{decoder}"
        folder = (adapter or out / "base" / name) / f"{FOLDER}{suffix}"
        evaluation.write(folder)
        atomic_write_text(folder / PAGE, page(evaluation))
        trained = adapter is not None and (adapter / RECORD_FOLDER / RUN_FILE).is_file()
        lm_eval.write_tasks(
            [one.item for one in evaluation.items],
            folder / lm_eval.FOLDER,
            base=evaluation.settings.base_model,
            adapter=with_namespace(recipe.repo_id),
            max_new_tokens=evaluation.settings.decoder.max_new_tokens,
            bos=adapter is not None and trained and bool(read_record(adapter).prompt_beginning),
        )
        # 4. The card quotes the greedy evaluation alone.
        if adapter is not None and trained and not suffix:
            if edited := edited_card(adapter):
                console.print(edited, soft_wrap=True)
            write_card(recipe, adapter, card_evaluation(adapter))
        # 5. Show it, and what changed.
        console.print(headline_table(evaluation))
        summary = f"{name}: {len(evaluation.items)} questions in {time.perf_counter() - started:.0f} s; page -> "
        console.print(Text.assemble(summary, (str(folder / PAGE), "bold")))
        if earlier is None:
            return False
        changes = compare_evaluations(earlier, evaluation)
        console.print(changes_table(str(against), ("what", "score"), map(score_row, changes)))
        worse = sum(change.verdict == "worse" for change in changes)
        better = sum(change.verdict == "better" for change in changes)
        console.print(f"against {against}: {better} better, {worse} worse beyond chance, of {len(changes)} compared")
        return worse > 0


class ChangeRow(NamedTuple):
    """One score, then and now."""

    subject: str
    score: str
    change: Change
    shown: Callable[..., str]
    """formats a number as a reader expects it; ``signed=True`` for a difference"""


def score_row(change: ScoreChange) -> ChangeRow:
    """Put a change of an evaluation's score into a row of `changes_table`."""
    from bonsai.recipes.evaluation.metrics import METRICS
    from bonsai.recipes.evaluation.report import shown

    subject = f"{change.origin}: {change.category}, {change.spoken}"
    return ChangeRow(subject, METRICS[change.metric].english, change, partial(shown, metric=change.metric))


def changes_table(earlier: str, columns: tuple[str, str], rows: Iterable[ChangeRow]) -> Table:
    """Show scores then and now; ``columns`` head the subject and the score."""
    table = Table(title=Text(f"against {earlier} (95 % intervals, paired test)"), title_style="bold")
    for column in columns:
        table.add_column(column)
    for column in ("n", "then", "now", "difference", "p"):
        table.add_column(column, justify="right")
    table.add_column("")
    for subject, score, change, shown in rows:
        spread = change.difference
        low, high = shown(spread.low, signed=True), shown(spread.high, signed=True)
        table.add_row(
            Text(subject),
            score,
            str(change.questions),
            shown(change.then),
            shown(change.now),
            f"{shown(spread.value, signed=True)} ({low} … {high})",
            f"{spread.p:.3f}",
            Text(change.verdict, style=_COLORS[change.verdict]),
        )
    return table


def headline_table(evaluation: Evaluation) -> Table:
    """Show scores before and after training by category and language, then the form of all answers."""
    from bonsai.recipes.evaluation.metrics import METRICS
    from bonsai.recipes.evaluation.report import form_lines, headlines, shown

    table = Table(title=f"{evaluation.recipe}: before and after (95 % intervals)", title_style="bold")
    for column in ("what", "score"):
        table.add_column(column)
    for column in ("n", "before", "after", "difference"):
        table.add_column(column, justify="right")
    for section in (headlines(evaluation), form_lines(evaluation)):
        for line in section:
            spread = line.difference
            table.add_row(
                f"{line.origin}: {line.category}, {line.spoken}" if line.category != "all" else f"all {line.origin}",
                METRICS[line.metric].english,
                str(line.answers),
                shown(line.before.value, line.metric),
                shown(line.after.value, line.metric) if line.after else "",
                f"{shown(spread.value, line.metric, signed=True)} "
                f"({shown(spread.low, line.metric, signed=True)} … {shown(spread.high, line.metric, signed=True)})"
                if spread
                else "",
            )
        table.add_section()
    return table
