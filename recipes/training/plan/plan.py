"""Plan a run: records and steps, memory by part, time and cost by GPU, and whether it fits.

    plan = make_plan("phi2_category", recipe, rows)
    plan.verdict        # "phi2_category fits: it takes ... of a 16 GB T4's 15.0 GiB, and about ... minutes ..."

With several GPUs the engine keeps the whole base on each and averages the adapter's gradients once a step. FSDP
(https://arxiv.org/abs/2304.11277) under TRL alone shards base, adapter and optimizer and gathers each layer when it is
needed; `benchmarks/several_gpus.py` measures both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

from bonsai.builder.token_counts import Vocabulary, count_tokens
from bonsai.recipes.training.data import TrainingRows
from bonsai.recipes.training.plan.gpus import GPUS, T4, Bounds, Gpu
from bonsai.recipes.training.plan.memory import (
    FULL,
    GIB,
    LOW,
    Length,
    Part,
    Peak,
    PlanSettings,
    Rows,
    estimate_peak,
    peak_with_cuda_graph,
    quantised_bytes,
)
from bonsai.recipes.training.plan.model_shapes import (
    UNSUPPORTED_BASES,
    KnownBase,
    ModelShape,
    UnknownBaseError,
    lookup_base,
)
from bonsai.recipes.training.plan.speed import CPU_TOKENS_PER_SECOND, estimate_on, kernels, measured_runs
from bonsai.recipes.training.recipe import Recipe, RecipeError, gradient_accumulation_steps

END_MARK = 1
"""tokens after each completion"""
CONTEXT_GIB = 0.5
"""what CUDA and its libraries take beside PyTorch's tensors; assumed, `max_memory_allocated` doesn't count it"""
LOCKSTEP_MS = 4.0
"""a step in which GPUs wait for one another, beyond moving the gradients; measured on two H200 with the Phi-2 shape on
2026-11-21: 72.7 ms a step where one alone takes 68.2"""
_LENGTH_STEP = 128
_SMALLER_RANKS = (8, 4)


def record_lengths(rows: TrainingRows, vocabulary: Vocabulary) -> list[Length]:
    """Count the tokens of the training records, in their order."""
    prompts, completions = list(rows.train["prompt"]), list(rows.train["completion"])
    before = count_tokens(prompts, vocabulary)
    # concatenated: the last token of a prompt and the first of its completion may merge into one
    whole = count_tokens([prompt + rest for prompt, rest in zip(prompts, completions, strict=True)], vocabulary)
    return [Length(first, both - first + END_MARK) for first, both in zip(before, whole, strict=True)]


@cache
def allocator_overhead() -> float:
    """Return the largest ratio of reserved to allocated memory in the measured runs without a graph."""
    runs = [run for run in measured_runs() if run["variant"] == "+ optimizer"]
    return float(max(run["peak_reserved_gib"] / run["peak_gib"] for run in runs))


def needed_gib(
    shape: ModelShape, settings: PlanSettings, rows: Rows, *, graph: bool = False, workspace: int = T4.workspace
) -> float:
    """Return the GiB of GPU memory a run needs: its peak, the allocator's overhead and the CUDA context."""
    if graph:
        tensors = peak_with_cuda_graph(shape, settings, rows, workspace=workspace)
    else:
        tensors = estimate_peak(shape, settings, rows, workspace=workspace).bytes
    return tensors / GIB * allocator_overhead() + CONTEXT_GIB


def suggest_fitting_settings(
    shape: ModelShape, settings: PlanSettings, records: Sequence[Length], memory_gib: float
) -> tuple[PlanSettings, float] | None:
    """Find the closest settings that fit, and the GiB they need; None: none do.

    What changes least comes first: the same gradient in smaller micro-batches, then shorter rows, then slower steps
    (checkpointing), then a smaller adapter.
    """
    longest = max(record.whole for record in records)  # a row must hold every record
    batch = settings.per_device_train_batch_size
    single = replace(
        settings,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=settings.gradient_accumulation_steps * batch,
    )
    first = (settings.max_length - 1) // _LENGTH_STEP * _LENGTH_STEP
    shorter = range(first, longest - 1, -_LENGTH_STEP) if settings.packing else ()
    ranks = [settings.r, *(rank for rank in _SMALLER_RANKS if rank < settings.r)]
    candidates = [single] if batch > 1 else []
    for r in ranks:
        for checkpointing in sorted({settings.gradient_checkpointing, True}):
            start = replace(single, r=r, gradient_checkpointing=checkpointing)
            candidates += [start, *(replace(start, max_length=max_length) for max_length in shorter)]
    for changed in candidates:
        needed = needed_gib(shape, changed, changed.rows(records))
        if needed <= memory_gib:
            return changed, needed
    return None


def as_recipe_overrides(settings: PlanSettings, changed: PlanSettings) -> str:
    """Format the fields that differ as they are written into a recipe: "max_length=1024, r=8"."""
    names = ("per_device_train_batch_size", "gradient_accumulation_steps", "max_length", "gradient_checkpointing", "r")
    return ", ".join(
        f"{name}={getattr(changed, name)}" for name in names if getattr(changed, name) != getattr(settings, name)
    )


