"""The whole plan of a run: records and steps, memory by part, time and cost by GPU, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from bonsai.recipes.training.data import TrainingRows
from bonsai.recipes.training.plan.gpus import CPU_TOKENS_PER_SECOND, GPUS, T4, Gpu, Range
from bonsai.recipes.training.plan.kernel_time import kernels, on_gpu
from bonsai.recipes.training.plan.memory import Peak, peak
from bonsai.recipes.training.plan.packing import Rows
from bonsai.recipes.training.plan.records import lengths
from bonsai.recipes.training.plan.several_gpus import cut_up, exchange_ms
from bonsai.recipes.training.plan.shapes import STANDS_IN_THE_WAY, KnownBase, base_of
from bonsai.recipes.training.plan.verdict import Settings, needed_gib, told
from bonsai.recipes.training.process import accumulation_steps
from bonsai.recipes.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class OnGpu:
    """The run on one kind of GPU, or on several of it; an estimate."""

    gpu: Gpu
    needed_gib: float
    """of each, with the allocator's slack and the CUDA context"""
    fits: bool
    graph: bool
    minutes: Range
    """of training steps alone: without downloads and evaluation; the shorter first"""
    usd: Range
    tokens_per_second: Range
    times_stock: Range
    """how many times as fast as TRL packed as it comes, on the same GPU by the same estimate; the smaller first"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a recipe will take."""

    name: str
    base_model: str
    base: KnownBase
    settings: Settings
    rows: Rows
    together: int
    """GPUs that train together"""
    steps: int
    """optimizer steps"""
    micro_steps: int
    """of each GPU"""
    tokens: int
    """seen in the whole run"""
    overlong: int
    """records that max_length refuses"""
    peak: Peak
    """on a T4"""
    gpus: tuple[OnGpu, ...]
    refusal: str | None
    """why it does not run on a T4"""
    obstacles: tuple[str, ...]
    cpu_minutes: float | None
    cut_up: Peak | None
    """of each GPU where FSDP cuts the base up among them, without the engine; None: one GPU"""

    @property
    def packing_efficiency(self) -> float:
        """Share of the packed rows that is tokens of records."""
        return self.rows.tokens / (self.rows.rows * self.settings.max_length) if self.settings.packing else 1.0

    @property
    def verdict(self) -> str:
        """One sentence."""
        t4 = self.gpus[0]
        room = f"{t4.needed_gib:.1f} of a 16 GB T4's {t4.gpu.memory_gib:.1f} GiB"
        there = "there" if self.together == 1 else f"on {self.together} of them"
        if self.obstacles:
            fits = f"its {room} would do, but " if t4.fits else ""
            return f"{self.base_model}: {fits}it can't be trained here: {'; '.join(self.obstacles)}."
        if self.refusal:
            return f"{self.refusal}."
        if self.cpu_minutes is not None:
            return f"{self.name} needs no GPU: about {self.cpu_minutes:.0f} minutes on two CPU cores; with one, {room}."
        return (
            f"{self.name} fits: it takes {room}, and about {t4.minutes.low:.0f} to {t4.minutes.high:.0f} minutes of "
            f"training {there} (an estimate)."
        )


def plan(name: str, recipe: Recipe, rows: TrainingRows, base: KnownBase | None = None, *, together: int = 1) -> Plan:
    """The plan of a recipe over its records.

    Args:
        base: the base's sizes where they are at hand; None: looked up by the recipe.
        together: GPUs of one machine, as `accelerate launch` starts them.

    Raises:
        UnknownBaseError: nothing is known of the base's sizes.
        RecipeError: a target module is none of the base's.
    """
    base = base or base_of(recipe.base_model, recipe.base_model_revision)
    settings = replace(Settings.of(recipe), gradient_accumulation_steps=accumulation_steps(recipe, together))
    records = lengths(rows, base.vocabulary)
    packed = settings.rows(records)
    micro_steps_an_epoch = math.ceil(packed.rows / recipe.per_device_train_batch_size / together)
    steps_an_epoch = math.ceil(micro_steps_an_epoch / settings.gradient_accumulation_steps)
    steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(recipe.num_train_epochs * steps_an_epoch)
    epochs = steps / steps_an_epoch
    micro_steps = math.ceil(epochs * micro_steps_an_epoch)
    tokens = round(epochs * packed.tokens)
    speed = CPU_TOKENS_PER_SECOND.get(recipe.base_model)
    return Plan(
        name=name,
        base_model=recipe.base_model,
        base=base,
        settings=settings,
        rows=packed,
        together=together,
        steps=steps,
        micro_steps=micro_steps,
        tokens=tokens,
        overlong=sum(record.whole > recipe.max_length for record in records),
        peak=peak(base.shape, settings.for_memory(), packed, workspace=T4.workspace),
        gpus=tuple(_on(gpu, base, settings, packed, Amount(together, steps, micro_steps, tokens)) for gpu in GPUS),
        refusal=told(name, recipe.base_model, base.shape, settings, records, "a 16 GB T4", T4.memory_gib),
        obstacles=STANDS_IN_THE_WAY.get(recipe.base_model, ()),
        cpu_minutes=None if recipe.needs_gpu or speed is None else tokens / speed / 60,
        cut_up=cut_up(base.shape, settings.for_memory(), packed, together) if together > 1 else None,
    )


class Amount(NamedTuple):
    """What there is to do."""

    together: int
    steps: int
    micro_steps: int
    tokens: int


def _on(gpu: Gpu, base: KnownBase, settings: Settings, rows: Rows, amount: Amount) -> OnGpu:
    ours = on_gpu(kernels(base.shape, rows, settings.r, "engine"), gpu)
    stock = on_gpu(kernels(base.shape, rows, settings.r, "stock"), gpu)
    graph = ours.graph and not settings.gradient_checkpointing
    needed = needed_gib(base.shape, settings, rows, graph=graph, workspace=gpu.workspace)
    trained = base.shape.adapter_weights(settings.r, settings.target_modules)
    exchange = exchange_ms(trained, amount.together, gpu)
    seconds = [
        (step * amount.micro_steps + agreeing * amount.steps) / 1e3
        for step, agreeing in zip(ours.milliseconds, exchange, strict=True)
    ]
    times = sorted(theirs / mine for theirs, mine in zip(stock.milliseconds, ours.milliseconds, strict=True))
    return OnGpu(
        gpu=gpu,
        needed_gib=needed,
        fits=needed <= gpu.memory_gib,
        graph=graph,
        minutes=Range(*(value / 60 for value in seconds)),
        usd=Range(*(value / 3600 * gpu.usd_per_hour * amount.together for value in seconds)),
        tokens_per_second=Range(*(amount.tokens / value for value in reversed(seconds))),
        times_stock=Range(*times),
    )
