"""The engine proves itself on the run's own data before it trains: loss and every gradient beside the stock modules'.

What is right is what the stock modules give each record alone in its row. Pieces are chosen by what a module looks
like, and looks deceive: a norm with another formula, logits that are scaled afterwards, an attention that builds its
own mask. So on the first batch the engine is compared with that truth; what differs beyond rounding is left out, and
named. Packing itself is held to the same: where stock packed records see one another, each goes through alone.

    check = SelfCheck(installed, batch)
    check.run()                      # installed.pieces, .left_out, .records_apart and .own_logits say what came of it

Nothing of it stays: adapter, gradients, modes and random state are as they were.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bonsai.recipes.training.engine.install import NOTHING, UNDER_THE_MODEL, EngineOptions, InstalledEngine, reason
from bonsai.recipes.training.engine.records_apart import record_places

RECORDS = 3
"""of the batch are enough, and no fewer than two: one could see no other"""
MOST_TOKENS = 512
LIFT = 1024.0
"""the loss is scaled up by it in float16, or small gradients are lost on the way"""


class Tolerance(NamedTuple):
    """How far apart two results may be, for their size."""

    loss: float
    gradient: float
    """of each adapter weight"""
    at_most: float
    """where rounding alone is found to do more, so much of a gradient is let pass, and never more"""


TOLERANCES = {torch.float32: Tolerance(5e-6, 2e-5, 2e-3), torch.float16: Tolerance(2e-3, 2e-2, 2.5e-1)}
TIMES_ROUNDING = 8.0
FLOOR = 1e-7
"""of all gradients' norm: below it a weight's gradient is rounding and no more; in float16 a thousandfold"""


class Result(NamedTuple):
    """Of one forward and backward pass."""

    loss: float
    gradients: list[Tensor]


class SelfCheck:
    """Compares an installed engine with the stock modules under the same model.

    Args:
        batch: the run's first, on the model's device; its labels may be -100 throughout.
        watched_lengths: lengths at which the model may begin to compute something else (a sliding window's); with a
            record beyond the smallest of them, the longest record is among those that are compared.
        all_agree: of several processes, whether each says yes; each must come to the same pieces.
        trl_head: whether the trainer takes the loss from TRL's fused head where ours is not used.
        tokens: at most, of the records that are compared.
    """

    def __init__(
        self,
        installed: InstalledEngine,
        batch: Mapping[str, Any],
        *,
        watched_lengths: tuple[int, ...] = (),
        all_agree: Callable[[bool], bool] = bool,
        trl_head: bool = False,
        tokens: int = MOST_TOKENS,
    ) -> None:
        self._installed = installed
        self._model = installed.model
        self._agree = all_agree
        self._trl_head = trl_head
        self._batch = some_records(batch, tokens, watched_lengths)
        self._dtype = installed.compute_dtype
        self._truth: Result | None = None
        self._rounding: Result | None = None
        self._measured = False
        self._why = ""

    def run(self) -> None:
        """Leave in use what computes the truth, and nothing else."""
        installed, wanted = self._installed, self._installed.pieces
        with _untouched(installed):
            # 1. The truth: stock modules, each record alone, and the loss from the model's own logits; where there is
            #    none to compare with, that is what is trained
            installed.records_apart = installed.own_logits = True
            self._truth = self._result(NOTHING)
            if not self._agree(self._truth is not None):
                installed.left_out["all pieces"] = f"the model by itself gives nothing to compare with: {self._why}"
                installed.use(replace(wanted, **dict.fromkeys(UNDER_THE_MODEL, False)))
                return
            # 2. All at once, as it was asked for: nearly always right, and then nothing more is to be done
            installed.records_apart = installed.own_logits = False
            if self._is_true(wanted) and installed.pieces == wanted:
                return
            # 3. Do records stay apart when they are packed, in the stock modules or with our attention?
            installed.own_logits = True
            packed_by_stock = self._is_true(NOTHING)
            seen_by_stock = self._why
            if not packed_by_stock:
                kept = replace(NOTHING, linear=wanted.linear, attention=wanted.attention)
                if not (wanted.attention and self._is_true(kept)):
                    installed.records_apart = True
                    installed.left_out["packing" if _is_packed(self._batch) else "padding"] = (
                        f"records do not stay apart in this model's own modules ({seen_by_stock}); each goes alone"
                    )
            # 4. Piece by piece, each on top of those that were found right
            kept, order = NOTHING, list(UNDER_THE_MODEL)
            if not packed_by_stock and not installed.records_apart:
                kept = replace(kept, linear=wanted.linear, attention=True)
                order = [name for name in order if name not in ("linear", "attention")]
            for name in order:
                needs = () if name in ("linear", "head") else ("linear",)
                if not getattr(wanted, name) or not all(getattr(kept, one) for one in needs):
                    continue
                if name == "attention" and installed.records_apart:
                    continue  # a record alone needs none
                tried = replace(kept, **{name: True})
                if self._is_true(tried):
                    kept = tried
                else:
                    installed.left_out.setdefault(name, self._why)
            # 5. The head: ours, else TRL's fused one if it is right, else the model's own logits
            if not kept.head and self._trl_head and not installed.records_apart:
                installed.own_logits = False
                if not self._is_true(kept):
                    installed.left_out["trl_fused_head"] = self._why
                    installed.own_logits = True
            installed.use(replace(wanted, **{name: getattr(kept, name) for name in UNDER_THE_MODEL}))
            for name in UNDER_THE_MODEL:  # what was in the way once and is in use now
                if getattr(installed.pieces, name):
                    installed.left_out.pop(name, None)

    def _is_true(self, pieces: EngineOptions) -> bool:
        """Whether loss and gradients with these pieces are the truth's but for rounding, in every process."""
        found = self._result(pieces)
        if not self._agree(found is not None) or found is None:
            return False
        if self._agree(self._is_near(found, measured=False)):
            return True
        if not self._measured:  # what rounding does here takes another pass, and is seldom asked for
            self._rounding, self._measured = self._result(NOTHING, shaken=True), True
        return self._agree(self._is_near(found, measured=True))

    def _is_near(self, found: Result, *, measured: bool) -> bool:
        truth, rounding, tolerance = self._truth, self._rounding, TOLERANCES[self._dtype]
        if truth is None or (measured and rounding is None):
            return False
        # 1. The loss
        allowed = tolerance.loss
        if measured and rounding is not None:
            by_rounding = TIMES_ROUNDING * abs(rounding.loss - truth.loss) / abs(truth.loss)
            allowed = max(allowed, min(by_rounding, tolerance.at_most))
        off = abs(found.loss - truth.loss) / max(abs(truth.loss), 1e-30)
        if not off <= allowed:
            self._why = f"the loss is {off:.1e} off"
            return False
        # 2. Every gradient, for its own size; one that is nothing beside the others counts as none
        whole = torch.stack([gradient.double().norm() for gradient in truth.gradients]).norm()
        floor = float(whole) * FLOOR * (1.0 if self._dtype == torch.float32 else 1e3)
        worst = 0.0
        for number, (ours, theirs) in enumerate(zip(found.gradients, truth.gradients, strict=True)):
            size, error = float(theirs.double().norm()), float((ours - theirs).double().norm())
            allowed = tolerance.gradient
            if measured and rounding is not None and size:
                by_rounding = TIMES_ROUNDING * float((rounding.gradients[number] - theirs).double().norm()) / size
                allowed = max(allowed, min(by_rounding, tolerance.at_most))
            if not error <= allowed * size + floor:
                worst = max(worst, error / (size + floor)) if error == error else float("inf")
        self._why = f"a gradient is {worst:.1e} off" if worst else ""
        return not worst

    def _result(self, pieces: EngineOptions, *, shaken: bool = False) -> Result | None:
        """Loss and gradients with these pieces; None where something raises or is not finite."""
        installed = self._installed
        flags = installed.records_apart, installed.own_logits
        lift = LIFT if self._dtype == torch.float16 else 1.0
        try:
            shake = _shaken(self._model, self._dtype) if shaken else nullcontext()
            with warnings.catch_warnings(), torch.enable_grad(), shake:  # an evaluation may be what comes first
                warnings.simplefilter("ignore")  # a warning is no verdict
                if shaken:
                    installed.records_apart = installed.own_logits = True
                installed.use(pieces)
                missing = [n for n in UNDER_THE_MODEL if getattr(pieces, n) and not getattr(installed.pieces, n)]
                if missing:
                    raise ValueError(installed.left_out.get(missing[0], "it cannot be put in"))
                loss = self._loss()
                gradients = torch.autograd.grad(loss * lift, installed.store.parameters, allow_unused=True)
        except Exception as error:  # noqa: BLE001 - anything that an unknown model raises means: not this way
            self._why = reason(error)
            return None
        finally:
            installed.records_apart, installed.own_logits = flags
        filled = [
            torch.zeros_like(parameter) if gradient is None else gradient.detach().float() / lift
            for parameter, gradient in zip(installed.store.parameters, gradients, strict=True)
        ]
        if not all(bool(tensor.isfinite().all()) for tensor in (loss, *filled)):
            self._why = "numbers that are none"
            return None
        return Result(float(loss.detach()), filled)

    def _loss(self) -> Tensor:
        """Mean over what is learnt, as the trainer takes it, without dropout."""
        inputs = {name: value for name, value in self._batch.items() if name != "labels"}
        labels, count = self._batch["labels"], int((self._batch["labels"][:, 1:] != -100).sum())
        half = torch.autocast(labels.device.type, torch.float16) if self._dtype == torch.float16 else nullcontext()
        with half:
            if self._installed.pieces.head:
                return self._model(**inputs, labels=labels, use_cache=False, engine_loss=True).loss / count  # type: ignore[no-any-return]
            if self._trl_head and not self._installed.own_logits:
                output = self._model(**inputs, labels=labels, use_cache=False, fused_lm_head=True)
                return -output.log_probs.sum() / count  # type: ignore[no-any-return]
            logits = self._model(**inputs, use_cache=False).logits[:, :-1].float()
            return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))


