"""Implement `bonsai plan`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bonsai.cli.common import quiet_libraries
from bonsai.recipes.training.plan.memory import GIB, Peak
from bonsai.recipes.training.plan.model_shapes import lookup_base
from bonsai.recipes.training.plan.plan import CONTEXT_GIB, GpuEstimate, TrainingPlan, allocator_overhead
from bonsai.recipes.training.plan.plan import make_plan as plan_of
from bonsai.recipes.training.plan.speed import JOB_PRICES, METHOD, PRICES_FROM, PRICES_READ, Bounds, measured_on
from bonsai.recipes.training.recipe import RecipeError, load_recipe

DEFAULT_RECIPE = "phi3_mini"
"""whose settings and records a base without a recipe is planned with"""


def plan(
    name: str | None,
    *,
    base: str | None = None,
    gpus: int = 1,
    out: Path,
    as_json: bool = False,
    console: Console,
) -> TrainingPlan:
    """Say what a recipe will take, before anything is downloaded.

    Args:
        name: a recipe; None: ``DEFAULT_RECIPE`` if a base is named.
        base: another base model (a Hub id or a folder with config.json) in the recipe's place.
        gpus: of one machine that train together.
        out: where the dataset is built.

    Raises:
        RecipeError: unknown recipe or base, or no dataset is built.
    """
    quiet_libraries()
    from bonsai.recipes.training.data import load_training_rows

    if name is None and base is None:
        raise RecipeError("plan what? name a recipe (`bonsai plan phi2_category`) or a base (`--base microsoft/phi-2`)")
    recipe = load_recipe(name or DEFAULT_RECIPE)
    known = None
    if base is not None:
        known = lookup_base(base)
        recipe = replace(recipe, base_model=base, target_modules="all-linear", base_model_package=None, needs_gpu=True)
    made = plan_of(name or base or "", recipe, load_training_rows(recipe, out / "dataset"), known, num_gpus=gpus)
    if as_json:
        console.print_json(json.dumps(as_dict(made)))
    else:
        print_plan(made, console)
    return made


def print_plan(made: TrainingPlan, console: Console) -> None:
    """The plan as tables."""
    rows, settings, shape = made.rows, made.settings, made.base.shape
    size = f"{shape.parameters() / 1e9:.2f} billion weights"
    full = f"{made.packing_efficiency:.1%} full"
    on_each = "" if made.num_gpus == 1 else f" on each of {made.num_gpus} GPUs"
    console.print(Text(made.name, style="bold"), end="")
    console.print(
        f": {made.base_model}, {size} in NF4, r={settings.r}\n"
        f"  records {rows.records:,} with {rows.tokens:,} tokens, {rows.learnt / rows.tokens:.0%} of them learnt "
        f"(記録数・トークン数・学習対象)\n"
        f"  rows    {rows.rows:,} of up to {settings.max_length:,} tokens, {full} (詰め込み率)\n"
        f"  steps   {made.steps:,} in {made.micro_steps:,} micro-steps{on_each} over {made.tokens:,} tokens "
        "(学習ステップ)"
    )
    if made.overlong:
        longer = (f"  {made.overlong} records are longer than max_length", "bold")
        console.print(Text.assemble(longer, ": training will refuse them"))
    console.print(_memory(made), _gpus(made), sep="\n")
    for line in plan_notes(made):
        console.print(line, style="dim")
    console.print(made.verdict, style="bold")


def _memory(made: TrainingPlan) -> Table:
    t4, peak = made.gpus[0], made.peak
    table = Table(
        title=f"GPU memory at the peak, {peak.moment} (GPUメモリの内訳)", title_style="bold", title_justify="left"
    )
    table.add_column("part")
    table.add_column("GiB", justify="right")
    table.add_column("", width=32)
    largest = max(part.bytes for part in peak.parts)
    for part in peak.parts:
        table.add_row(part.name, f"{part.bytes / GIB:.2f}", Bar(largest, 0, part.bytes, width=32))
    table.add_section()
    table.add_row("peak, as max_memory_allocated counts", f"{peak.gib:.2f}", "")
    table.add_row(
        f"needed: + {allocator_overhead() - 1:.0%} slack, {CONTEXT_GIB} GiB CUDA context", f"{t4.needed_gib:.2f}", ""
    )
    return table


def _gpus(made: TrainingPlan) -> Table:
    table = Table(title="Time and cost, estimated (時間と費用の見積もり)", title_style="bold", title_justify="left")
    for name in ("GPU", "GiB needed", "minutes", "tokens/s", "US$", "× stock TRL"):
        table.add_column(name, justify="left" if name == "GPU" else "right", no_wrap=True)
    for one in made.gpus:
        runs = one.fits and not made.obstacles
        table.add_row(
            one.gpu.name if made.num_gpus == 1 else f"{made.num_gpus} × {one.gpu.name}",
            f"{one.needed_gib:.1f} of {one.gpu.memory_gib:.1f}",
            *(_estimated(one) if runs else ("-",) * 3),
            _between(one.times_stock, 1) if runs and made.cpu_minutes is None else "-",
        )
    return table


def _estimated(one: GpuEstimate) -> tuple[str, str, str]:
    return _between(one.minutes, 0), _between(one.tokens_per_second, 0), _between(one.usd, 2)


def _between(range_: Bounds, digits: int) -> str:
    low, high = (f"{value:,.{digits}f}" for value in range_)
    if float(high.replace(",", "")) == 0:
        return f"< {10**-digits:.{digits}f}"
    return low if low == high else f"{low}-{high}"


def plan_notes(made: TrainingPlan) -> list[str]:
    """How the figures came about, a line each."""
    said = [
        f"Time: {METHOD.format(on=measured_on())}. Training steps only: the download "
        f"({2 * made.base.shape.parameters() / 1e9:.1f} GB), its quantisation and the evaluations come on top.",
        "What a GPU has left over holds weights dequantised while it trains; neither memory nor times count that.",
        "× stock TRL: how many times as fast as TRL's own packed training, modelled the same way.",
        "US$ an hour: "
        + ", ".join(f"{one.gpu.name} {one.gpu.usd_per_hour:.2f}" for one in made.gpus)
        + f"; list prices of Hugging Face Jobs of {PRICES_READ}, an H100's (not rented there) assumed; the current "
        f"list is at {PRICES_FROM}; a T4 with more processor and memory beside it (t4-medium) is "
        f"{JOB_PRICES['t4-medium']:.2f}. A T4 on Colab's free tier costs nothing while it lasts.",
    ]
    if made.fsdp_peak is not None:
        said += _several(made, made.fsdp_peak)
    if not made.base.counts_are_its_own:
        said.append(
            "Tokens: counted with GPT-2's vocabulary, which stands in for this base's own; it may need more or fewer."
        )
    if made.obstacles:
        said.append(
            "Memory: counted as if the engine's pieces fitted this base's layers; sizes from its public config."
        )
    return said


def _several(made: TrainingPlan, cut: Peak) -> list[str]:
    return [
        f"{made.num_gpus} GPUs: started by `accelerate launch --num_processes {made.num_gpus} "
        "-m bonsai.cli.main train RECIPE`; each holds the whole base, and the gradients' way between them is "
        "assumed (T4, L4: PCIe).",
        "Kaggle lends two T4 with a torch and a torchao that peft refuses, which the notebook removes; the version of "
        "its driver is not known to us, and torch for CUDA 13 needs 580: keep the torch that lies there.",
        f"FSDP in its place (TRL alone, without the engine) would cut the base up: {cut.gib:.1f} GiB at the peak of "
        "each GPU; with a 13B base on two GPUs it was a sixth as fast as the engine (benchmarks/results/"
        "several_gpus_h200.json).",
    ]


def as_dict(made: TrainingPlan) -> dict[str, Any]:
    """The plan for other programs; GiB, minutes, US dollars."""
    return {
        "recipe": made.name,
        "base_model": made.base_model,
        "settings": asdict(made.settings),
        "records": made.rows.records,
        "tokens": made.rows.tokens,
        "learnt_tokens": made.rows.learnt,
        "token_counts_are_the_base_models_own": made.base.counts_are_its_own,
        "rows": made.rows.rows,
        "packing_efficiency": made.packing_efficiency,
        "records_too_long": made.overlong,
        "gpus_together": made.num_gpus,
        "steps": made.steps,
        "micro_steps": made.micro_steps,
        "tokens_in_the_run": made.tokens,
        "peak_moment": made.peak.moment,
        "peak_gib": made.peak.gib,
        "peak_by_part_gib": {part.name: part.bytes / GIB for part in made.peak.parts},
        "peak_under_fsdp_gib": None if made.fsdp_peak is None else made.fsdp_peak.gib,
        "gpus": [
            {
                "gpu": one.gpu.name,
                "flavour": one.gpu.flavour,
                "needed_gib": one.needed_gib,
                "has_gib": one.gpu.memory_gib,
                "fits": one.fits,
                "cuda_graph": one.graph,
                "minutes": one.minutes._asdict(),
                "usd": one.usd._asdict(),
                "times_stock_trl_packed": one.times_stock._asdict(),
            }
            for one in made.gpus
        ],
        "notes": plan_notes(made),
        "runs_on_a_t4": not made.refusal and not made.obstacles,
        "verdict": made.verdict,
    }