def explain_misfit(
    name: str,
    base: str,
    shape: ModelShape,
    settings: PlanSettings,
    records: Sequence[Length],
    where: str,
    memory_gib: float,
) -> str | None:
    """Explain why a run does not fit into ``memory_gib`` and which change makes it fit; None: it fits.

    Args:
        where: names the GPU in the sentence ("a 16 GB T4").
    """
    needed = needed_gib(shape, settings, settings.rows(records))
    if needed <= memory_gib:
        return None
    message = f"{name} ({base}) needs {needed:.1f} GiB of GPU memory and {where} has {memory_gib:.1f}"
    found = suggest_fitting_settings(shape, settings, records, memory_gib)
    if found is None:
        remedy = "take a larger GPU or a smaller base"
        return f"{message}; no shorter row, smaller rank or checkpointing makes it fit: {remedy}"
    changed, then = found
    overrides = as_recipe_overrides(settings, changed)
    return f"{message}; the nearest setting that fits: write {overrides} into the recipe ({then:.1f} GiB)"


def check_fits_gpu(name: str, recipe: Recipe, rows: TrainingRows, gpu_memory_bytes: int) -> None:
    """Refuse a run that cannot fit before anything is downloaded; a base of unknown sizes passes.

    Args:
        gpu_memory_bytes: the device's whole memory.

    Raises:
        RecipeError: it cannot fit, or this base cannot be trained here at all.
    """
    check_supported_base(recipe.base_model)
    try:
        base = lookup_base(recipe.base_model, recipe.base_model_revision)
    except UnknownBaseError:
        return
    records = record_lengths(rows, base.vocabulary)
    refusal = explain_misfit(
        name, recipe.base_model, base.shape, PlanSettings.of(recipe), records, "this GPU", gpu_memory_bytes / GIB
    )
    if refusal:
        raise RecipeError(refusal)


def check_supported_base(base_model: str) -> None:
    """Refuse a base that no setting makes trainable.

    Raises:
        RecipeError: with the reasons.
    """
    reasons = UNSUPPORTED_BASES.get(base_model)
    if reasons:
        raise RecipeError(f"{base_model} can't be trained here: {'; '.join(reasons)}")


def allreduce_ms(adapter_weights: int, gpus: int, gpu: Gpu) -> Bounds:
    """Estimate the milliseconds that averaging the gradients adds to a step, the shorter first; 0 for one GPU.

    A ring all-reduce sends 2 (n - 1) / n of the float32 gradients over each GPU's link.
    """
    if gpus == 1:
        return Bounds(0.0, 0.0)
    sent = 2 * (gpus - 1) / gpus * FULL * adapter_weights
    ends = zip(gpu.link_gb, gpu.launch_overhead, strict=True)
    slow, fast = (sent / (speed * 1e6) + LOCKSTEP_MS * host for speed, host in ends)
    return Bounds(fast, slow)


