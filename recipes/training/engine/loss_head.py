"""Cross-entropy of the next token, only where a label is learnt, in chunks, with the gradient made on the way.

Logits are projected in the model's dtype, the softmax runs in float32. The gradient of the logits is softmax minus
one-hot: over 50,000 tokens most of it lies below float16's smallest number, so it is scaled up before it is rounded
and scaled back after the product with the head. The twin is TRL's `add_fused_lm_head`, which keeps float32 logits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 512
"""positions at a time: 100 MB of float32 logits for Phi-2's vocabulary"""
_LIFT = 1024.0


class HeadOutput(NamedTuple):
    """Sums over the positions that are learnt."""

    loss: Tensor
    """nats, float32; differentiable with respect to the hidden states"""
    correct: Tensor
    """positions whose likeliest token is the label"""
    learnt: int


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> tuple[Tensor, Tensor]:
        loss = torch.zeros((), device=hidden.device)
        correct = torch.zeros((), dtype=torch.int64, device=hidden.device)
        grad = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        lift = _LIFT if hidden.dtype == torch.float16 else 1.0
        for start in range(0, hidden.shape[0], CHUNK):
            part, label = hidden[start : start + CHUNK], labels[start : start + CHUNK, None]
            low = part @ weight.t() if bias is None else torch.addmm(bias, part, weight.t())
            logits = low.float()
            total = logits.logsumexp(-1, keepdim=True)
            loss += (total - logits.gather(1, label)).sum()
            correct += (logits.argmax(-1, keepdim=True) == label).sum()
            if grad is not None:
                logits.sub_(total).exp_().scatter_add_(1, label, torch.full_like(label, -1, dtype=logits.dtype))
                torch.mul(logits, lift, out=low)
                into = grad[start : start + CHUNK]
                torch.addmm(into, low, weight, beta=0, alpha=1 / lift, out=into)
        if grad is not None:
            ctx.save_for_backward(grad)
        ctx.mark_non_differentiable(correct)
        return loss, correct

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (grad,) = ctx.saved_tensors
        return (grad * grads[0]).to(grad.dtype), None, None, None


class Learnt(NamedTuple):
    """The positions that are learnt."""

    places: Tensor
    """(learnt,), in the rows one behind the other, each without its last position"""
    tokens: Tensor
    """(learnt,), what comes next there"""


def learnt(labels: Tensor) -> Learnt:
    """Of (batch, tokens) labels, -100 where nothing is learnt.

    How many there are is known only when the GPU has got so far: asked before the layers run, nothing waits for them.
    """
    target = labels[:, 1:].reshape(-1)
    places = (target != -100).nonzero()[:, 0]
    return Learnt(places, target.index_select(0, places))


def next_token_loss(hidden: Tensor, head: Any, positions: Learnt) -> HeadOutput:
    """The loss of the tokens that come next.

    Args:
        hidden: (batch, tokens, hidden size), after the last norm.
        head: the model's output linear, not trained.
    """
    rows = hidden[:, :-1].reshape(-1, hidden.shape[-1]).index_select(0, positions.places)
    loss, correct = _Head.apply(rows, head.weight, head.bias, positions.tokens)
    return HeadOutput(loss, correct, positions.places.numel())
