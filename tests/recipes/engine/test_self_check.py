"""The engine against what each record alone gives in the stock modules, over transformers' architectures."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor

from bonsai.recipes.training.engine import layers
from bonsai.recipes.training.engine.install import NOTHING, UNDER_THE_MODEL, EngineOptions, InstalledEngine, install
from bonsai.recipes.training.engine.records_apart import record_slices
from bonsai.recipes.training.engine.self_check import SelfCheck, lengths_to_watch, select_records
from tests.recipes.engine.architectures import CANT_BE_TINY, adapted_tiny, names, tiny_config
from tests.recipes.engine.models import adapted, gradients, lora, packed_batch, quantised

MIXED: dict[str, tuple[str, ...]] = {
    "llama": (),
    "granite": (),
    "minicpm3": (),
    "gemma2": (),
    "cohere2": (),
    "glm": (),
    "mixtral": (),
    "qwen2_moe": (),
    "nemotron": ("attention",),
    "stablelm": ("attention",),
    "granite_swa": ("attention",),
    "bloom": ("packing",),
    "gpt2": (),
    "opt": (),
    "jamba": ("packing",),
}
"""architecture to what has to be left out of it; everything else is used"""
LENGTHS = (12, 25, 17)
"""of records: two are longer than the tiny windows"""


def packed() -> dict[str, Any]:
    batch = packed_batch(LENGTHS)
    batch.pop("use_cache")
    of_record = torch.repeat_interleave(torch.arange(len(LENGTHS), dtype=torch.int32), batch["cu_seq_lens_q"].diff())
    return {**batch, "seq_idx": of_record[None]}


def padded() -> dict[str, Any]:
    batch = packed_batch(LENGTHS)
    rows = [batch["input_ids"][0, columns] for _, columns in record_slices(batch)]
    labels = [batch["labels"][0, columns] for _, columns in record_slices(batch)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    return {
        "input_ids": ids,
        "labels": torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100),
        "attention_mask": mask.long(),
    }


def alone(model: Any, batch: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    """Sum of the losses of each record by itself, and its gradients: by transformers and peft and nothing of ours."""
    total = 0.0
    for row, columns in record_slices(batch):
        ids, labels = (batch[name][row : row + 1, columns] for name in ("input_ids", "labels"))
        logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits[0, :-1].float(), labels[0, 1:], reduction="sum")
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def with_engine(installed: InstalledEngine, batch: dict[str, Any]) -> tuple[float, dict[str, Tensor]]:
    if installed.pieces.head:
        loss = installed.model(**batch, use_cache=False, engine_loss=True).loss
    else:
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        logits = installed.model(**inputs, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]).float(), batch["labels"][:, 1:].reshape(-1), reduction="sum"
        )
    loss.backward()
    return loss.item(), gradients(installed.model)


def assert_engine_gives_what_records_alone_give(make: Callable[[], Any], batch: dict[str, Any]) -> InstalledEngine:
    model = make()
    expected, stock = alone(model, batch)
    installed = install(model, EngineOptions(graph=False, spare_memory=False), torch.float32)
    weights, state = installed.store.flat.detach().clone(), torch.random.get_rng_state()
    SelfCheck(installed, batch).run()
    assert torch.equal(installed.store.flat, weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())
    loss, ours = with_engine(installed, batch)
    assert loss == pytest.approx(expected, rel=3e-5)
    whole = torch.stack([gradient.norm() for gradient in stock.values()]).norm()
    for name, gradient in stock.items():
        found = ours.get(name, torch.zeros_like(gradient))
        assert (found - gradient).norm() <= 2e-3 * gradient.norm() + 1e-6 * whole, name
    return installed


@pytest.mark.parametrize("name", MIXED)
def test_an_architecture_gives_what_each_record_alone_gives_with_all_pieces_that_fit(name: str) -> None:
    installed = assert_engine_gives_what_records_alone_give(lambda: adapted_tiny(name), packed())
    expected = set(MIXED[name])
    assert set(installed.left_out) == expected
    assert installed.records_apart == ("packing" in expected)
    without = {"attention"} if installed.records_apart else expected
    assert {piece for piece in UNDER_THE_MODEL if not getattr(installed.pieces, piece)} == without


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name not in CANT_BE_TINY])
def test_every_architecture_gives_what_each_record_alone_gives(name: str) -> None:
    assert_engine_gives_what_records_alone_give(lambda: adapted_tiny(name), packed())


@pytest.mark.parametrize("name", ["llama", "bloom", "gemma2"])
def test_padded_rows_give_what_each_record_alone_gives(name: str) -> None:
    assert_engine_gives_what_records_alone_give(lambda: adapted_tiny(name), padded())


def test_a_piece_that_computes_something_else_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    stock = layers._rms_norm
    monkeypatch.setattr(layers, "_rms_norm", lambda module, x: 1.01 * stock(module, x))
    monkeypatch.setattr(layers, "_matches_original", lambda module, replacement: True)
    installed = assert_engine_gives_what_records_alone_give(lambda: adapted_tiny("llama"), packed())
    assert set(installed.left_out) == {"elementwise"}
    assert "off" in installed.left_out["elementwise"]
    assert installed.pieces == EngineOptions(graph=False, spare_memory=False, elementwise=False)


def test_records_that_see_one_another_are_found_without_any_piece() -> None:
    model = adapted_tiny("bloom")
    expected, _ = alone(model, packed())
    installed = install(model, NOTHING, torch.float32)
    SelfCheck(installed, packed()).run()
    assert installed.records_apart
    assert with_engine(installed, packed())[0] == pytest.approx(expected, rel=1e-5)


def test_another_process_that_finds_a_difference_decides_for_all() -> None:
    installed = install(adapted("llama").eval(), EngineOptions(), torch.float32)
    asked: list[bool] = []

    def all_agree(yes: bool) -> bool:
        asked.append(yes)
        return yes and len(asked) != 3  # the other says no, once: to everything at once, strictly

    SelfCheck(installed, packed(), all_agree=all_agree).run()
    assert asked[0]
    assert asked[2]
    assert installed.left_out == {}


def test_a_window_beyond_the_first_records_is_looked_at_in_the_longest() -> None:
    config = tiny_config("mistral", sliding_window=20)
    assert lengths_to_watch(config) == (20,)
    batch = packed()
    plain, watched = select_records(batch, 64), select_records(batch, 20, (20,))
    assert [columns.stop - columns.start for _, columns in record_slices(plain)] == [12, 17, 25]
    assert [columns.stop - columns.start for _, columns in record_slices(watched)] == [25, 12]


def test_a_batch_of_one_record_is_cut_in_two_and_something_is_learnt() -> None:
    batch = packed_batch((30,))
    batch["labels"].fill_(-100)
    found = select_records(batch, 64)
    assert found["cu_seq_lens_q"].tolist() == [0, 10, 30]
    assert found["position_ids"][0].tolist() == [*range(10), *range(20)]
    assert (found["labels"] != -100).sum() == 28


def test_records_longer_than_their_share_are_cut_and_each_is_labelled_somewhere() -> None:
    batch = packed_batch((90, 60, 80))
    batch["labels"][0, 90:140] = -100  # of the second record only the end, which is cut off, has labels
    found = select_records(batch, 64)
    assert found["cu_seq_lens_q"].tolist() == [0, 32, 64]
    assert (found["labels"][0, 1:32] != -100).all()
    assert (found["labels"][0, 33:] != -100).any()


def test_a_word_beside_which_thousands_vanish_costs_no_piece() -> None:
    model = quantised("phi", vocab_size=49152)
    with torch.no_grad():
        model.lm_head.weight.mul_(0.01)
        model.lm_head.bias.zero_()[7] = 16.8  # every other word weighs 5e-8 of it, less than half a step of float32
        # of a copy: without gradients bitsandbytes repacks a processor's weights for AVX-512, and they stay so
        logits = deepcopy(model)(input_ids=packed()["input_ids"]).logits[0, :-1]
        labels = packed()["labels"][0, 1:]
        exact, stock = (torch.nn.functional.cross_entropy(z, labels) for z in (logits.double(), logits))
    if (exact - stock).abs() / exact < 5e-6:
        pytest.skip("PyTorch adds up a vocabulary exactly enough on this processor")
    installed = install(get_peft_model(model, lora()), EngineOptions(graph=False, spare_memory=False), torch.float32)
    SelfCheck(installed, packed()).run()
    assert installed.left_out == {}
    assert installed.pieces.head
