"""The flat AdamW against torch's over the separate tensors."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from bonsai.builder.errors import EngineError
from bonsai.recipes.training.engine.optimizer import FlatAdamW, FlatAdapterParameters

SHAPES = ((4, 8), (8, 4), (3,))


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def give_gradients(weights: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)


def test_steps_with_clipping_equal_those_of_torch() -> None:
    plain, flat = parameters(), parameters()
    stock = torch.optim.AdamW(plain, lr=0.1, weight_decay=0.01)
    ours = FlatAdamW(FlatAdapterParameters(flat, torch.float32), lr=0.1, weight_decay=0.01)
    for step in range(5):
        give_gradients(plain, step)
        give_gradients(flat, step)
        expected = nn.utils.clip_grad_norm_(plain, 1.0)
        norm = nn.utils.clip_grad_norm_([ours.gather()], 1.0)
        assert torch.allclose(norm, expected)
        stock.step()
        ours.step()
    for one, other in zip(flat, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_run_goes_on_from_its_state_dict_bit_for_bit() -> None:
    weights = parameters()
    optimizer = FlatAdamW(FlatAdapterParameters(weights, torch.float32), lr=0.1)
    for step in range(3):
        give_gradients(weights, step)
        optimizer.step()
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    fresh = [nn.Parameter(weight.detach().clone()) for weight in weights]
    resumed = FlatAdamW(FlatAdapterParameters(fresh, torch.float32), lr=0.1)
    resumed.load_state_dict(copy.deepcopy(torch.load(file, weights_only=True)))
    for step in range(3, 6):
        for held, optim in ((weights, optimizer), (fresh, resumed)):
            give_gradients(held, step)
            optim.step()
    for one, other in zip(weights, fresh, strict=True):
        assert torch.equal(one, other)


def test_an_overflown_step_changes_nothing_and_is_counted() -> None:
    weights = parameters()
    optimizer = FlatAdamW(FlatAdapterParameters(weights, torch.float32), lr=0.1)
    before = [weight.detach().clone() for weight in weights]
    give_gradients(weights, 0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(1.0)
    optimizer.step()
    assert optimizer.skipped.item() == 1
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))


def test_a_weight_taken_out_of_the_buffer_is_an_error() -> None:
    weights = parameters()
    optimizer = FlatAdamW(FlatAdapterParameters(weights, torch.float32), lr=0.1)
    weights[1].data = weights[1].data.clone()
    with pytest.raises(EngineError, match="set the engine up last"):
        optimizer.gather()


def test_the_copy_in_half_precision_follows_the_weights() -> None:
    weights = parameters()
    store = FlatAdapterParameters(weights, torch.float16)
    with torch.no_grad():
        weights[0].add_(1)
    store.refresh()
    assert torch.equal(store.half_view(weights[0]), weights[0].half())
