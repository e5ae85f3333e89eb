"""Install the pieces of the engine under one model, and uninstall them together.

    installed = install(model, EngineOptions(), torch.float16)
    model(**batch, engine_loss=True).loss        # summed over the supervised tokens
    installed.uninstall()

Pieces replace functions of the model's modules and can be swapped at any time (`InstalledEngine.use`); the trained
weights stay where they are.
"""

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
    group_linears,
    install_linears,
    run_three_tokens,
    ungroup,
    unpatch_linears,
)
from bonsai.recipes.training.engine.loss import (
    CHUNK,
    PLAIN,
    Logits,
    chunked_cross_entropy,
    detect_logits,
    supervised_positions,
)
from bonsai.recipes.training.engine.optimizer import FlatAdapterParameters
from bonsai.recipes.training.engine.records_apart import each_record, output_from_logits

_LOG = logging.getLogger(__name__)
_ADAMW_BYTES = 12
"""for each adapter weight: two moments and the gathered gradient, in float32"""
_HEAD_BYTES = 14
"""for each logit of a chunk: in half precision once, in float32 three times at most"""


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """The pieces to use; those under the model need the linear. The names are stored in run.json."""

    linear: bool = True
    """NF4 linear with adapter in one function, and no autocast inside the model"""
    share_inputs: bool = True
    """linears that read the same tensor are computed together"""
    elementwise: bool = True
    """norms and activations"""
    gated_mlp: bool = True
    """SwiGLU in one function"""
    rotary: bool = True
    """queries and keys rotated without temporaries"""
    attention_module: bool = True
    """q, k and v split in one operation (Phi, Phi-3)"""
    recompute: bool = True
    """no gradient checkpointing; norms and activations are computed again instead"""
    attention: bool = True
    """packed rows only; padded batches keep SDPA"""
    head: bool = True
    """cross-entropy in chunks, at supervised positions only"""
    optimizer: bool = True
    """AdamW over one flat buffer"""
    graph: bool = True
    """on a GPU, if it pays there; needs attention, recompute and optimizer"""
    spare_memory: bool = True
    """weights cached dequantised where memory is left over, which is known only if a graph is tried"""


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
    """A model with pieces installed under it; made by `install`."""

    pieces: EngineOptions
    """those in use"""
    model: Any
    compute_dtype: torch.dtype
    store: FlatAdapterParameters
    unpatched_layers: list[str]
    """names of LoRA layers that stay peft's"""
    weight_cache: DequantizedWeightCache
    left_out: dict[str, str] = field(default_factory=dict)
    """piece to the reason why it is not used, though it was requested"""
    records_apart: bool = False
    """each record of a row goes through the model alone: packed, they would see one another in it"""
    own_logits: bool = False
    """the loss is taken from the model's own logits, not by TRL's fused head, which does not support every model"""
    limits: PackedRowLimits | None = None
    """upper limits of the packed rows; if set, a graph is tried"""
    graph: StepGraph | None = None
    head_and_optimizer_bytes: int = 0
    """bytes that a step takes for the head and the optimizer"""
    autotuned: list[str] = field(default_factory=list)
    """what measuring at the start chose to use"""
    _linears: PatchedLinears | None = None
    _singles: PatchedLinears | None = None
    _logits: Logits | None = None
    _rotary: dict[str, Rotary | None] = field(default_factory=dict)
    _graph_tried: bool = False
    _undo: list[Callable[[], None]] = field(default_factory=list)

    def summary(self) -> str:
        """Name what is in use in a few words, for the run's record."""
        on = [name for name, used in asdict(self.pieces).items() if used and name not in ("graph", "spare_memory")]
        apart = ["each record of a row alone"] if self.records_apart else []
        return ", ".join([*on, *self.autotuned, *apart])

    def use(self, pieces: EngineOptions) -> None:
        """Use these pieces and no others; one that cannot be installed is left out with its reason."""
        # 1. What can be installed, in the order in which it must be: the logits are those of the model as it is, and
        #    the other pieces are compared with modules whose linears are in place
        self._undo_all()
        on = asdict(pieces)
        base = self.model.get_base_model()
        if not pieces.linear:
            on.update(dict.fromkeys(UNDER_THE_MODEL[:-1], False))

        def detect_head() -> Callable[[], None]:
            self._logits = self._logits or detect_logits(base, run_three_tokens)
            return lambda: None

        def use_linears() -> Callable[[], None]:
            linears = self._linears
            if linears is None or not linears.groups:
                raise EngineError(NO_PLAIN_LORA)
            if not on["share_inputs"] and any(len(group.layers) > 1 for group in linears.groups):
                linears = self._singles = self._singles or ungroup(linears, self.compute_dtype)
            self.weight_cache = DequantizedWeightCache([group.weights for group in linears.groups])
            install_linears(linears)
            return lambda: unpatch_linears(linears)

        patches: dict[str, Callable[[], Callable[[], None]]] = {
            "head": detect_head,
            "linear": use_linears,
            "elementwise": lambda: patch_elementwise(base, mark=on["recompute"]),
            "gated_mlp": lambda: patch_gated_mlps(base, mark=on["recompute"]),
            "rotary": lambda: patch_rotary(base, lambda: run_three_tokens(self.model), self._rotary),
            "attention_module": lambda: patch_attention_modules(base),
            "attention": lambda: _patch_attention(base.base_model, self),
        }
        # 2. Install it; without the linears, the head alone
        for name, patch in patches.items():
            if not on[name]:
                continue
            try:
                self._undo.append(patch())
            except Exception as error:  # noqa: BLE001 - whatever a model wants that the engine doesn't know: it keeps its own
                on[name] = False
                self.left_out.setdefault(name, reason(error))
                if name == "linear":
                    on.update(dict.fromkeys(UNDER_THE_MODEL[:-1], False))
        self.pieces = replace(pieces, **{name: on[name] for name in UNDER_THE_MODEL})
        # 3. What surrounds the layers: last, because it calls whatever forward it finds
        if on["linear"] or on["attention"]:
            self._undo.append(_patch_backbone(base.base_model, self))
        self._undo.append(_patch_head(base, self))

    def release_buffers(self) -> None:
        """Give back the memory that only training's speed needed; the next training measures anew."""
        self.graph, self._graph_tried = None, False
        self.weight_cache.drop()
        if self.store.flat.is_cuda:
            torch.cuda.empty_cache()

    def uninstall(self) -> None:
        """Give the model its own functions back; the trained weights stay."""
        self.limits = None
        self.release_buffers()
        self._undo_all()
        for name in ("train", "zero_grad"):
            self.model.__dict__.pop(name, None)

    def _undo_all(self) -> None:
        while self._undo:
            self._undo.pop()()


