"""Run TRL's SFTTrainer with the engine under it, and stop at non-finite values.

    trainer = EngineTrainer(model, SFTConfig(...), ..., peft_config=LoraConfig(...))
    trainer.use_engine()                    # after the constructor; without this call it is SFTTrainer, unchanged

Data, packing, schedule, logging, checkpoints and resuming stay TRL's. Within a step only the log waits for the GPU.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves
from trl import SFTConfig, SFTTrainer

from bonsai.builder.errors import EngineError
from bonsai.recipes.training.engine import RECORD_IDS_COLUMN
from bonsai.recipes.training.engine.cuda_graph import PackedRowLimits
from bonsai.recipes.training.engine.install import EngineOptions, InstalledEngine, install
from bonsai.recipes.training.engine.optimizer import FlatAdamW
from bonsai.recipes.training.engine.self_check import MOST_TOKENS, SelfCheck, lengths_to_watch

_LOG = logging.getLogger(__name__)
_ADAMW = ("adamw_torch", "adamw_torch_fused")
"""transformers' names of what the flat AdamW computes"""


def first_nonfinite_module(model: nn.Module, inputs: dict[str, Any]) -> str | None:
    """Return the name of the first module whose output is not finite in a forward pass, or None.

    Dropout is left as it is and the random state is restored, so that a training run continues unchanged.
    """
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            numbers = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
            if not found and not all(bool(tensor.isfinite().all()) for tensor in numbers):
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name]
    devices = sorted({p.device.index for p in model.parameters() if p.is_cuda})
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices):
            output = model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if not found and not all(bool(leaf.isfinite().all()) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)):
        found.append("the output head")
    return found[0] if found else None


def check_finite(model: nn.Module, inputs: dict[str, Any], when: str) -> None:
    """Raise an error that names the first layer whose output is infinite or not a number.

    float16 ends at 65,504; a base trained in bfloat16 may exceed that.

    Args:
        when: begins the message ("step 7").

    Raises:
        EngineError: some layer's output is not finite.
    """
    name = first_nonfinite_module(model, inputs)
    if name is not None:
        dtypes = {str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()}
        raise EngineError(
            f"{when}: the output of {name} is not finite in {' and '.join(sorted(dtypes))}; this base overflows "
            "here. Use SDPA instead of eager attention, shorten the record, or take a GPU with bfloat16"
        )


