"""All pieces of the engine put under one model, and taken out together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from bonsai.recipes.training.engine import attention
from bonsai.recipes.training.engine.adapter_store import AdapterStore
from bonsai.recipes.training.engine.attention_module import patch_attention_modules
from bonsai.recipes.training.engine.elementwise import patch_elementwise
from bonsai.recipes.training.engine.gated_mlp import patch_gated_mlps
from bonsai.recipes.training.engine.linear_patch import patch_linears, unpatch_linears
from bonsai.recipes.training.engine.loss_head import CHUNK, learnt, next_token_loss
from bonsai.recipes.training.engine.rotary import patch_rotary
from bonsai.recipes.training.engine.spare_memory import SpareMemory, room_on_gpu
from bonsai.recipes.training.engine.step_graph import RowLimits, StepGraph, graph_if_it_pays

_LOG = logging.getLogger(__name__)
_ADAMW_BYTES = 12
"""for each adapter weight: two moments and a gathered gradient, in float32"""
_HEAD_BYTES = 14
"""for each logit of a chunk: in half precision once, in float32 three times at most"""


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Which pieces are used; those under the model need the linear."""

    linear: bool = True
    """NF4 linear with adapter in one function, and no autocast inside the model"""
    share_inputs: bool = True
    elementwise: bool = True
    recompute: bool = True
    """no gradient checkpointing; norms and activations are computed again instead"""
    attention: bool = True
    """packed rows only; padded batches keep SDPA"""
    head: bool = True
    optimizer: bool = True
    graph: bool = True
    """on a GPU, if it pays there; needs attention, recompute and optimizer"""
    spare_memory: bool = True
    """weights kept dequantised where memory is left over; known only where a graph is tried"""


@dataclass
class Installed:
    """A model with pieces under it."""

    pieces: Pieces
    store: AdapterStore
    left_alone: list[str]
    spare: SpareMemory
    limits: RowLimits | None = None
    """what packed rows never exceed; set, it allows a graph"""
    graph: StepGraph | None = None
    beside_the_layers: int = 0
    """bytes that a step takes for the head and the optimizer"""
    found_to_pay: list[str] = field(default_factory=list)
    """of what is measured at the start, what was used"""
    _graph_tried: bool = False
    _undo: list[Callable[[], None]] = field(default_factory=list)

    def told(self) -> str:
        """In a few words, for the run's record."""
        on = [name for name, used in asdict(self.pieces).items() if used and name not in ("graph", "spare_memory")]
        return ", ".join([*on, *self.found_to_pay])

    def rest(self) -> None:
        """Training is over: give back what only its speed needed. The next training measures anew."""
        self.graph, self._graph_tried = None, False
        self.spare.let_go()
        if self.store.flat.is_cuda:
            torch.cuda.empty_cache()

    def remove(self) -> None:
        """Give the model its own functions back; the trained weights stay."""
        self.limits = None
        self.rest()
        while self._undo:
            self._undo.pop()()


def install(model: Any, pieces: Pieces, compute_dtype: torch.dtype) -> Installed:
    """Put the pieces under a PEFT model; the last thing to do to it before training.

    Args:
        model: a PeftModel over a causal language model in NF4, on its device.
        compute_dtype: float16 on a GPU, float32 on a CPU.

    Raises:
        EngineError: the model has no linear that the engine can replace.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # TRL makes them bfloat16
    base = model.get_base_model()
    patched = patch_linears(model, compute_dtype, share_inputs=pieces.share_inputs)
    spare = SpareMemory([group.weights for group in patched.groups])
    installed = Installed(pieces, patched.store, patched.left_alone, spare, _undo=[lambda: unpatch_linears(patched)])
    if pieces.elementwise:
        mark = pieces.recompute
        installed._undo += [patch_elementwise(base, mark=mark), patch_gated_mlps(base, mark=mark), patch_rotary(base)]
        installed._undo.append(patch_attention_modules(base))
    installed._undo.append(_patch_backbone(base.base_model, installed))
    if pieces.head:
        installed._undo.append(_patch_head(base))
    installed.beside_the_layers = (
        _ADAMW_BYTES * patched.store.flat.numel() + _HEAD_BYTES * CHUNK * base.config.vocab_size
    )
    installed._undo.append(_patch_walks(model, patched.store))
    return installed


def _patch_backbone(backbone: nn.Module, installed: Installed) -> Callable[[], None]:
    """Refresh the adapter's copy, switch autocast off and pick the attention, around the layers."""
    stock: Any = backbone.forward
    store, packed = installed.store, installed.pieces.attention
    config: Any = backbone.config
    before = config._attn_implementation
    device = store.flat.device
    mask = attention.no_mask(device)
    if packed:
        config._attn_implementation = attention.NAME
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        attention.works_here(store.low.new_empty(1, 1, heads, size))  # tried now: inside checkpointing it would confuse

    def eager(*args: Any, **kwargs: Any) -> Any:
        store.refresh()
        if packed and kwargs.get("cu_seq_lens_q") is not None:
            kwargs["attention_mask"] = mask
        with torch.autocast(device.type, enabled=False):
            return stock(*args, **kwargs)

    def forward(*args: Any, **kwargs: Any) -> Any:
        graph = _graph_for(installed, eager, kwargs) if backbone.training and torch.is_grad_enabled() else None
        if graph is None:
            return eager(*args, **kwargs)
        hidden = graph.run(kwargs["input_ids"], kwargs["position_ids"], kwargs["cu_seq_lens_q"])
        return BaseModelOutputWithPast(last_hidden_state=hidden)

    back = _shadowed(backbone, forward)

    def undo() -> None:
        back()
        config._attn_implementation = before

    return undo