def reason(error: Exception) -> str:
    """Describe an error in one line, for the log and the run's record."""
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, EngineError | ValueError) and text else f"{type(error).__name__}: {text}"[:200]


def install(model: Any, pieces: EngineOptions, compute_dtype: torch.dtype) -> InstalledEngine:
    """Install the pieces under a PEFT model; the last thing to do to it before training.

    A piece that does not fit this model is left out (`InstalledEngine.left_out`). Whether the others compute what the
    model's own functions compute is checked by `bonsai.recipes.training.engine.self_check`.

    Args:
        model: a PeftModel over a causal language model, on its device.
        compute_dtype: float16 on a GPU, float32 on a CPU.

    Raises:
        EngineError: nothing is trained.
    """
    # 1. Adapter weights in float32 (AdamW's small updates would be rounded away below it), NF4 weights left as they are
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise EngineError("nothing of the model is trained; attach an adapter before the engine")
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # TRL makes them bfloat16
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False  # it would repack the weights under us
    # 2. Group the linears, which takes a forward pass; where that fails, each alone
    left_out: dict[str, str] = {}
    try:
        linears = group_linears(model, compute_dtype, share_inputs=pieces.share_inputs)
    except EngineError:
        raise
    except Exception as error:  # noqa: BLE001 - a model that can't be run on three tokens: seldom, and no reason to stop
        left_out["share_inputs"] = reason(error)
        linears = group_linears(model, compute_dtype, share_inputs=False)
    cache = DequantizedWeightCache([group.weights for group in linears.groups])
    # 3. Install
    installed = InstalledEngine(
        pieces,
        model,
        compute_dtype,
        linears.store,
        linears.unpatched_layers,
        cache,
        left_out=left_out,
        _linears=linears,
    )
    if left_out:
        pieces = replace(pieces, share_inputs=False)
    installed.use(pieces)
    # 4. What a step takes outside the layers, so that a graph leaves room for it
    head = model.get_base_model().get_output_embeddings()
    vocabulary = 0 if head is None else head.weight.shape[0]
    installed.head_and_optimizer_bytes = _ADAMW_BYTES * linears.store.flat.numel() + _HEAD_BYTES * CHUNK * vocabulary
    _patch_module_walks(model, linears.store)
    return installed


