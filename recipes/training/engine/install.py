"""Install all pieces of the engine under one model, and uninstall them together."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields, replace
from functools import wraps
from typing import Any

import torch
from bitsandbytes.nn import Linear4bit
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPast

from bonsai.builder.errors import EngineError
from bonsai.recipes.training.engine import attention
from bonsai.recipes.training.engine.attention import Rotary, patch_attention_modules, patch_rotary
from bonsai.recipes.training.engine.cuda_graph import (
    DequantizedWeightCache,
    PackedRowLimits,
    StepGraph,
    free_gpu_bytes,
    try_cuda_graph,
)
from bonsai.recipes.training.engine.layers import patch_elementwise, patch_gated_mlps
from bonsai.recipes.training.engine.linear import (
    NO_PLAIN_LORA,
    PatchedLinears,
    apart,
    grouped_linears,
    put_under,
    run_three_tokens,
    unpatch_linears,
)
from bonsai.recipes.training.engine.loss import (
    CHUNK,
    PLAIN,
    Logits,
    chunked_cross_entropy,
    learnt_logits,
    supervised_positions,
)
from bonsai.recipes.training.engine.optimizer import FlatAdapterParameters
from bonsai.recipes.training.engine.records_apart import each_record, in_full

_LOG = logging.getLogger(__name__)
_ADAMW_BYTES = 12
"""for each adapter weight: two moments and a gathered gradient, in float32"""
_HEAD_BYTES = 14
"""for each logit of a chunk: in half precision once, in float32 three times at most"""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Which pieces are used; those under the model need the linear."""

    linear: bool = True
    """NF4 linear with adapter in one function, and no autocast inside the model"""
    share_inputs: bool = True
    elementwise: bool = True
    """norms and activations"""
    gated_mlp: bool = True
    rotary: bool = True
    attention_module: bool = True
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


UNDER_THE_MODEL = (
    "linear",
    "share_inputs",
    "elementwise",
    "gated_mlp",
    "rotary",
    "attention_module",
    "recompute",
    "attention",
    "head",
)
"""pieces that compute something in place of the model, in the order in which they are tried"""
NOTHING = EngineOptions(**dict.fromkeys((piece.name for piece in fields(EngineOptions)), False))


@dataclass
class InstalledEngine:
    """A model with pieces under it."""

    pieces: EngineOptions
    """those in use"""
    model: Any
    compute_dtype: torch.dtype
    store: FlatAdapterParameters
    left_alone: list[str]
    spare: DequantizedWeightCache
    left_out: dict[str, str] = field(default_factory=dict)
    """piece to the reason why it is not used, though it was asked for"""
    records_apart: bool = False
    """each record of a row goes through the model alone: packed, they would see one another in it"""
    own_logits: bool = False
    """the loss is taken from the model's own logits, and not by TRL's fused head, which knows not every model"""
    limits: PackedRowLimits | None = None
    """what packed rows never exceed; set, it allows a graph"""
    graph: StepGraph | None = None
    head_and_optimizer_bytes: int = 0
    """bytes that a step takes for the head and the optimizer"""
    autotuned: list[str] = field(default_factory=list)
    """of what is measured at the start, what was used"""
    _linears: PatchedLinears | None = None
    _singles: PatchedLinears | None = None
    _logits: Logits | None = None
    _rotary: dict[str, Rotary | None] = field(default_factory=dict)
    _graph_tried: bool = False
    _undo: list[Callable[[], None]] = field(default_factory=list)

    def told(self) -> str:
        """In a few words, for the run's record."""
        on = [name for name, used in asdict(self.pieces).items() if used and name not in ("graph", "spare_memory")]
        apart = ["each record of a row alone"] if self.records_apart else []
        return ", ".join([*on, *self.autotuned, *apart])

    def use(self, pieces: EngineOptions) -> None:
        """Use these pieces and no others; one that can't be put in is left out and says why."""
        self._take_out()
        on = asdict(pieces)
        base = self.model.get_base_model()
        if not pieces.linear:
            on.update(dict.fromkeys(UNDER_THE_MODEL[:-1], False))
        put_in: dict[str, Callable[[], Callable[[], None]]] = {
            "head": self._learn_logits,  # of the model as it is
            "linear": lambda: self._put_linears(share=on["share_inputs"]),
            "elementwise": lambda: patch_elementwise(base, mark=on["recompute"]),
            "gated_mlp": lambda: patch_gated_mlps(base, mark=on["recompute"]),
            "rotary": lambda: patch_rotary(base, lambda: run_three_tokens(self.model), self._rotary),
            "attention_module": lambda: patch_attention_modules(base),
            "attention": lambda: _patch_attention(base.base_model, self),
        }
        for name, put in put_in.items():
            if not on[name]:
                continue
            try:
                self._undo.append(put())
            except Exception as error:  # noqa: BLE001 - whatever a model wants that the engine doesn't know: it keeps its own
                on[name] = False
                self.left_out.setdefault(name, reason(error))
                if name == "linear":
                    on.update(dict.fromkeys(UNDER_THE_MODEL[:-1], False))
        self.pieces = replace(pieces, **{name: on[name] for name in UNDER_THE_MODEL})
        if on["linear"] or on["attention"]:
            self._undo.append(_patch_backbone(base.base_model, self))
        self._undo.append(_patch_head(base, self))

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
        self._take_out()
        for name in ("train", "zero_grad"):
            self.model.__dict__.pop(name, None)

    def _take_out(self) -> None:
        while self._undo:
            self._undo.pop()()

    def _put_linears(self, *, share: bool) -> Callable[[], None]:
        linears = self._linears
        if linears is None or not linears.groups:
            raise EngineError(NO_PLAIN_LORA)
        if not share and any(len(group.layers) > 1 for group in linears.groups):
            linears = self._singles = self._singles or apart(linears, self.compute_dtype)
        self.spare = DequantizedWeightCache([group.weights for group in linears.groups])
        put_under(linears)
        return lambda: unpatch_linears(linears)

    def _learn_logits(self) -> Callable[[], None]:
        if self._logits is None:
            self._logits = learnt_logits(self.model.get_base_model(), run_three_tokens)
        return lambda: None