def fsdp_peak_memory(shape: ModelShape, setting: PlanSettings, rows: Rows, gpus: int) -> Peak:
    """Estimate the peak of one of ``gpus`` under FSDP and TRL alone, which recomputes every layer's activations.

    TRL's logits are those of all positions, held in float16 and three times in float32.
    """
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    quantised, scales = quantised_bytes(shape)
    embeddings = LOW * (shape.parameters() - shape.num_hidden_layers * shape.layer_weights())
    layer = quantised // shape.num_hidden_layers
    tokens, hidden, inner = rows.most_tokens, shape.hidden_size, shape.intermediate_size
    largest = max(linear.weights for linear in shape.linears())
    inputs = sum(linear.columns for linear in shape.linears())
    # autocast and peft: each linear's input in float32 and again in float16, norms in float32, thrice the activation
    again = tokens * ((FULL + LOW) * inputs + 4 * FULL * hidden + 3 * LOW * inner) + LOW * largest
    logits = tokens * shape.vocab_size * (LOW + 3 * FULL)
    worst = Part("logits and loss", logits) if logits > again else Part("a layer made again", again)
    return Peak(
        "under FSDP, TRL alone",
        (
            Part("base in NF4, a share", quantised // gpus),
            Part("its scales, whole", scales),
            Part("adapter, gradients and optimizer, a share", 4 * FULL * trained // gpus),
            Part("embedding and head, whole and a share", embeddings + embeddings // gpus),
            Part("two layers brought together", 2 * layer),
            Part("kept activations", LOW * shape.num_hidden_layers * tokens * hidden),
            worst,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class GpuEstimate:
    """The run on one kind of GPU, or on several of them; an estimate."""

    gpu: Gpu
    needed_gib: float
    """on each, with the allocator's overhead and the CUDA context"""
    fits: bool
    graph: bool
    minutes: Bounds
    """of training steps alone: without downloads and evaluation; the shorter first"""
    usd: Bounds
    tokens_per_second: Bounds
    times_stock: Bounds
    """speed relative to TRL's own packed training, on the same GPU by the same estimate; the smaller first"""


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """Memory, time and cost of a recipe."""

    name: str
    base_model: str
    base: KnownBase
    settings: PlanSettings
    rows: Rows
    num_gpus: int
    """GPUs of one machine that train together"""
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
    gpus: tuple[GpuEstimate, ...]
    refusal: str | None
    """why it does not run on a T4"""
    obstacles: tuple[str, ...]
    cpu_minutes: float | None
    fsdp_peak: Peak | None
    """of each GPU if FSDP shards the base, without the engine; None: one GPU"""

    @property
    def packing_efficiency(self) -> float:
        """Share of the packed rows that is filled with records."""
        return self.rows.tokens / (self.rows.rows * self.settings.max_length) if self.settings.packing else 1.0

    @property
    def verdict(self) -> str:
        """State in one sentence whether it fits, where, and for how long it trains."""
        t4 = self.gpus[0]
        room = f"{t4.needed_gib:.1f} of a 16 GB T4's {t4.gpu.memory_gib:.1f} GiB"
        there = "there" if self.num_gpus == 1 else f"on {self.num_gpus} of them"
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


def make_plan(
    name: str, recipe: Recipe, rows: TrainingRows, base: KnownBase | None = None, *, num_gpus: int = 1
) -> TrainingPlan:
    """Plan the run of a recipe over its records.

    Args:
        base: the base's sizes; None: looked up by the recipe.
        num_gpus: of one machine, as `accelerate launch` starts them.

    Raises:
        UnknownBaseError: nothing is known of the base's sizes.
        RecipeError: the base has no such target module.
    """
    # 1. Sizes, settings, and the records as rows
    base = base or lookup_base(recipe.base_model, recipe.base_model_revision)
    settings = replace(
        PlanSettings.of(recipe), gradient_accumulation_steps=gradient_accumulation_steps(recipe, num_gpus)
    )
    records = record_lengths(rows, base.vocabulary)
    packed = settings.rows(records)
    # 2. Steps: a micro-step is one batch on each GPU, an optimizer step several of them
    micro_steps_an_epoch = math.ceil(packed.rows / recipe.per_device_train_batch_size / num_gpus)
    steps_an_epoch = math.ceil(micro_steps_an_epoch / settings.gradient_accumulation_steps)
    steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(recipe.num_train_epochs * steps_an_epoch)
    epochs = steps / steps_an_epoch
    micro_steps = math.ceil(epochs * micro_steps_an_epoch)
    tokens = round(epochs * packed.tokens)
    # 3. Memory by part on a T4, memory and time on every GPU, and whether it fits a T4
    speed = CPU_TOKENS_PER_SECOND.get(recipe.base_model)
    return TrainingPlan(
        name=name,
        base_model=recipe.base_model,
        base=base,
        settings=settings,
        rows=packed,
        num_gpus=num_gpus,
        steps=steps,
        micro_steps=micro_steps,
        tokens=tokens,
        overlong=sum(record.whole > recipe.max_length for record in records),
        peak=estimate_peak(base.shape, settings, packed, workspace=T4.workspace),
        gpus=tuple(
            _estimate_gpu(gpu, base.shape, settings, packed, num_gpus, steps, micro_steps, tokens) for gpu in GPUS
        ),
        refusal=explain_misfit(name, recipe.base_model, base.shape, settings, records, "a 16 GB T4", T4.memory_gib),
        obstacles=tuple(UNSUPPORTED_BASES.get(recipe.base_model, ())),
        cpu_minutes=None if recipe.needs_gpu or speed is None else tokens / speed / 60,
        fsdp_peak=fsdp_peak_memory(base.shape, settings, packed, num_gpus) if num_gpus > 1 else None,
    )


def _estimate_gpu(
    gpu: Gpu,
    shape: ModelShape,
    settings: PlanSettings,
    rows: Rows,
    num_gpus: int,
    steps: int,
    micro_steps: int,
    tokens: int,
) -> GpuEstimate:
    """Estimate a run whose GPUs do ``micro_steps`` each, and read ``tokens`` together."""
    ours = estimate_on(kernels(shape, rows, settings.r, "engine"), gpu)
    stock = estimate_on(kernels(shape, rows, settings.r, "stock"), gpu)
    graph = ours.graph and not settings.gradient_checkpointing
    needed = needed_gib(shape, settings, rows, graph=graph, workspace=gpu.workspace)
    trained = shape.adapter_weights(settings.r, settings.target_modules)
    exchange = allreduce_ms(trained, num_gpus, gpu)
    seconds = [
        (step * micro_steps + averaging * steps) / 1e3
        for step, averaging in zip(ours.milliseconds, exchange, strict=True)
    ]
    times = sorted(theirs / mine for theirs, mine in zip(stock.milliseconds, ours.milliseconds, strict=True))
    return GpuEstimate(
        gpu=gpu,
        needed_gib=needed,
        fits=needed <= gpu.memory_gib,
        graph=graph,
        minutes=Bounds(*(value / 60 for value in seconds)),
        usd=Bounds(*(value / 3600 * gpu.usd_per_hour * num_gpus for value in seconds)),
        tokens_per_second=Bounds(*(tokens / value for value in reversed(seconds))),
        times_stock=Bounds(*times),
    )
