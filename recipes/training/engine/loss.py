"""Compute next-token cross-entropy in chunks, at supervised positions only.

    loss = sum over supervised positions of logsumexp(z) - z[label],   z = W h + b

Logits are projected in the model's dtype, the softmax runs in float32, and only one chunk of logits exists at a time
(as in Cut Cross-Entropy, https://arxiv.org/abs/2411.09009, and Liger's fused head, https://arxiv.org/abs/2410.10989).
The gradient of the logits is softmax minus one-hot: over 50,000 tokens most of it is below float16's smallest number,
so it is scaled up before it is rounded and scaled back after the product with the head. The twin is TRL's
`add_fused_lm_head`, which keeps float32 logits. Models that scale or cap their logits are recognised by what they do
with three tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CHUNK = 512
"""positions at a time: 100 MB of float32 logits for Phi-2's vocabulary"""
_LIFT = 1024.0
"""2^10: brings float16's smallest number, 6e-8, down to 6e-11 for the gradient of a logit, which is at most 1"""
_NEAR = {torch.float16: 2e-3, torch.float32: 1e-5}
"""how well a form fits three tokens that were computed in this dtype"""


class HeadOutput(NamedTuple):
    """Sums over the supervised positions."""

    loss: Tensor
    """nats, float32; differentiable with respect to the hidden states"""
    correct: Tensor
    """positions whose likeliest token is the label"""
    learnt: int


class Logits(NamedTuple):
    """How a model turns its last hidden states h into logits: cap(after · linear(before · h))."""

    before: float = 1.0
    after: float = 1.0
    softcap: float | None = None
    """c: cap(z) = c · tanh(z / c)"""


PLAIN = Logits()


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and count of correct predictions of (positions, hidden size) states; the gradient is made with the loss.

    The head is not trained, so the hidden states' gradient is all there is, and the logits are needed only once.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, form: Logits
    ) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        lift = _LIFT if hidden.dtype == torch.float16 else 1.0
        for start in range(0, hidden.shape[0], CHUNK):
            # 1. Logits of a chunk, (positions, vocabulary): `low` in the model's dtype, then float32
            part, label = hidden[start : start + CHUNK], labels[start : start + CHUNK, None]
            if form.before != 1.0:
                part = part * form.before
            low = part @ weight.t() if bias is None else torch.addmm(bias, part, weight.t())
            logits = low.float() if form.after == 1.0 else low.float() * form.after
            capped: Tensor | None = None
            if form.softcap is not None:
                capped = torch.tanh(logits / form.softcap)
                logits = capped * form.softcap
            # 2. The loss, in float32
            total = logits.logsumexp(-1, keepdim=True)
            loss += (total - logits.gather(1, label)).sum()
            correct += (logits.argmax(-1, keepdim=True) == label).sum()
            # 3. Its gradient, softmax minus one-hot, in place of the logits; through the cap, tanh' = 1 - tanh^2; `low`
            #    is reused for the rounded gradient, and the product with the head takes the lift out again
            if grad is not None:
                logits.sub_(total).exp_().scatter_add_(1, label, torch.full_like(label, -1, dtype=logits.dtype))
                if capped is not None:
                    logits.mul_(1 - capped.square())
                torch.mul(logits, lift, out=low)
                into = grad[start : start + CHUNK]
                torch.addmm(into, low, weight, beta=0, alpha=form.before * form.after / lift, out=into)
        if grad is not None:
            ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = ctx.saved_tensors
        return (grad * grads[0]).to(grad.dtype), None, None, None, None


class SupervisedPositions(NamedTuple):
    """The positions with a label, and their labels."""

    indices: Tensor
    """(positions,) int64, into the rows one behind the other, each without its last position"""
    tokens: Tensor
    """(positions,), the token that comes next"""


def supervised_positions(labels: Tensor) -> SupervisedPositions:
    """Find the supervised positions of (batch, tokens) labels, -100 where there is none.

    Their number is known only once the GPU has got so far: call this before the layers run, so that nothing waits for
    them.
    """
    target = labels[:, 1:].reshape(-1)
    indices = (target != -100).nonzero()[:, 0]
    return SupervisedPositions(indices, target.index_select(0, indices))


def chunked_cross_entropy(
    hidden: Tensor, head: Any, positions: SupervisedPositions, form: Logits = PLAIN
) -> HeadOutput:
    """Return the summed loss of the supervised tokens.

    Args:
        hidden: (batch, tokens, hidden size), after the last norm.
        head: the model's output linear, not trained.
    """
    rows = hidden[:, :-1].reshape(-1, hidden.shape[-1]).index_select(0, positions.indices)
    loss, correct = _ChunkedCrossEntropy.apply(rows, head.weight, getattr(head, "bias", None), positions.tokens, form)
    return HeadOutput(loss, correct, positions.indices.numel())


def detect_logits(base: Any, run: Callable[[Any], Any]) -> Logits:
    """Find out how this model makes its logits from one forward pass, and from the numbers in its config.

    Args:
        base: a causal language model.
        run: a forward pass of the model or of its backbone over the same tokens, without gradient.

    Raises:
        ValueError: `Logits` cannot express it.
    """
    head = base.get_output_embeddings()
    if not isinstance(head, nn.Linear) or any(parameter.requires_grad for parameter in head.parameters()):
        raise ValueError(f"the output layer is a {type(head).__name__} or is trained itself")
    # 1. Hidden states, the head's input, its output, and the logits, all in float64
    seen: dict[str, Tensor] = {}
    hook = head.register_forward_hook(lambda _, args, out: seen.update(enters=args[0], leaves=out))
    try:
        logits = run(base).logits.double()
    finally:
        hook.remove()
    hidden = run(base.base_model).last_hidden_state
    near = _NEAR.get(hidden.dtype, 2e-3)
    hidden = hidden.double()
    enters, leaves = seen["enters"].double(), seen["leaves"].double()
    # 2. Numbers of the config that may be a scale
    config = base.config.get_text_config()
    numbers = {name: float(value) for name, value in vars(config).items() if type(value) in (int, float) and value}
    if numbers.get("dim_model_base"):  # MiniCPM's width at which its hyperparameters were tuned
        numbers["width"] = numbers["hidden_size"] / numbers["dim_model_base"]
    scales = [1.0, *numbers.values(), *(1 / value for value in numbers.values())]
    # 3. The first form that fits
    before, after = _scale(hidden, enters, scales, near), _scale(leaves, logits, scales, near)
    if before is not None and after is not None:
        return Logits(before, after)
    for softcap in (value for name, value in numbers.items() if "softcap" in name or "soft_cap" in name):
        for scale in scales:
            if before is not None and _is_near(softcap * torch.tanh(scale * leaves / softcap), logits, near):
                return Logits(before, scale, softcap)
    raise ValueError("its logits are not its head's output times a number, or with a soft cap of its config")


def _scale(x: Tensor, y: Tensor, known: list[float], near: float) -> float | None:
    """Return the number y / x, a known one if it is within 0.1 %; None: y is no multiple of x."""
    if x.shape != y.shape or not bool(x.square().sum() > 0):
        return None
    fitted = float((x * y).sum() / x.square().sum())
    nearest = min(known, key=lambda value: abs(value - fitted))
    scale = nearest if abs(nearest - fitted) <= 1e-3 * abs(fitted) else fitted
    return scale if _is_near(scale * x, y, near) else None


def _is_near(one: Tensor, other: Tensor, near: float) -> bool:
    return one.shape == other.shape and bool((one - other).norm() <= near * other.norm())