def reason(error: Exception) -> str:
    """In one line, for the log and the record."""
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, EngineError | ValueError) and text else f"{type(error).__name__}: {text}"[:200]


def install(model: Any, pieces: EngineOptions, compute_dtype: torch.dtype) -> InstalledEngine:
    """Put the pieces under a PEFT model; the last thing to do to it before training.

    Args:
        model: a PeftModel over a causal language model, on its device.
        compute_dtype: float16 on a GPU, float32 on a CPU.

    A piece that does not fit this model is left out (`Installed.left_out`). Whether the others compute what the
    model's own functions compute is for `bonsai.recipes.training.engine.self_check` to say.

    Raises:
        EngineError: nothing is trained.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise EngineError("nothing of the model is trained; attach an adapter before the engine")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # TRL makes them bfloat16
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # it would repack the weights under us
    left_out: dict[str, str] = {}
    try:
        linears = grouped_linears(model, compute_dtype, share_inputs=pieces.share_inputs)
    except EngineError:
        raise
    except Exception as error:  # noqa: BLE001 - a model that can't be run on three tokens: seldom, and no reason to stop
        left_out["share_inputs"] = reason(error)
        linears = grouped_linears(model, compute_dtype, share_inputs=False)
    spare = DequantizedWeightCache([group.weights for group in linears.groups])
    installed = InstalledEngine(
        pieces, model, compute_dtype, linears.store, linears.left_alone, spare, left_out=left_out, _linears=linears
    )
    if left_out:
        pieces = replace(pieces, share_inputs=False)
    installed.use(pieces)
    head = model.get_base_model().get_output_embeddings()
    vocabulary = 0 if head is None else head.weight.shape[0]
    installed.head_and_optimizer_bytes = _ADAMW_BYTES * linears.store.flat.numel() + _HEAD_BYTES * CHUNK * vocabulary
    _patch_module_walks(model, linears.store)
    return installed


def _patch_attention(backbone: nn.Module, installed: InstalledEngine) -> Callable[[], None]:
    """The packed attention in place of the one that every config below names."""
    device = installed.store.flat.device
    found = {id(config): config for config in (getattr(part, "config", None) for part in backbone.modules())}
    configs: list[Any] = [config for config in found.values() if hasattr(config, "_attn_implementation")]
    before = [config._attn_implementation for config in configs]
    config_of_text = installed.model.get_base_model().config.get_text_config()
    heads, width = (getattr(config_of_text, name, None) for name in ("num_attention_heads", "hidden_size"))
    sizes = {getattr(part, "head_dim", None) for part in backbone.modules()}
    sizes |= {width // heads} if isinstance(heads, int) and isinstance(width, int) else set()
    for size in sizes:  # tried now: inside checkpointing it would confuse
        if isinstance(size, int):
            attention.is_supported(torch.empty(1, 1, 1, size, dtype=installed.compute_dtype, device=device))
    for config in configs:
        config._attn_implementation = attention.NAME

    def undo() -> None:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name

    return undo


def _patch_backbone(backbone: nn.Module, installed: InstalledEngine) -> Callable[[], None]:
    """Refresh the adapter's copy, switch autocast off and give packed rows no mask, around the layers."""
    stock: Any = backbone.forward
    store, packed, linear = installed.store, installed.pieces.attention, installed.pieces.linear
    device = store.flat.device
    mask = attention.dummy_mask(device)

    def eager(*args: Any, **kwargs: Any) -> Any:
        store.refresh()
        if packed and kwargs.get("cu_seq_lens_q") is not None:
            kwargs["attention_mask"] = mask
        with torch.autocast(device.type, enabled=False) if linear else nullcontext():
            return stock(*args, **kwargs)

    def forward(*args: Any, **kwargs: Any) -> Any:
        graph = _graph_for(installed, eager, kwargs) if backbone.training and torch.is_grad_enabled() else None
        if graph is None:
            return eager(*args, **kwargs)
        hidden = graph.run(kwargs["input_ids"], kwargs["position_ids"], kwargs["cu_seq_lens_q"])
        return BaseModelOutputWithPast(last_hidden_state=hidden)

    return _override_forward(backbone, forward)