def some_records(batch: Mapping[str, Any], tokens: int, watched_lengths: tuple[int, ...] = ()) -> dict[str, Any]:
    """Two or three short records of a batch, put together as it was: packed in a row, or padded.

    A record that is longer than a watched length is put before them. A batch of one record is cut in two, and labels
    of which none is learnt are replaced by the tokens: what is compared need not be worth learning.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    places = record_places(batch)
    lengths = [columns.stop - columns.start for _, columns in places]
    # 1. The shortest that are worth comparing, and the one in which a window shows
    order = sorted(range(len(places)), key=lambda number: (lengths[number] < 4, lengths[number]))
    chosen = order[:2]
    for number in order[2:RECORDS]:
        if sum(lengths[one] for one in (*chosen, number)) <= tokens:
            chosen.append(number)
    longest = max(range(len(places)), key=lambda number: lengths[number])
    cut = tokens
    if watched_lengths and lengths[longest] > min(watched_lengths):
        chosen, cut = [longest, *[number for number in chosen if number != longest][:1]], lengths[longest]
    taken = [
        (ids[row, columns][:cut], labels[row, columns][:cut]) for row, columns in (places[number] for number in chosen)
    ]
    if len(taken) == 1 and len(taken[0][0]) > 3:
        (whole, learnt), middle = taken[0], len(taken[0][0]) // 3
        taken = [(whole[:middle], learnt[:middle]), (whole[middle:], learnt[middle:])]
    # 2. The first token of a record is nobody's next one; where nothing else is learnt, all is
    taken = [(record, label.index_fill(0, label.new_zeros(1), -100)) for record, label in taken]
    if all(bool((label[1:] == -100).all()) for _, label in taken):
        taken = [(record, torch.cat([label[:1], record[1:]])) for record, label in taken]
    # 3. Put together
    if not _is_packed(batch):
        longest = max(len(record) for record, _ in taken)
        padded = [
            torch.stack([functional.pad(part[which], (0, longest - len(part[which])), value=fill) for part in taken])
            for which, fill in ((0, int(ids[-1, -1])), (1, -100))
        ]
        mask = torch.stack([torch.arange(longest, device=ids.device) < len(record) for record, _ in taken]).long()
        return {"input_ids": padded[0], "labels": padded[1], "attention_mask": mask}
    sizes = [len(record) for record, _ in taken]
    bounds = torch.tensor([0, *itertools.accumulate(sizes)], dtype=torch.int32, device=batch["cu_seq_lens_q"].device)
    made = {
        "input_ids": torch.cat([record for record, _ in taken])[None],
        "labels": torch.cat([label for _, label in taken])[None],
        "position_ids": torch.cat([torch.arange(size, device=ids.device) for size in sizes])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(sizes),
        "max_length_k": max(sizes),
        "seq_idx": torch.cat(
            [torch.full((size,), number, dtype=torch.int32, device=ids.device) for number, size in enumerate(sizes)]
        )[None],
    }
    return {name: value for name, value in made.items() if name in batch or name == "labels"}


def lengths_to_watch(config: Any) -> tuple[int, ...]:
    """Lengths that a model's config names, beyond which its attention or its rotary embedding may be another."""
    found = {}
    for owner in (config, config.get_text_config()):
        for name, value in owner.to_dict().items():
            inner = value.items() if isinstance(value, dict) else ((name, value),)
            found.update({key: one for key, one in inner if isinstance(one, int) and not isinstance(one, bool)})
    words = ("window", "chunk", "original_max_position", "local", "block_size", "index_topk", "compress")
    return tuple(sorted({value for name, value in found.items() if value > 1 and any(word in name for word in words)}))