def _patch_attention(backbone: nn.Module, installed: InstalledEngine) -> Callable[[], None]:
    """Name the packed attention in every config below; return a function that restores the names."""
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
    """Refresh the adapter's copy, switch autocast off and give packed rows no mask; replay a graph if there is one."""
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

    def graph_for(row: dict[str, Any]) -> StepGraph | None:
        limits, bounds = installed.limits, row.get("cu_seq_lens_q")
        if limits is None or bounds is None or row.get("input_ids") is None:
            return None
        if not limits.fits(row["input_ids"].shape[1], row["max_length_q"], bounds.numel() - 1):
            return None
        if not installed._graph_tried:  # once, at the first row that fits
            installed._graph_tried = True
            installed.graph = capture_graph_and_cache_weights(installed, eager, limits)
            cached = [installed.weight_cache.summary()] if installed.weight_cache.cached_bytes else []
            installed.autotuned = [*(["graph"] if installed.graph else []), *cached]
        return installed.graph

    def forward(*args: Any, **kwargs: Any) -> Any:
        graph = graph_for(kwargs) if backbone.training and torch.is_grad_enabled() else None
        if graph is None:
            return eager(*args, **kwargs)
        hidden = graph.run(kwargs["input_ids"], kwargs["position_ids"], kwargs["cu_seq_lens_q"])
        return BaseModelOutputWithPast(last_hidden_state=hidden)

    return _override_forward(backbone, forward)


def capture_graph_and_cache_weights(
    installed: InstalledEngine, layers: Callable[..., Any], limits: PackedRowLimits
) -> StepGraph | None:
    """Try a CUDA graph, and cache dequantised weights in the memory it leaves over.

    Returns:
        The graph; None if it does not pay, or memory does not suffice for it beside optimizer and loss.
    """
    store, cache = installed.store, installed.weight_cache
    # 1. A first graph shows what a step takes
    graph, in_use = try_cuda_graph(layers, store, limits)
    if in_use is None:
        return None
    room = free_gpu_bytes(in_use, installed.head_and_optimizer_bytes)
    if graph is not None and room < 0:
        _LOG.info("no CUDA graph: beside it, %.1f GiB are missing for optimizer and loss", -room / 2**30)
        graph = None
        torch.cuda.empty_cache()
        return None
    # 2. The rest holds weights
    if not installed.pieces.spare_memory or not cache.fill(room):
        return graph
    _LOG.info(cache.summary())
    if graph is None:
        return None
    # 3. The first graph still dequantises; its memory must be free before the next one is captured
    graph = None
    torch.cuda.empty_cache()
    graph, in_use = try_cuda_graph(layers, store, limits)
    if in_use is None:
        cache.drop()
        graph, _ = try_cuda_graph(layers, store, limits)
    return graph


def _patch_head(base: Any, installed: InstalledEngine) -> Callable[[], None]:
    """Let ``model(..., labels=..., engine_loss=True)`` return a `HeadOutput`; any other call is as before.

    Runs records apart and takes the loss from whole logits too, where `InstalledEngine` asks for it.
    """
    stock = base.forward

    @wraps(stock)
    def forward(
        *args: Any, engine_loss: bool = False, labels: Any = None, fused_lm_head: bool = False, **kwargs: Any
    ) -> Any:
        split = installed.records_apart and not args
        # 1. The engine's loss. The positions first: counting them waits for the GPU, and it has nothing to do yet
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
        # 2. A call as before; not every model calls its backbone as a whole, so the copy is refreshed here too
        if installed.pieces.linear:
            installed.store.refresh()
        given = {} if labels is None else {"labels": labels}
        if not split and not (fused_lm_head and installed.own_logits):
            return stock(*args, **given, **({"fused_lm_head": True} if fused_lm_head else {}), **kwargs)
        # 3. Whole logits, each record alone or not, and what TRL's fused head would return
        balance: list[Tensor] = []  # a mixture of experts' auxiliary loss, if the config asks for it

        def logits_of(**one: Any) -> Tensor:
            output = stock(**one)
            if getattr(output, "aux_loss", None) is not None:
                balance.append(output.aux_loss)
            return output.logits  # type: ignore[no-any-return]

        count = kwargs.pop("num_items_in_batch", None)
        logits = each_record(logits_of, kwargs) if split else logits_of(*args, **kwargs)
        return output_from_logits(logits, labels, count, torch.stack(balance).mean() if balance else None)

    return _override_forward(base, forward)


def _patch_module_walks(model: Any, store: FlatAdapterParameters) -> None:
    """Shorten ``train`` and ``zero_grad``, which Trainer calls each step and which walk thousands of modules."""
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
    """Set an instance's forward; return a function that restores an earlier override, if there was one."""
    before = module.__dict__.get("forward")
    module.forward = forward

    def undo() -> None:
        if before is None:
            del module.forward
        else:
            module.forward = before

    return undo
