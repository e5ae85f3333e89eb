"""The pieces together and one by one against peft, transformers and TRL, on the CPU in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bonsai.builder.errors import EngineError
from bonsai.recipes.training.engine import install as install_module
from bonsai.recipes.training.engine.attention import block_diagonal_attention, record_by_record_attention
from bonsai.recipes.training.engine.cuda_graph import GraphTrial, PackedRowLimits
from bonsai.recipes.training.engine.install import (
    UNDER_THE_MODEL,
    EngineOptions,
    capture_graph_and_cache_weights,
    install,
)
from bonsai.recipes.training.engine.linear import patch_linears
from tests.recipes.engine.models import adapted, gradients, packed_batch, stock_loss
from tests.recipes.engine.no_bfloat16 import NoBfloat16

KINDS = ("phi", "phi3", "llama")
NONE = dict.fromkeys(UNDER_THE_MODEL[1:], False)


def engine_loss(model: Any, batch: dict[str, Any], pieces: EngineOptions) -> torch.Tensor:
    if pieces.head:
        return model(**batch, engine_loss=True).loss
    return stock_loss(model, batch)


def assert_same(ours: dict[str, torch.Tensor], stock: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == stock.keys()
    for name, expected in stock.items():
        assert ours[name].dtype == torch.float32
        assert (ours[name] - expected).norm() <= 2e-5 * expected.norm() + 1e-7, name


@pytest.mark.parametrize("kind", KINDS)
def test_each_piece_and_all_together_give_the_loss_and_gradients_of_stock(kind: str) -> None:
    batch = packed_batch()
    model = adapted(kind)
    expected = stock_loss(model, batch)
    expected.backward()
    stock = gradients(model)
    on = {"linear": True, **NONE}
    for piece in ("", *UNDER_THE_MODEL[1:]):
        on = {**on, **({piece: True} if piece else {})}
        pieces = EngineOptions(**on)
        installed = install(model, pieces, torch.float32)
        loss = engine_loss(model, batch, pieces)
        loss.backward()
        assert torch.allclose(loss, expected, rtol=1e-5), piece
        assert_same(gradients(model), stock)
        installed.uninstall()
    again = stock_loss(model, batch)
    again.backward()
    assert torch.equal(again, expected)
    assert_same(gradients(model), stock)


@pytest.mark.parametrize("kind", KINDS)
def test_a_packed_record_learns_as_if_it_were_alone(kind: str) -> None:
    model = adapted(kind)
    install(model, EngineOptions(), torch.float32)
    lengths = (5, 17, 1, 9)
    batch = packed_batch(lengths)
    together = model(**batch, engine_loss=True)
    together.loss.backward()
    packed = gradients(model)
    alone, count = 0.0, 0
    for start, end in zip(batch["cu_seq_lens_q"][:-1].tolist(), batch["cu_seq_lens_q"][1:].tolist(), strict=True):
        record = {name: batch[name][:, start:end] for name in ("input_ids", "labels")}
        output = model(**record, use_cache=False, engine_loss=True)
        output.loss.backward()
        alone += output.loss.item()
        count += output.learnt
    assert count == together.learnt
    assert together.loss.item() == pytest.approx(alone, rel=1e-5)
    assert_same(gradients(model), packed)


def test_groups_are_found_by_the_input_they_share() -> None:
    expected = {
        "phi": [["q_proj", "k_proj", "v_proj", "fc1"], ["dense"], ["fc2"]],
        "phi3": [["qkv_proj"], ["o_proj"], ["gate_up_proj"], ["down_proj"]],
        "llama": [["q_proj", "k_proj", "v_proj"], ["o_proj"], ["gate_proj", "up_proj"], ["down_proj"]],
    }
    for kind, groups in expected.items():
        model = adapted(kind)
        names = {id(module): name.split(".")[-1] for name, module in model.named_modules()}
        found = [[names[id(layer)] for layer in group.layers] for group in patch_linears(model, torch.float32).groups]
        assert found == groups * 2


def attention_of(model: Any) -> Any:
    return next(module for name, module in model.named_modules() if name.endswith("self_attn"))


@pytest.mark.parametrize("kind", ["phi", "phi3"])
def test_an_attention_that_slices_is_replaced_and_its_gradient_fills_no_zeros(kind: str) -> None:
    def fills(pieces: EngineOptions) -> int:
        model = adapted(kind)
        installed = install(model, pieces, torch.float32)
        assert ("forward" in vars(attention_of(model))) == pieces.attention_module
        loss = model(**packed_batch(), engine_loss=True).loss
        with torch.profiler.profile() as seen:
            loss.backward()
        installed.uninstall()
        assert "forward" not in vars(attention_of(model))
        return sum(event.name == "aten::slice_backward" for event in seen.events())

    assert fills(EngineOptions(attention_module=False, rotary=False)) > 2
    assert fills(EngineOptions()) == 1  # the head's: all positions but the last


@pytest.mark.parametrize("kind", ["phi", "phi3"])
def test_an_attention_that_computes_something_else_keeps_its_own_forward(kind: str) -> None:
    model = adapted(kind)
    attention_of(model).scaling = 1.0
    stock = type(attention_of(model)).forward

    def doubled(module: Any, *args: Any, **kwargs: Any) -> Any:
        output, weights = stock(module, *args, **kwargs)
        return 2 * output, weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(attention_of(model)), "forward", doubled)
        install(model, EngineOptions(), torch.float32)
    assert "forward" not in vars(attention_of(model))


@pytest.mark.parametrize("kind", KINDS)
def test_weights_kept_dequantised_change_no_bit_and_take_no_more_than_the_room(kind: str) -> None:
    model, batch = adapted(kind), packed_batch()
    installed = install(model, EngineOptions(), torch.float32)
    weights = installed.weight_cache.weights
    expected = model(**batch, engine_loss=True).loss
    expected.backward()
    stock = gradients(model)
    room = sum(one.dequantized_bytes for one in weights) - weights[-1].dequantized_bytes
    assert installed.weight_cache.fill(room)
    assert installed.weight_cache.cached_bytes == room
    assert installed.weight_cache.summary() == f"{len(weights) - 1} of {len(weights)} weights kept dequantised, 0.0 GiB"
    loss = model(**batch, engine_loss=True).loss
    loss.backward()
    assert torch.equal(loss, expected)
    assert all(torch.equal(found, stock[name]) for name, found in gradients(model).items())
    installed.uninstall()
    assert installed.weight_cache.cached_bytes == 0
    assert not installed.weight_cache.fill(10)


def test_a_graph_that_leaves_no_room_for_the_optimizer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = install(adapted("llama"), EngineOptions(), torch.float32)
    graph: Any = object()
    needed: list[int] = []
    room = iter((-1, 0))

    def room_left(in_use: int, needed_later: int) -> int:
        needed.append(needed_later)
        return next(room)

    monkeypatch.setattr(install_module, "try_cuda_graph", lambda *_: GraphTrial(graph, 10))
    monkeypatch.setattr(install_module, "free_gpu_bytes", room_left)
    limits = PackedRowLimits(tokens=8, longest=8, records=1)
    assert capture_graph_and_cache_weights(installed, lambda: None, limits) is None
    assert capture_graph_and_cache_weights(installed, lambda: None, limits) is graph
    assert needed == [installed.head_and_optimizer_bytes] * 2
    assert needed[0] > 8 * installed.store.flat.numel()  # AdamW's two states in float32


def test_a_young_adapters_small_part_survives_float16() -> None:
    """Smaller than half a step of float16 at the base's output, it is not lost but moves the rounding."""
    model = adapted("phi3", hidden_size=256)
    group = patch_linears(model, torch.float16).groups[0]
    weight = group.weights.dequantized()[0].float()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 256, generator=generator).half()
    group.half_up[0].copy_(torch.randn(group.half_up[0].shape, generator=generator) * 3e-5)
    part = group.scaling * (x.float() @ group.half_down.float().t()) @ group.half_up[0].float().t()
    base = x.float() @ weight.t()
    step = torch.finfo(torch.float16).eps * base.abs()
    assert (part.abs() < step / 2).float().mean() > 0.5
    found = group.output(0, x).float() - base
    assert 0.9 < (found * part).sum() / part.square().sum() < 1.1


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_the_same_as_stock_with_the_same_seed(kind: str) -> None:
    model = adapted(kind, **({} if kind == "llama" else {"resid_pdrop": 0.3}))
    batch = packed_batch()
    torch.manual_seed(7)
    expected = stock_loss(model, batch)
    expected.backward()
    stock = gradients(model)
    install(model, EngineOptions(), torch.float32)
    torch.manual_seed(7)
    loss = model(**batch, engine_loss=True).loss
    loss.backward()
    assert torch.allclose(loss, expected, rtol=1e-5)
    assert_same(gradients(model), stock)


