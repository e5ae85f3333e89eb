"""The same against float32 on a GPU in float16; runs only where there is one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bonsai.recipes.training.engine.attention import block_diagonal_attention, is_supported, packed_attention
from bonsai.recipes.training.engine.cuda_graph import PackedRowLimits
from bonsai.recipes.training.engine.install import EngineOptions, install
from tests.recipes.engine.models import adapted, gradients, packed_batch, stock_loss
from tests.recipes.engine.no_bfloat16 import NoBfloat16

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

SCALE = 2.0**12
WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}


def on_gpu(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.cuda() if isinstance(value, Tensor) else value for name, value in batch.items()}


def in_dtype(model: Any, dtype: torch.dtype) -> Any:
    for name, parameter in model.named_parameters():
        if "lora_" not in name and parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if hasattr(module, "compute_dtype"):
            module.compute_dtype = dtype
        if getattr(getattr(module, "weight", None), "quant_state", None) is not None:
            module.weight.quant_state.dtype = dtype
    return model


def error(ours: dict[str, Tensor], reference: dict[str, Tensor]) -> float:
    wrong = sum((ours[name] - expected).double().square().sum() for name, expected in reference.items())
    return float((wrong / sum(expected.double().square().sum() for expected in reference.values())).sqrt())


@pytest.mark.parametrize("kind", ["phi", "phi3", "llama"])
def test_gradients_in_float16_are_as_near_to_float32_as_stock_peft(kind: str) -> None:
    batch = on_gpu(packed_batch((40, 200, 7, 130)))
    model = in_dtype(adapted(kind, **WIDE).cuda(), torch.float32)
    exact = stock_loss(model, batch)
    exact.backward()
    reference = gradients(model)
    in_dtype(model, torch.float16)
    with torch.autocast("cuda", torch.float16):
        stock = stock_loss(model, batch)
    (stock * SCALE / 300).backward()
    stock_error = error({name: grad * 300 / SCALE for name, grad in gradients(model).items()}, reference)
    install(model, EngineOptions(), torch.float16)
    with NoBfloat16():
        ours = model(**batch, engine_loss=True).loss
        (ours * SCALE / 300).backward()
    found = {name: grad * 300 / SCALE for name, grad in gradients(model).items()}
    assert {grad.dtype for grad in found.values()} == {torch.float32}
    assert error(found, reference) <= max(1.3 * stock_error, 1e-3)
    assert abs(ours.item() - exact.item()) <= 1e-3 * exact.item()


@pytest.mark.parametrize(("heads", "kv_heads", "size"), [(4, 4, 80), (8, 2, 128), (4, 4, 96)])
def test_the_packed_kernel_equals_the_masked_twin(heads: int, kv_heads: int, size: int) -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    bounds = torch.tensor([0, 3, 500, 501, 900, 2048], dtype=torch.int32, device="cuda")

    def made(count: int) -> Tensor:
        return torch.randn(1, 2048, count, size, device="cuda", generator=generator)

    inputs = [made(heads), made(kv_heads), made(kv_heads)]
    up = made(heads)
    q, k, v = (tensor.requires_grad_() for tensor in inputs)
    reference = block_diagonal_attention(q, k, v, bounds, 0.1)
    exact = torch.autograd.grad(reference, (q, k, v), up)
    low = [tensor.detach().half().requires_grad_() for tensor in inputs]
    assert is_supported(low[0])
    out = packed_attention(*low, bounds, 1148, 0.1)
    grads = torch.autograd.grad(out, low, up.half())
    for one, other in zip((out, *grads), (reference, *exact), strict=True):
        assert (one.float() - other).norm() <= 3e-3 * other.norm()


def test_the_graph_gives_the_loss_and_gradients_of_the_step_without_it() -> None:
    model = in_dtype(adapted("phi", **WIDE).cuda(), torch.float16)
    installed = install(model, EngineOptions(), torch.float16)
    batches = [on_gpu(packed_batch(lengths)) for lengths in ((40, 200, 7, 130), (100, 260, 9), (384,))]
    expected = []
    for batch in batches:
        loss = model(**batch, engine_loss=True).loss
        (loss * SCALE / 300).backward()
        expected.append((loss.item(), gradients(model)))
    installed.limits = PackedRowLimits(tokens=384, longest=384, records=4)
    for batch, (loss, grads) in zip(batches, expected, strict=True):
        with torch.autocast("cuda", torch.float16):  # as the trainer calls it
            again = model(**batch, engine_loss=True).loss
        (again * SCALE / 300).backward()
        assert installed._graph_tried
        if installed.graph is None:
            pytest.skip("a graph does not pay on this GPU")
        installed.store.gather_gradients()
        assert again.item() == pytest.approx(loss, rel=1e-4)
        flat = torch.cat([grads[name].reshape(-1) for name in by_store(model, installed)])
        assert (installed.store.flat.grad - flat).norm() <= 1e-3 * flat.norm()
        installed.store.clear_accumulated()


def by_store(model: Any, installed: Any) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in installed.store.parameters]