def _is_packed(batch: Mapping[str, Any]) -> bool:
    return batch.get("cu_seq_lens_q") is not None


@contextmanager
def _untouched(installed: InstalledEngine) -> Iterator[None]:
    """An adapter that says something, no dropout; afterwards weights, modes and random state are what they were.

    A young adapter's B is zero, and with it every gradient of A: nothing could be seen in those.
    """
    flat, modes = installed.store.flat.data, [(module, module.training) for module in installed.model.modules()]
    before = flat.clone()
    generator = torch.Generator(flat.device).manual_seed(0)
    devices = [flat.device] if flat.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        try:
            size = before.abs().mean().clamp(min=1e-3)
            flat.add_(torch.randn(flat.shape, generator=generator, device=flat.device) * size)
            for module, _ in modes:
                module.training = False
            yield
        finally:
            flat.copy_(before)
            installed.store.refresh()
            for module, training in modes:
                module.training = training


@contextmanager
def _shaken(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Every adapted linear's output off by about the rounding of one operation: what that does, rounding may do."""
    step = torch.finfo(dtype).eps

    def shake(module: Any, args: Any, output: Any) -> Any:
        return output * (1 + step * torch.randn_like(output)) if isinstance(output, Tensor) else output

    adapted = [module for module in model.modules() if hasattr(module, "lora_A")]
    hooks = [module.register_forward_hook(shake) for module in (*adapted, model.get_input_embeddings())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
