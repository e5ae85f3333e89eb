"""The trainer as a recipe uses it: packed rows, completion-only loss, with and without the engine."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from trl import SFTConfig

from bonsai.builder.errors import EngineError
from bonsai.recipes.training.engine.install import NOTHING, EngineOptions
from bonsai.recipes.training.engine.optimizer import FlatAdamW
from bonsai.recipes.training.engine.trainer import EngineTrainer, check_finite
from tests.recipes.engine.architectures import adapted_tiny
from tests.recipes.engine.models import adapted, lora, packed_batch, quantised
from tests.recipes.tiny import tiny_tokenizer


def rows() -> datasets.Dataset:
    pairs = [(f"### Instruction:\n{n}?\n", "answer " * (1 + n % 5) + str(n)) for n in range(24)]
    return datasets.Dataset.from_list([{"prompt": prompt, "completion": completion} for prompt, completion in pairs])


def trainer(work: Path, pieces: EngineOptions | None, base: Any = None, **changes: Any) -> EngineTrainer:
    settings = {
        "output_dir": str(work),
        "use_cpu": True,
        "bf16": False,
        "fp16": False,
        "max_steps": 4,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "max_length": 160,
        "packing": True,
        "completion_only_loss": True,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        **changes,
    }
    made = EngineTrainer(
        base or quantised("phi", vocab_size=300),
        SFTConfig(**settings),
        train_dataset=rows(),
        eval_dataset=rows().select(range(4)),
        processing_class=tiny_tokenizer(),
        peft_config=lora(),
    )
    for parameter in made.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if pieces is not None:
        made.use_engine(pieces)
    return made


def losses(made: EngineTrainer) -> list[float]:
    made.train()
    return [entry["loss"] for entry in made.state.log_history if "loss" in entry]


@pytest.mark.filterwarnings("ignore:Padding-free training:UserWarning")
@pytest.mark.parametrize("changes", [{}, {"max_steps": 9, "gradient_accumulation_steps": 3}], ids=["part", "epochs"])
def test_a_run_with_the_engine_gives_the_losses_of_a_run_without(tmp_path: Path, changes: dict[str, int]) -> None:
    stock = losses(trainer(tmp_path, None, **changes))
    fast = trainer(tmp_path, EngineOptions(), **changes)
    rows_a_step = changes.get("gradient_accumulation_steps", 2)
    assert not changes or (len(fast.train_dataset) % rows_a_step and len(fast.train_dataset) < 9 * rows_a_step)
    dropout = fast.model.get_base_model().model.layers[0].resid_dropout
    before = fast.evaluate()["eval_loss"]
    assert not dropout.training
    assert fast.engine is not None
    assert fast.engine.left_out == {}
    assert fast.engine.pieces == EngineOptions()
    ours = losses(fast)
    assert dropout.training
    assert ours == pytest.approx(stock, abs=2e-4)
    assert ours[-1] < ours[0]
    assert fast.evaluate()["eval_loss"] < before
    last = [entry for entry in fast.state.log_history if "loss" in entry][-1]
    assert last["skipped_steps"] == 0
    assert 0 < last["mean_token_accuracy"] < 1


def test_every_record_in_a_packed_row_learns_its_end_mark_and_none_of_its_prompt(tmp_path: Path) -> None:
    made = trainer(tmp_path, EngineOptions())
    tokenizer = made.processing_class
    learnt = []
    for batch in made.get_train_dataloader():
        bounds = batch["cu_seq_lens_q"].tolist()
        for start, end in itertools.pairwise(bounds):
            labels = [label for label in batch["labels"][0, start:end].tolist() if label != -100]
            assert labels[-1] == tokenizer.eos_token_id
            learnt.append(tokenizer.decode(labels[:-1]))
    assert sorted(learnt) == sorted(rows()["completion"])


@pytest.mark.filterwarnings("ignore:Could not find a config file:UserWarning")  # the tiny base's folder is gone
def test_a_resumed_run_takes_the_very_next_step_of_the_uninterrupted_one(tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 2}
    whole = losses(trainer(tmp_path / "whole", EngineOptions(), **saving))
    resumed = trainer(tmp_path / "resumed", EngineOptions(), **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    again = [entry["loss"] for entry in resumed.state.log_history if "loss" in entry]
    assert isinstance(resumed.optimizer.optimizer, FlatAdamW)
    assert again == whole


def test_a_base_that_overflows_is_named_before_the_first_step(tmp_path: Path) -> None:
    made = trainer(tmp_path, EngineOptions())
    layer = made.model.get_base_model().model.layers[1]
    layer.input_layernorm.weight.data[3] = float("inf")
    with pytest.raises(EngineError, match=r"before the first step: the output of .*layers\.1\.input_layernorm"):
        made.train()


def test_a_finite_model_passes_and_the_random_state_stays() -> None:
    model = adapted("phi")
    state = torch.random.get_rng_state()
    check_finite(model, {k: v for k, v in packed_batch().items() if k != "labels"}, "now")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_engine_is_put_in_before_training(tmp_path: Path) -> None:
    made = trainer(tmp_path, None)
    made.create_optimizer()
    with pytest.raises(EngineError, match="call use_engine before train"):
        made.use_engine()


@pytest.mark.parametrize("optim", ["sgd", "adafactor", "rmsprop", "adamw_torch"])
def test_an_optimizer_that_the_recipe_names_is_the_one_that_steps(tmp_path: Path, optim: str) -> None:
    def weights(pieces: EngineOptions | None) -> tuple[EngineTrainer, torch.Tensor]:
        made = trainer(tmp_path, pieces, optim=optim, max_steps=2)
        made.train()
        return made, torch.cat([p.detach().reshape(-1) for p in made.model.parameters() if p.requires_grad])

    (_, expected), (made, found) = weights(None), weights(EngineOptions())
    assert made.engine is not None
    assert (made._flat_optimizer() is not None) == (optim == "adamw_torch")
    assert ("optimizer" in made.engine.left_out) == (optim != "adamw_torch")
    assert optim == "adamw_torch" or f"optim is {optim}" in made.engine.left_out["optimizer"]
    assert (found - expected).norm() <= 1e-3 * expected.norm()


@pytest.mark.filterwarnings("ignore:`label_smoothing_factor` is deprecated:FutureWarning")
@pytest.mark.parametrize(
    "changes",
    [
        {"neftune_noise_alpha": 5.0},
        {"weight_decay": 0.3},
        {"adam_beta1": 0.5, "adam_beta2": 0.6, "adam_epsilon": 1e-3},
        {"max_grad_norm": 0.0},
        {"max_grad_norm": 1e-3},
        {"lr_scheduler_type": "cosine", "warmup_steps": 1},
        {"label_smoothing_factor": 0.2},
        {"loss_type": "dft"},
        {"packing": False, "per_device_train_batch_size": 3},
        {"optim_args": "betas=0.5"},
    ],
    ids=str,
)
def test_settings_that_the_engine_takes_over_train_as_trl_trains_them(tmp_path: Path, changes: dict[str, Any]) -> None:
    stock, ours = (losses(trainer(tmp_path, pieces, **changes)) for pieces in (None, EngineOptions()))
    assert ours == pytest.approx(stock, abs=3e-4)


def test_a_weight_that_transformers_spares_from_decay_is_not_decayed(tmp_path: Path) -> None:
    made = trainer(tmp_path, None, weight_decay=0.3)
    norm = made.model.get_base_model().model.layers[0].input_layernorm.weight
    norm.requires_grad_(True)
    installed = made.use_engine()
    assert "layernorm" in installed.left_out["optimizer"]
    assert [group["weight_decay"] for group in made.create_optimizer().param_groups] == [0.3, 0.0]


@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_records_that_packing_would_mix_train_each_alone_and_the_log_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def made(pieces: EngineOptions, **changes: Any) -> EngineTrainer:
        return trainer(tmp_path, pieces, adapted_tiny("bloom").unload(), **changes)

    fast, plain, unpacked = (
        made(EngineOptions()),
        made(NOTHING),
        made(NOTHING, packing=False, per_device_eval_batch_size=4),
    )
    assert fast.evaluate()["eval_loss"] == pytest.approx(unpacked.evaluate()["eval_loss"], rel=1e-5)
    assert fast.engine is not None
    assert fast.engine.records_apart
    assert fast.engine.summary().endswith("each record of a row alone")
    assert "engine: packing is left out: records do not stay apart" in caplog.text
    assert losses(fast) == pytest.approx(losses(plain), abs=2e-4)