def test_no_tensor_and_no_autocast_of_a_step_is_bfloat16() -> None:
    model = adapted("phi")
    install(model, EngineOptions(), torch.float32)
    with NoBfloat16():
        model(**packed_batch(), engine_loss=True).loss.backward()
    with pytest.raises(AssertionError, match="made a bfloat16 tensor"), NoBfloat16():
        torch.ones(2).bfloat16()
    square = torch.ones(2, 2)
    with pytest.raises(AssertionError, match="made a bfloat16"), NoBfloat16(), torch.autocast("cpu", torch.bfloat16):
        square @ square


def test_the_norm_and_activation_outputs_are_not_kept_for_backward() -> None:
    def kept(pieces: EngineOptions) -> int:
        model = adapted("phi")
        install(model, pieces, torch.float32)
        held: dict[int, torch.Tensor] = {}

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            held[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = model(**packed_batch((128,)), engine_loss=True)
        assert output.loss.requires_grad
        return sum(tensor.untyped_storage().nbytes() for tensor in held.values())

    spared = kept(EngineOptions(recompute=False)) - kept(EngineOptions())
    activations, norms = 2 * 128, 64  # the first layer's norm saves nothing: nothing before it is trained
    assert spared == 128 * 4 * (activations + norms)  # tokens, bytes, widths


def test_a_model_without_a_plain_lora_keeps_its_own_modules_and_says_what_is_needed() -> None:
    model = adapted("llama")
    for module in model.modules():
        if hasattr(module, "lora_dropout"):
            module.lora_dropout["default"] = torch.nn.Dropout(0.1)
    installed = install(model, EngineOptions(), torch.float32)
    assert "lora_dropout 0, or leave the engine's linear off" in installed.left_out["linear"]
    assert not any(getattr(installed.pieces, name) for name in UNDER_THE_MODEL[:-1])
    assert not any("forward" in vars(module) for module in model.get_base_model().model.modules())


def test_a_model_without_anything_to_train_is_refused() -> None:
    model = adapted("llama").requires_grad_(False)
    with pytest.raises(EngineError, match="attach an adapter before the engine"):
        install(model, EngineOptions(), torch.float32)


def test_an_adapter_switched_off_gives_the_base_alone() -> None:
    model = adapted("llama").eval()
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    ids = torch.arange(1, 9)[None]
    with torch.no_grad(), model.disable_adapter():
        expected = model(input_ids=ids).logits
    install(model, EngineOptions(), torch.float32)
    with torch.no_grad(), model.disable_adapter():
        assert torch.allclose(model(input_ids=ids).logits, expected, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(model(input_ids=ids).logits, expected, atol=1e-3)


@pytest.mark.parametrize("kv_heads", [6, 2, 1])
def test_on_a_cpu_attention_record_by_record_is_attention_under_the_mask(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, gradient = (torch.randn(1, 96, heads, 16, generator=generator) for heads in (6, kv_heads, kv_heads, 6))
    bounds = torch.tensor([0, 1, 65, 96], dtype=torch.int32)
    found = []
    for attend in (record_by_record_attention, block_diagonal_attention):
        inputs = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
        out = attend(*inputs, bounds, 0.25)
        found.append([out, *torch.autograd.grad(out, inputs, gradient)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)