def _graph_for(installed: InstalledEngine, eager: Callable[..., Any], row: dict[str, Any]) -> StepGraph | None:
    limits, bounds = installed.limits, row.get("cu_seq_lens_q")
    if limits is None or bounds is None or row.get("input_ids") is None:
        return None
    if not limits.fits(row["input_ids"].shape[1], row["max_length_q"], bounds.numel() - 1):
        return None
    if not installed._graph_tried:
        installed._graph_tried = True
        installed.graph = _graph_and_spare_memory(installed, eager, limits)
        kept = [installed.spare.told()] if installed.spare.kept_bytes else []
        installed.autotuned = [*(["graph"] if installed.graph else []), *kept]
    return installed.graph


def _graph_and_spare_memory(
    installed: InstalledEngine, layers: Callable[..., Any], limits: PackedRowLimits
) -> StepGraph | None:
    store, spare = installed.store, installed.spare
    graph, in_use = try_cuda_graph(layers, store, limits)
    if in_use is None:
        return None
    room = free_gpu_bytes(in_use, installed.head_and_optimizer_bytes)
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
    graph, in_use = try_cuda_graph(layers, store, limits)
    if in_use is None:
        spare.let_go()
        graph, _ = try_cuda_graph(layers, store, limits)
    return graph


def _patch_head(base: Any, installed: InstalledEngine) -> Callable[[], None]:
    """``model(..., labels=..., engine_loss=True)`` returns a `HeadOutput`; any other call is as before.

    Where records go through the model apart, or TRL's fused head is not this model's, both are seen to here too.
    """
    stock = base.forward

    @wraps(stock)
    def forward(
        *args: Any, engine_loss: bool = False, labels: Any = None, fused_lm_head: bool = False, **kwargs: Any
    ) -> Any:
        split = installed.records_apart and not args
        if engine_loss:
            positions = supervised_positions(labels)
            if split:
                hidden = each_record(lambda **one: base.base_model(**one).last_hidden_state, kwargs)
            else:
                hidden = base.base_model(*args, **kwargs).last_hidden_state
            with torch.autocast(hidden.device.type, enabled=False):
                return chunked_cross_entropy(
                    hidden, base.get_output_embeddings(), positions, installed._logits or PLAIN
                )
        if installed.pieces.linear:
            installed.store.refresh()  # not every model calls its backbone as a whole
        given = {} if labels is None else {"labels": labels}
        if not split and not (fused_lm_head and installed.own_logits):
            return stock(*args, **given, **({"fused_lm_head": True} if fused_lm_head else {}), **kwargs)
        balance: list[Tensor] = []  # of a mixture of experts, if it is asked for

        def logits_of(**one: Any) -> Tensor:
            output = stock(**one)
            if getattr(output, "aux_loss", None) is not None:
                balance.append(output.aux_loss)
            return output.logits  # type: ignore[no-any-return]

        count = kwargs.pop("num_items_in_batch", None)
        logits = each_record(logits_of, kwargs) if split else logits_of(*args, **kwargs)
        return in_full(logits, labels, count, torch.stack(balance).mean() if balance else None)

    return _override_forward(base, forward)


def _patch_module_walks(model: Any, store: FlatAdapterParameters) -> None:
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


def _override_forward(module: nn.Module, forward: Callable[..., Any]) -> Callable[[], None]:
    before = module.__dict__.get("forward")
    module.forward = forward

    def undo() -> None:
        if before is None:
            del module.forward
        else:
            module.forward = before

    return undo