class EngineTrainer(SFTTrainer):
    """SFTTrainer for a LoRA over NF4; `use_engine` installs the pieces."""

    args: SFTConfig
    model: Any  # PeftModel, which Trainer's annotation does not know
    engine: InstalledEngine | None = None
    step_records: tuple[str, ...] = ()
    """ids of the records since the last log"""
    _is_checked = False
    """whether `SelfCheck` has run on the first batch"""
    _parameter_count: int | None = None
    _own_tokens = 0
    """tokens of this process since the last log"""
    _fetch_next: Callable[[], Any] | None = None
    _prefetched: tuple[Any, Any] | None = None
    """an epoch's iterator and the next step's batches out of it"""

    def use_engine(self, pieces: EngineOptions | None = None) -> InstalledEngine:
        """Install the pieces under the trainer's model, before `train`.

        What does not support the arguments or the model is left out and named (`InstalledEngine.left_out`); on the
        first batch the rest is compared with the stock modules (`SelfCheck`).

        Raises:
            EngineError: the optimizer exists already, or the launcher shards weights.
        """
        # 1. The pieces that these arguments allow
        chosen = pieces or EngineOptions()
        if self.optimizer is not None:
            raise EngineError("the optimizer is built already; call use_engine before train")
        unsupported = {name: why for name, why in self._unsupported_by_arguments().items() if getattr(chosen, name)}
        chosen = replace(chosen, **dict.fromkeys(unsupported, False))
        # 2. No gradient checkpointing: the recompute piece saves most of its memory at a fraction of its time
        if chosen.recompute:
            base = self.model.get_base_model()
            for name in ("gradient_checkpointing", "activation_checkpointing"):  # transformers renamed it in 5.20
                if getattr(self.args, name, False):
                    setattr(self.args, name, False)
            if base.is_gradient_checkpointing:
                getattr(base, "activation_checkpointing_disable", base.gradient_checkpointing_disable)()
            if getattr(base, "_require_grads_hook", None) is not None:
                base.disable_input_require_grads()
        # 3. Nothing in a step waits for the GPU: batches are copied while it works, counts stay on the device
        dtype = torch.float16 if self.args.device.type == "cuda" else torch.float32
        self.accelerator.dataloader_config.non_blocking = self.args.dataloader_pin_memory
        self.args.logging_nan_inf_filter = False  # it waits for the GPU each step, and hides what must be seen
        self._correct = torch.zeros((), dtype=torch.int64, device=self.args.device)
        self._supervised = 0
        self._last_inputs: dict[str, Any] = {}
        # 4. Install
        self.engine = install(self.model, chosen, dtype)
        self.engine.left_out.update(unsupported)
        self._is_checked = False
        if chosen.optimizer and self.accelerator.num_processes > 1:
            self._skip_ddp(self.engine.store.flat)
        return self.engine

    def _unsupported_by_arguments(self) -> dict[str, str]:
        """Return piece to reason for the pieces that do not compute what these arguments ask for."""
        args, found = self.args, {}
        if args.loss_type != "nll" or args.label_smoothing_factor or self.aux_loss_enabled:
            found["head"] = "it computes plain cross-entropy only, and the arguments ask for another loss"
        elif self.compute_loss_func is not None:
            found["head"] = "the trainer was given a loss of its own"
        if self.optimizer_cls_and_kwargs is not None:
            found["optimizer"] = "the trainer was given an optimizer of its own"
        elif args.optim not in _ADAMW or args.optim_args:
            beside = f" with {args.optim_args}" if args.optim_args else ""
            found["optimizer"] = f"it is torch's AdamW, and optim is {getattr(args.optim, 'value', args.optim)}{beside}"
        elif args.weight_decay:
            decayed = set(self.get_decay_parameter_names(self.model))
            spared = [name for name, p in self.model.named_parameters() if p.requires_grad and name not in decayed]
            if spared:
                found["optimizer"] = f"it decays every weight, and transformers spares {spared[0]}"
        return found

    def _check_engine(self, inputs: dict[str, Any]) -> None:
        """Compare the engine with the stock modules on the first batch and leave out what differs.

        Raises:
            EngineError: the base overflows here; the layer is named.
        """
        engine, self._is_checked = self.engine, True
        if engine is None:
            return
        # 1. The batch: this one, or the row with the dataset's longest record if only that exceeds a sliding window
        batch = inputs
        watched = lengths_to_watch(self.model.get_base_model().config)
        train: Any = self.train_dataset
        columns = getattr(train, "column_names", None) or []
        lengths: list[int] = []
        if watched and "seq_lengths" in columns:
            lengths = [max(row) for row in train["seq_lengths"]]
        elif watched and "input_ids" in columns:
            lengths = [len(row) for row in train["input_ids"]]
        if watched and max(lengths, default=0) > min(watched):
            collated = self.data_collator([train[lengths.index(max(lengths))]])
            collated.pop(RECORD_IDS_COLUMN, None)
            batch = dict(self._prepare_inputs(collated))
        # 2. The comparison, on at most a fifth of a step's tokens: a run of few steps should not wait long for it
        started = time.perf_counter()
        check = SelfCheck(
            engine,
            batch,
            watched_lengths=watched,
            all_agree=self._all_agree,
            trl_head=True,
            tokens=min(
                MOST_TOKENS["cuda" if self.args.device.type == "cuda" else "cpu"],
                max(64, inputs["input_ids"].numel() * self.args.gradient_accumulation_steps // 5),
            ),
        )
        check.run()
        _LOG.info("the engine was compared with the stock modules in %.1f s", time.perf_counter() - started)
        # 3. Can float16 hold this base at all?
        tokens = {name: value for name, value in inputs.items() if name != "labels"}
        loss_inputs = {"labels": inputs["labels"], "engine_loss": True} if engine.pieces.head else {}
        check_finite(self.model, {**tokens, "use_cache": False, **loss_inputs}, "before the first step")
        if self.accelerator.is_main_process:
            for name, why in engine.left_out.items():
                _LOG.warning("engine: %s is left out: %s", name, why)
        # 4. A graph needs the whole engine, a GPU, and one packed row a micro-step. Its tokens are rounded up to 8, as
        #    tensor cores like their matrices
        on = engine.pieces
        whole = on.graph and on.linear and on.attention and on.recompute and on.head and on.optimizer
        one_row = self.args.per_device_train_batch_size == 1 and "seq_lengths" in columns
        if whole and one_row and self.args.device.type == "cuda":
            rows = list(train["seq_lengths"])
            engine.limits = PackedRowLimits(
                tokens=-(-max(sum(row) for row in rows) // 8) * 8,
                longest=max(max(row) for row in rows),
                records=max(len(row) for row in rows),
            )

    def _all_agree(self, yes: bool) -> bool:
        """Return whether every process says yes."""
        if self.accelerator.num_processes == 1:
            return yes
        answers = torch.tensor([int(yes)], device=self.args.device)
        return bool(self.accelerator.gather(answers).min().item())

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as Trainer does; afterwards the memory that only speed needed is free."""
        try:
            return super().train(*args, **kwargs)
        finally:
            if self.engine is not None:
                self.engine.release_buffers()

    def _skip_ddp(self, weights: Tensor) -> None:
        """Keep PyTorch's DDP off the model: with several processes, FlatAdamW averages its one buffer itself.

        DDP's hooks on each weight would miss the gradients that a graph computes, and break its capture.
        """
        kind = self.accelerator.distributed_type
        if kind not in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU):
            raise EngineError(
                f"the engine trains several processes as DDP does and not under {kind.value}, which shards weights; "
                "launch without it, or train with TRL alone (with_engine=False)"
            )
        torch.distributed.broadcast(weights.data, src=0)
        self.accelerator.prepare_model = partial(self.accelerator.prepare_model, evaluation_mode=True)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> Any:
        """Return a step's batches, those fetched while the GPU was busy with the step before if there are any."""
        fetch = partial(super().get_batch_samples, epoch_iterator, num_batches, device)
        iterator, found = self._prefetched or (None, None)
        self._prefetched, self._fetch_next = None, lambda: (epoch_iterator, fetch())
        return found if iterator is epoch_iterator else fetch()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Train a micro-step; once the step's last backward pass is queued, fetch the next step's batches."""
        loss: Tensor = super().training_step(*args, **kwargs)
        if self.engine is not None and self._fetch_next is not None and self.accelerator.sync_gradients:
            self._prefetched, self._fetch_next = self._fetch_next(), None
        return loss

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Compute the cross-entropy over the labels of the whole step, as TRL does.

        ``num_items_in_batch`` counts the labels of all micro-steps (and processes), so that each label weighs the same.
        """
        inputs = dict(inputs)
        records = inputs.pop(RECORD_IDS_COLUMN, ())
        if model.training:
            self.step_records = (*self.step_records, *records)
        if self.engine is not None and not self._is_checked:
            self._check_engine(inputs)
        if self.engine is None or not self.engine.pieces.head or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        call = {**inputs, "use_cache": False, "engine_loss": True}
        if model.training:
            self._last_inputs = call
        output = model(**call)
        loss = output.loss / (max(output.learnt, 1) if num_items_in_batch is None else num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes
        if model.training:
            self._correct += output.correct
            self._supervised += output.learnt
            self._total_train_tokens += inputs["input_ids"].numel() * self.accelerator.num_processes
        return loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the flat AdamW if that piece is on, with the arguments' rates."""
        if self.engine is None or not self.engine.pieces.optimizer:
            return super().create_optimizer(model)
        if self.optimizer is None:
            self.optimizer = FlatAdamW(
                self.engine.store,
                lr=self.args.learning_rate,
                betas=(self.args.adam_beta1, self.args.adam_beta2),
                eps=self.args.adam_epsilon,
                weight_decay=self.args.weight_decay,
                processes=self.accelerator.num_processes,
            )
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as TRL does, with the accuracy and the skipped steps, which are on the device until now.

        Raises:
            EngineError: the loss is not finite; the layer is named.
        """
        if self.engine is not None and "loss" in logs:
            if not math.isfinite(logs["loss"]):
                if self._last_inputs:
                    check_finite(self.model, self._last_inputs, f"step {self.state.global_step}")
                raise EngineError(
                    f"step {self.state.global_step}: the loss is {logs['loss']} though no layer overflows"
                )
            if self._supervised:
                self._metrics["train"]["mean_token_accuracy"] = [self._correct.item() / self._supervised]
                self._metrics["train"]["num_tokens"] = [self._total_train_tokens]
                self._correct.zero_()
                self._supervised = 0
            flat = self._flat_optimizer()
            if flat is not None:
                logs["skipped_steps"] = float(flat.skipped.item())
        if self.engine is not None and self.accelerator.num_processes > 1:
            own = torch.tensor([self._own_tokens], device=self.args.device)
            self.state.num_input_tokens_seen += int(self.accelerator.gather(own).sum().item())
            self._own_tokens = 0
        super().log(logs, start_time)
        if "loss" in logs and self.step_records:  # into the history alone: trackers take numbers only
            entry: dict[str, Any] = self.state.log_history[-1]
            entry["records"], self.step_records = list(self.step_records), ()

    def _flat_optimizer(self) -> FlatAdamW | None:
        inner = getattr(self.optimizer, "optimizer", self.optimizer)
        return inner if isinstance(inner, FlatAdamW) else None

    def _clip_grad_norm(self, model: Any) -> Any:
        flat = self._flat_optimizer()
        if flat is None:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_([flat.gather()], self.args.max_grad_norm)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        flat = self._flat_optimizer()
        if flat is None or grad_norm is not None:
            return super()._get_grad_norm(model, grad_norm=grad_norm)
        return self.accelerator.clip_grad_norm_([flat.gather()], math.inf)  # the norm alone

    def _track_num_input_tokens(self, inputs: dict[str, Any]) -> None:
        """Count tokens without waiting for the GPU: packed rows have no padding, so their size is the count.

        Several processes count their own until the log, where they wait for one another anyway.
        """
        if self.engine is None or "cu_seq_lens_q" not in inputs or self.args.include_num_input_tokens_seen == "no":
            super()._track_num_input_tokens(inputs)
        elif self.accelerator.num_processes > 1:
            self._own_tokens += inputs["input_ids"].numel()
        else:
            self.state.num_input_tokens_seen += inputs["input_ids"].numel()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Estimate 6 · tokens · parameters (https://arxiv.org/abs/2001.08361) as Trainer does, counting only once."""
        if self.engine is None:
            return int(super().floating_point_ops(inputs))
        if self._parameter_count is None:
            self._parameter_count = int(self.model.num_parameters(exclude_embeddings=True))
        return 6 * int(inputs["input_ids"].numel()) * self._parameter_count
