"""`bonsai evaluate`."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bonsai.builder.folder import exclusive
from bonsai.cli.bars import Bars
from bonsai.cli.changes_table import Line, changes_table
from bonsai.cli.console import note_stage
from bonsai.cli.quieting import quiet_libraries
from bonsai.cli.serving import ensure_bases
from bonsai.hub.client.destination import in_namespace
from bonsai.recipes.training.recipe import Recipe, RecipeError
from bonsai.recipes.training.registry import load_recipe

if TYPE_CHECKING:
    from bonsai.recipes.evaluation.against import Change
    from bonsai.recipes.evaluation.record import Evaluation

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
    from bonsai.recipes.evaluation.against import compare, find_evaluation
    from bonsai.recipes.evaluation.card_results import evaluation_of
    from bonsai.recipes.evaluation.harness import FOLDER as HARNESS
    from bonsai.recipes.evaluation.harness import write_tasks
    from bonsai.recipes.evaluation.page import PAGE, page
    from bonsai.recipes.evaluation.record import FOLDER, write_whole
    from bonsai.recipes.evaluation.run import evaluate as evaluate_recipe
    from bonsai.recipes.evaluation.run import scope
    from bonsai.recipes.training.record import FOLDER as RECORD_FOLDER
    from bonsai.recipes.training.record import NAME as RECORD
    from bonsai.recipes.training.record import read_record
    from bonsai.recipes.training.release import edited_card, write_card

    earlier = find_evaluation(against, in_namespace(recipe.repo_id)) if against else None
    ensure_bases([name])
    started = time.perf_counter()
    answered = {"before": started}
    with Bars(console) as bars:

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
            told=tell,
        )
    note_stage("ask before", answered["before"] - started)
    if adapter is not None:
        note_stage("ask after", time.perf_counter() - answered["before"])
    suffix = "" if decoder == "greedy" else f"-{decoder}"
    folder = (adapter or out / "base" / name) / f"{FOLDER}{suffix}"
    evaluation.write(folder)
    write_whole(folder / PAGE, page(evaluation))
    trained = adapter is not None and (adapter / RECORD_FOLDER / RECORD).is_file()
    write_tasks(
        [one.item for one in evaluation.items],
        folder / HARNESS,
        base=evaluation.settings.base_model,
        adapter=in_namespace(recipe.repo_id),
        max_new_tokens=evaluation.settings.decoder.max_new_tokens,
        bos=adapter is not None and trained and bool(read_record(adapter).prompt_beginning),
    )
    if adapter is not None and trained and not suffix:
        if edited := edited_card(adapter):
            console.print(edited, markup=False, soft_wrap=True)
        write_card(recipe, adapter, evaluation_of(adapter))
    console.print(headline_table(evaluation))
    told = f"{name}: {len(evaluation.items)} questions in {time.perf_counter() - started:.0f} s; page -> "
    console.print(Text.assemble(told, (str(folder / PAGE), "bold")))
    if earlier is None:
        return True
    changes = compare(earlier, evaluation)
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
    from bonsai.recipes.evaluation.page import form_lines, headlines, shown

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


def _changes_table(changes: Sequence[Change], against: str) -> Table:
    from bonsai.recipes.evaluation.metrics import METRICS
    from bonsai.recipes.evaluation.page import shown

    return changes_table(
        against,
        ("what", "score"),
        (
            Line(
                f"{change.origin}: {change.category}, {change.spoken}",
                METRICS[change.metric].english,
                change,
                partial(shown, metric=change.metric),
            )
            for change in changes
        ),
    )
