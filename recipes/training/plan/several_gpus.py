"""What changes where several GPUs train together: what they tell one another, and a base cut up among them.

The engine keeps the whole base on each GPU and averages the adapter's gradients once a step. FSDP under TRL alone cuts
base, adapter and optimizer up and brings each layer together when it is needed; `benchmarks/several_gpus.py` measures
both.
"""

from __future__ import annotations

from bonsai.recipes.training.plan.activations import FULL, LOW
from bonsai.recipes.training.plan.gpus import Gpu, Range
from bonsai.recipes.training.plan.memory import Part, Peak, Setting, quantised_bytes
from bonsai.recipes.training.plan.packing import Rows
from bonsai.recipes.training.plan.shapes import Shape

LOCKSTEP_MS = 4.0
"""a step in which GPUs wait for one another, beyond the gradients' way; of two H200 and the Phi-2 shape, measured on
2026-11-21: 72.7 ms a step where one alone takes 68.2"""


def exchange_ms(adapter_weights: int, gpus: int, gpu: Gpu) -> Range:
    """Milliseconds a step takes longer for the GPUs' agreeing on a gradient, the shorter first; none for one GPU."""
    if gpus == 1:
        return Range(0.0, 0.0)
    sent = 2 * (gpus - 1) / gpus * FULL * adapter_weights
    slow, fast = (sent / (speed * 1e6) + LOCKSTEP_MS * host for speed, host in zip(*_ends(gpu), strict=True))
    return Range(fast, slow)


def _ends(gpu: Gpu) -> tuple[Range, Range]:
    return gpu.link_gb, gpu.host_slowness


def cut_up(shape: Shape, setting: Setting, rows: Rows, gpus: int) -> Peak:
    """The peak of one of ``gpus`` under FSDP and TRL alone, which makes every layer's activations again.

    TRL's logits are those of all positions, kept in float16 and three times in float32.
    """
    trained = shape.adapter_weights(setting.r, setting.target_modules)
    quantised, scales = quantised_bytes(shape)
    embeddings = LOW * (shape.parameters() - shape.num_hidden_layers * shape.layer_weights())
    layer = quantised // shape.num_hidden_layers
    tokens, hidden, inner = rows.most_tokens, shape.hidden_size, shape.intermediate_size
    largest = max(linear.weights for linear in shape.linears())
    inputs = sum(linear.columns for linear in shape.linears())
    # autocast and peft: each linear's input in float32 and again in float16, norms in float32, the activation thrice
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
