"""Implement `bonsai plan`: estimate memory, time and cost of training before anything is downloaded."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.bar import Bar
from rich.table import Table
from rich.text import Text

from bonsai.cli.common import OUT, Out, console, quiet_libraries
from bonsai.recipes.training.plan.gpus import JOB_PRICES, PRICES_FROM, PRICES_READ, Bounds
from bonsai.recipes.training.plan.memory import GIB
from bonsai.recipes.training.plan.model_shapes import lookup_base
from bonsai.recipes.training.plan.speed import METHOD, measured_on
from bonsai.recipes.training.recipe import RecipeError, load_recipe

if TYPE_CHECKING:
    from bonsai.recipes.training.plan.plan import TrainingPlan

DEFAULT_RECIPE = "phi3_mini"
"""its settings and records are used for a base that has no recipe"""


def plan(
    recipe: Annotated[str | None, typer.Argument(help="Recipe name. レシピ名。")] = None,
    base: Annotated[str | None, typer.Option(help="Another base model in its place. 別の土台モデル。")] = None,
    gpus: Annotated[int, typer.Option(min=1, max=8, help="That train together. 同時に使うGPU数。")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="For other programs. JSONで出力。")] = False,
    out: Out = OUT,
) -> None:
    """Say what a recipe will take: memory, time, cost. 必要なメモリ・時間・費用を見積もる。"""
    quiet_libraries()
    from bonsai.recipes.training.data import load_training_rows
    from bonsai.recipes.training.plan.plan import make_plan

    if recipe is None and base is None:
        raise RecipeError(
            "nothing to plan: name a recipe (`bonsai plan phi2_category`) or a base (`--base microsoft/phi-2`)"
        )
    settings = load_recipe(recipe or DEFAULT_RECIPE)
    shape = None
    if base is not None:
        shape = lookup_base(base)
        settings = replace(
            settings, base_model=base, target_modules="all-linear", base_model_package=None, needs_gpu=True
        )
    rows = load_training_rows(settings, out / "dataset")
    made = make_plan(recipe or base or "", settings, rows, shape, num_gpus=gpus)
    if as_json:
        console.print_json(json.dumps(as_dict(made)))
    else:
        print_plan(made)


def print_plan(made: TrainingPlan) -> None:
    """Print the plan as text and two tables."""
    # 1. What is trained.
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
    # 2. The memory by part, and each GPU's time and price.
    console.print(memory_table(made), gpu_table(made), sep="\n")
    # 3. How the figures were obtained, and the verdict.
    for line in plan_notes(made):
        console.print(line, style="dim")
    console.print(made.verdict, style="bold")


def memory_table(made: TrainingPlan) -> Table:
    """Show the parts of GPU memory at the peak, in GiB."""
    from bonsai.recipes.training.plan.plan import CONTEXT_GIB, allocator_overhead

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


def gpu_table(made: TrainingPlan) -> Table:
    """Show minutes, tokens per second and US dollars on each GPU."""
    table = Table(title="Time and cost, estimated (時間と費用の見積もり)", title_style="bold", title_justify="left")
    for name in ("GPU", "GiB needed", "minutes", "tokens/s", "US$", "× stock TRL"):
        table.add_column(name, justify="left" if name == "GPU" else "right", no_wrap=True)
    for one in made.gpus:
        runs = one.fits and not made.obstacles
        estimates = ("-",) * 3
        if runs:
            estimates = (_between(one.minutes, 0), _between(one.tokens_per_second, 0), _between(one.usd, 2))
        table.add_row(
            one.gpu.name if made.num_gpus == 1 else f"{made.num_gpus} × {one.gpu.name}",
            f"{one.needed_gib:.1f} of {one.gpu.memory_gib:.1f}",
            *estimates,
            _between(one.times_stock, 1) if runs and made.cpu_minutes is None else "-",
        )
    return table


def _between(range_: Bounds, digits: int) -> str:
    low, high = (f"{value:,.{digits}f}" for value in range_)
    if float(high.replace(",", "")) == 0:
        return f"< {10**-digits:.{digits}f}"
    return low if low == high else f"{low}-{high}"


def plan_notes(made: TrainingPlan) -> list[str]:
    """Say how the figures were obtained, a line each."""
    notes = [
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
        notes += [
            f"{made.num_gpus} GPUs: started by `accelerate launch --num_processes {made.num_gpus} "
            "-m bonsai.cli.main train RECIPE`; each holds the whole base, and the gradients' way between them is "
            "assumed (T4, L4: PCIe).",
            "Kaggle lends two T4 with a torch and a torchao that peft refuses, which the notebook removes; the version "
            "of its driver is not known to us, and torch for CUDA 13 needs 580: keep the one installed there.",
            "FSDP in its place (TRL alone, without the engine) would split the base: "
            f"{made.fsdp_peak.gib:.1f} GiB at the peak of each GPU; with a 13B base on two GPUs it was a sixth as fast "
            "as the engine (benchmarks/results/several_gpus_h200.json).",
        ]
    if not made.base.counts_are_its_own:
        notes.append(
            "Tokens: counted with GPT-2's vocabulary, which stands in for this base's own; it may need more or fewer."
        )
    if made.obstacles:
        notes.append(
            "Memory: counted as if the engine's pieces fitted this base's layers; sizes from its public config."
        )
    return notes


def as_dict(made: TrainingPlan) -> dict[str, Any]:
    """Convert the plan for other programs; in GiB, minutes and US dollars."""
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
