"""Implement `bonsai evaluate`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bonsai.builder.files import atomic_write_text, exclusive
from bonsai.cli.common import AnswerProgress, ensure_base_models, note_stage, quiet_libraries
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import Recipe, RecipeError, load_recipe

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.results import Evaluation, ScoreChange
    from bonsai.recipes.evaluation.statistics import Change

_COLOURS = {"worse": "red", "better": "green", "unchanged": "dim"}


class ChangeRow(NamedTuple):
    """One score, then and now."""

    what: str
    score: str
    change: Change
    shown: Callable[..., str]
    """a number as a reader expects it, with ``signed`` for a difference"""


def changes_table(earlier: str, columns: tuple[str, str], lines: Iterable[ChangeRow]) -> Table:
    """The table; ``columns`` head what was scored and the score."""
    table = Table(title=Text(f"against {earlier} (95 % intervals, paired test)"), title_style="bold")
    for column in columns:
        table.add_column(column)
    for column in ("n", "then", "now", "difference", "p"):
        table.add_column(column, justify="right")
    table.add_column("")
    for what, score, change, shown in lines:
        spread = change.difference
        low, high = shown(spread.low, signed=True), shown(spread.high, signed=True)
        table.add_row(
            Text(what),
            score,
            str(change.questions),
            shown(change.then),
            shown(change.now),
            f"{shown(spread.value, signed=True)} ({low} … {high})",
            f"{spread.p:.3f}",
            Text(change.verdict, style=_COLOURS[change.verdict]),
        )
    return table


ANSWERS = "answers"
"""below the output folder: answers kept as they come"""


def evaluate(
    name: str,
    *,
    out: Path,
    console: Console,
    base: bool = False,
    decoder: str = "greedy",
    limit: int | None = None,
    against: str | None = None,
) -> bool:
    """Evaluate one recipe's adapter, or its bare base model, inside `hub_for`; print and write what came of it.

    Args:
        limit: questions of each category and language at most; 0: all; None: as the machine allows.
        against: a folder or a revision to compare with.

    Returns:
        Whether nothing got worse, beyond chance, than in ``against``.

    Raises:
        RecipeError, EvaluationError, GenerationError: with the reason.
        FolderInUseError: another run trains, evaluates or publishes this adapter.
    """
    recipe = load_recipe(name)
    adapter = None if base else out / "adapters" / name
    with exclusive(adapter or out / "base" / name):
        return _evaluate(name, recipe, adapter, out, console, decoder, limit, against)


def _evaluate(
    name: str,
    recipe: Recipe,
    adapter: Path | None,
    out: Path,
    console: Console,
    decoder: str,
    limit: int | None,
    against: str | None,
) -> bool:
    missing = [package for package in ("torch", "peft", "sacrebleu") if importlib.util.find_spec(package) is None]
    if missing:
        raise RecipeError(f"{', '.join(missing)} not installed; pip install 'qeu-bonsai[train]'")
    quiet_libraries()
    from bonsai.recipes.evaluation.evaluate import evaluate as evaluate_recipe
    from bonsai.recipes.evaluation.evaluate import scope
    from bonsai.recipes.evaluation.lm_eval import FOLDER as HARNESS
    from bonsai.recipes.evaluation.lm_eval import write_tasks
    from bonsai.recipes.evaluation.report import PAGE, card_evaluation, page
    from bonsai.recipes.evaluation.results import FOLDER, compare_evaluations, load_evaluation
    from bonsai.recipes.training.release import edited_card, write_card
    from bonsai.recipes.training.run_record import FOLDER as RECORD_FOLDER
    from bonsai.recipes.training.run_record import RUN_FILE as RECORD
    from bonsai.recipes.training.run_record import read_record

    earlier = load_evaluation(against, with_namespace(recipe.repo_id)) if against else None
    ensure_base_models([name])
    started = time.perf_counter()
    answered = {"before": started}
    with AnswerProgress(console) as bars:

        def tell(when: str, done: int, total: int) -> None:
            answered[when] = time.perf_counter()
            bars.tell(f"answers {when} training", done, total)

        evaluation = evaluate_recipe(
            name,
            recipe,
            adapter=adapter,
            dataset=out / "dataset",
            answers=out / ANSWERS,
            scope=scope(decoder, limit),
            on_progress=tell,
        )
    note_stage("ask before", answered["before"] - started)
    if adapter is not None:
        note_stage("ask after", time.perf_counter() - answered["before"])
    suffix = "" if decoder == "greedy" else f"-{decoder}"
    folder = (adapter or out / "base" / name) / f"{FOLDER}{suffix}"
    evaluation.write(folder)
    atomic_write_text(folder / PAGE, page(evaluation))
    trained = adapter is not None and (adapter / RECORD_FOLDER / RECORD).is_file()
    write_tasks(
        [one.item for one in evaluation.items],
        folder / HARNESS,
        base=evaluation.settings.base_model,
        adapter=with_namespace(recipe.repo_id),
        max_new_tokens=evaluation.settings.decoder.max_new_tokens,
        bos=adapter is not None and trained and bool(read_record(adapter).prompt_beginning),
    )
    if adapter is not None and trained and not suffix:
        if edited := edited_card(adapter):
            console.print(edited, markup=False, soft_wrap=True)
        write_card(recipe, adapter, card_evaluation(adapter))
    console.print(headline_table(evaluation))
    told = f"{name}: {len(evaluation.items)} questions in {time.perf_counter() - started:.0f} s; page -> "
    console.print(Text.assemble(told, (str(folder / PAGE), "bold")))
    if earlier is None:
        return True
    changes = compare_evaluations(earlier, evaluation)
    console.print(_changes_table(changes, str(against)))
    worse = [change for change in changes if change.verdict == "worse"]
    better = [change for change in changes if change.verdict == "better"]
    console.print(
        f"against {against}: {len(better)} better, {len(worse)} worse beyond chance, of {len(changes)} compared"
    )
    return not worse


def headline_table(evaluation: Evaluation) -> Table:
    """Before and after by category and language, then the form of all answers."""
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


def _changes_table(changes: Sequence[ScoreChange], against: str) -> Table:
    from bonsai.recipes.evaluation.metrics import METRICS
    from bonsai.recipes.evaluation.report import shown

    return changes_table(
        against,
        ("what", "score"),
        (
            ChangeRow(
                f"{change.origin}: {change.category}, {change.spoken}",
                METRICS[change.metric].english,
                change,
                partial(shown, metric=change.metric),
            )
            for change in changes
        ),
    )