def _graph_for(installed: Installed, eager: Callable[..., Any], row: dict[str, Any]) -> StepGraph | None:
    limits, bounds = installed.limits, row.get("cu_seq_lens_q")
    if limits is None or bounds is None or row.get("input_ids") is None:
        return None
    if not limits.fits(row["input_ids"].shape[1], row["max_length_q"], bounds.numel() - 1):
        return None
    if not installed._graph_tried:
        installed._graph_tried = True
        installed.graph = _graph_and_spare_memory(installed, eager, limits)
        kept = [installed.spare.told()] if installed.spare.kept_bytes else []
        installed.found_to_pay = [*(["graph"] if installed.graph else []), *kept]
    return installed.graph


def _graph_and_spare_memory(installed: Installed, layers: Callable[..., Any], limits: RowLimits) -> StepGraph | None:
    store, spare = installed.store, installed.spare
    graph, in_use = graph_if_it_pays(layers, store, limits)
    if in_use is None:
        return None
    room = room_on_gpu(in_use, installed.beside_the_layers)
    if graph is not None and room < 0:
        _LOG.info("no CUDA graph: beside it, %.1f GiB are missing for optimizer and loss", -room / 2**30)
        graph = None
        torch.cuda.empty_cache()
        return None
    if not installed.pieces.spare_memory or not spare.fill(room):
        return graph
    _LOG.info(spare.told())
    if graph is None:
        return None
    graph = None  # its memory is free for the next one
    torch.cuda.empty_cache()
    graph, in_use = graph_if_it_pays(layers, store, limits)
    if in_use is None:
        spare.let_go()
        graph, _ = graph_if_it_pays(layers, store, limits)
    return graph


def _patch_head(base: Any) -> Callable[[], None]:
    """``model(..., labels=..., engine_loss=True)`` returns a `HeadOutput`; any other call is as before."""
    stock = base.forward

    def forward(*args: Any, engine_loss: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not engine_loss:
            return stock(*args, **kwargs) if labels is None else stock(*args, labels=labels, **kwargs)
        positions = learnt(labels)
        hidden = base.base_model(*args, **kwargs).last_hidden_state
        with torch.autocast(hidden.device.type, enabled=False):
            return next_token_loss(hidden, base.get_output_embeddings(), positions)

    return _shadowed(base, forward)


def _patch_walks(model: Any, store: AdapterStore) -> Callable[[], None]:
    """Trainer calls ``train`` and ``zero_grad`` each step; each walks thousands of modules for what is known."""
    stock_train = model.train
    base = model.get_base_model()
    known: list[bool] = []  # empty: a PEFT model is born in training mode around a base that is not

    def train(mode: bool = True) -> Any:
        if known == [mode] and base.training == mode:
            return model
        known[:] = [mode]
        return stock_train(mode)

    def zero_grad(set_to_none: bool = True) -> None:
        for parameter in store.parameters:
            parameter.grad = None

    model.train, model.zero_grad = train, zero_grad

    def undo() -> None:
        del model.train, model.zero_grad

    return undo


def _shadowed(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    before = module.__dict__.get("forward")
    module.forward = forward

    def undo() -> None:
        if before is None:
            del module.forward
        else:
            module.forward = before

    return undo
