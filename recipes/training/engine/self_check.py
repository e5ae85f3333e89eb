"""Check the engine on the run's own data before it trains: loss and every gradient against the stock modules'.

How the truth is computed: two or three records of the run's first batch go through the stock modules (peft and
transformers, none of our pieces), each record alone in its row, so that it can see no other; the loss is PyTorch's
cross-entropy over the model's own logits, the mean over the labelled tokens of all of them, and its gradient is taken
with respect to every adapter weight. In a float32 run that cross-entropy is computed in float64: on a CPU PyTorch adds
up a vocabulary's exponentials one after the other, so that thousands of unlikely words vanish beside a likely one (of
49,152 words, 5e-6 of the loss on a processor with eight lanes, and ours, which adds them pairwise, would be blamed).
Dropout is off, and the adapter is moved off zero for the time being: at B = 0 every gradient of A is zero and would
prove nothing.

The same records, packed or padded as in the run and with the pieces in use, must give that loss and those gradients
within `TOLERANCES`. Where those are exceeded, rounding itself is measured: the truth is computed again with the
output of the embedding and of every adapted linear off by about one unit of rounding, and `TIMES_ROUNDING` times
what that changes is allowed too.

Pieces are chosen by what a module looks like, and looks deceive: a norm with another formula, logits that are scaled
afterwards, an attention that builds its own mask. What differs beyond rounding is left out, and named. Packing is
checked in the same way: where packed records see one another in the stock modules too, each goes through alone.

    check = SelfCheck(installed, batch)
    check.run()                      # the outcome: installed.pieces, .left_out, .records_apart and .own_logits

Nothing else changes: adapter, gradients, modes and random state are as they were.
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
from bonsai.recipes.training.engine.records_apart import record_slices

RECORDS = 3
"""of the batch, at most, and two at least: one could see no other"""
MOST_TOKENS = {"cuda": 512, "cpu": 128}
"""compared by kind of device: on a CPU every token takes its time, and a wrong piece shows in a hundred as well"""
LIFT = 1024.0
"""factor on the loss in float16, without which small gradients would underflow on the way"""


class Tolerance(NamedTuple):
    """How far a result may be from the truth, relative to the size of the truth."""

    loss: float
    gradient: float
    """of each adapter weight"""
    at_most: float
    """upper limit where measured rounding allows more than the two above"""


TOLERANCES = {torch.float32: Tolerance(5e-6, 2e-5, 2e-3), torch.float16: Tolerance(2e-3, 2e-2, 2.5e-1)}
TIMES_ROUNDING = 8.0
HEAD_GRADIENT = 1e-3
"""for a head that does not go through the model's own logits, in float32. The sum over a vocabulary of 49,152 words is
taken in another order there, and its terms nearly cancel: the seedling's gradients differ by 6e-5, one of 420 by 4e-4,
with TRL's fused head and ours alike. A wrong head shows in the loss, which is held to its own tolerance."""
FLOOR = 1e-7
"""share of all gradients' norm below which a weight's gradient is nothing but rounding; in float16 1000 times that"""


class PassResult(NamedTuple):
    """Loss (nats a labelled token) and float32 gradients of one forward and backward pass, in the store's order."""

    loss: float
    gradients: list[Tensor]


class SelfCheck:
    """Compare an installed engine with the stock modules under the same model, and keep the pieces that agree.

    Args:
        batch: the run's first, on the model's device; its labels may be -100 throughout.
        watched_lengths: lengths from which the model may compute something else (a sliding window's); if a record is
            longer than the smallest of them, the longest record is among those that are compared.
        all_agree: returns whether every process agrees; all of them must arrive at the same pieces.
        trl_head: whether the trainer takes the loss from TRL's fused head where ours is not used.
        tokens: at most, in the records that are compared.
    """

    def __init__(
        self,
        installed: InstalledEngine,
        batch: Mapping[str, Any],
        *,
        watched_lengths: tuple[int, ...] = (),
        all_agree: Callable[[bool], bool] = bool,
        trl_head: bool = False,
        tokens: int = MOST_TOKENS["cuda"],
    ) -> None:
        self._installed = installed
        self._model = installed.model
        self._agree = all_agree
        self._trl_head = trl_head
        self._batch = select_records(batch, tokens, watched_lengths)
        self._dtype = installed.compute_dtype
        self._truth: PassResult | None = None
        self._rounding: PassResult | None = None
        self._measured = False
        self._reason = ""

    def run(self) -> None:
        """Leave in use what reproduces the truth, and nothing else.

        Sets ``pieces``, ``left_out``, ``records_apart`` and ``own_logits`` of the installed engine.
        """
        installed, wanted = self._installed, self._installed.pieces
        with _prepared(installed):
            # 1. The truth: stock modules, each record alone, and the loss from the model's own logits; if that fails,
            #    it is still how the run trains, and no piece is used
            installed.records_apart = installed.own_logits = True
            self._truth = self._result(NOTHING)
            if not self._agree(self._truth is not None):
                installed.left_out["all pieces"] = f"the model by itself gives nothing to compare with: {self._reason}"
                installed.use(replace(wanted, **dict.fromkeys(UNDER_THE_MODEL, False)))
                return
            # 2. All requested pieces at once: nearly always right, and then this is all
            installed.records_apart = installed.own_logits = False
            if self._matches_truth(wanted) and installed.pieces == wanted:
                return
            # 3. Do packed records stay apart in the stock modules, or at least with our attention?
            installed.own_logits = True
            stock_packs = self._matches_truth(NOTHING)
            packing_reason = self._reason
            if not stock_packs:
                kept = replace(NOTHING, linear=wanted.linear, attention=wanted.attention)
                if not (wanted.attention and self._matches_truth(kept)):
                    installed.records_apart = True
                    installed.left_out["packing" if _is_packed(self._batch) else "padding"] = (
                        f"records do not stay apart in this model's own modules ({packing_reason}); each goes alone"
                    )
            # 4. Piece by piece, each on top of those that agreed; all but linear and head need the linear
            kept, order = NOTHING, list(UNDER_THE_MODEL)
            if not stock_packs and not installed.records_apart:
                kept = replace(kept, linear=wanted.linear, attention=True)
                order = [name for name in order if name not in ("linear", "attention")]
            for name in order:
                needs = () if name in ("linear", "head") else ("linear",)
                if not getattr(wanted, name) or not all(getattr(kept, one) for one in needs):
                    continue
                if name == "attention" and installed.records_apart:
                    continue  # it is for packed records only
                tried = replace(kept, **{name: True})
                if self._matches_truth(tried):
                    kept = tried
                else:
                    installed.left_out.setdefault(name, self._reason)
            # 5. The head: ours, else TRL's fused one if it is right, else the model's own logits
            if not kept.head and self._trl_head and not installed.records_apart:
                installed.own_logits = False
                if not self._matches_truth(kept):
                    installed.left_out["trl_fused_head"] = self._reason
                    installed.own_logits = True
            installed.use(replace(wanted, **{name: getattr(kept, name) for name in UNDER_THE_MODEL}))
            for name in UNDER_THE_MODEL:  # left out in one trial and in use in the end
                if getattr(installed.pieces, name):
                    installed.left_out.pop(name, None)

    def _matches_truth(self, pieces: EngineOptions) -> bool:
        """Return whether loss and gradients with these pieces equal the truth up to rounding, in every process."""
        found = self._result(pieces)
        if not self._agree(found is not None) or found is None:
            return False
        other_head = pieces.head or (self._trl_head and not self._installed.own_logits)
        if self._agree(self._is_near(found, measured=False, other_head=other_head)):
            return True
        if not self._measured:  # another pass, and seldom needed
            self._rounding, self._measured = self._result(NOTHING, perturb=True), True
        return self._agree(self._is_near(found, measured=True, other_head=other_head))

    def _is_near(self, found: PassResult, *, measured: bool, other_head: bool) -> bool:
        """Compare with the truth, and set the reason where it fails.

        Args:
            measured: rounding as measured is allowed too.
            other_head: the loss was not taken from the model's own logits.
        """
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
            self._reason = f"the loss is {off:.1e} off"
            return False
        # 2. Every gradient, relative to its own size (norms in float64); beside the floor, a tiny one counts as zero
        whole = torch.stack([gradient.double().norm() for gradient in truth.gradients]).norm()
        floor = float(whole) * FLOOR * (1.0 if self._dtype == torch.float32 else 1e3)
        worst = 0.0
        for number, (ours, theirs) in enumerate(zip(found.gradients, truth.gradients, strict=True)):
            size, error = float(theirs.double().norm()), float((ours - theirs).double().norm())
            allowed = max(tolerance.gradient, HEAD_GRADIENT if other_head else 0.0)
            if measured and rounding is not None and size:
                by_rounding = TIMES_ROUNDING * float((rounding.gradients[number] - theirs).double().norm()) / size
                allowed = max(allowed, min(by_rounding, tolerance.at_most))
            if not error <= allowed * size + floor:  # true of nan too
                worst = max(worst, error / (size + floor)) if error == error else float("inf")
        self._reason = f"a gradient is {worst:.1e} off" if worst else ""
        return not worst

    def _result(self, pieces: EngineOptions, *, perturb: bool = False) -> PassResult | None:
        """Compute loss and gradients with these pieces; None if something raises or is not finite."""
        # 1. Install them, all or none
        installed = self._installed
        flags = installed.records_apart, installed.own_logits
        half = self._dtype == torch.float16
        lift = LIFT if half else 1.0
        inputs = {name: value for name, value in self._batch.items() if name != "labels"}
        labels, count = self._batch["labels"], int((self._batch["labels"][:, 1:] != -100).sum())
        try:
            perturbation = _perturbed(self._model, self._dtype) if perturb else nullcontext()
            with (
                warnings.catch_warnings(),
                torch.enable_grad(),
                perturbation,
            ):  # an evaluation may come first, which has no gradient
                warnings.simplefilter("ignore")  # a piece is judged by its numbers alone
                if perturb:
                    installed.records_apart = installed.own_logits = True
                installed.use(pieces)
                missing = [n for n in UNDER_THE_MODEL if getattr(pieces, n) and not getattr(installed.pieces, n)]
                if missing:
                    raise ValueError(installed.left_out.get(missing[0], "it cannot be installed"))
                # 2. The mean loss over the labelled tokens, as the trainer takes it with them: by ours, TRL's fused
                #    head, or the model's own logits; the backward pass is outside autocast
                with torch.autocast(labels.device.type, torch.float16) if half else nullcontext():
                    if installed.pieces.head:
                        call = {**inputs, "labels": labels, "use_cache": False, "engine_loss": True}
                        loss = self._model(**call).loss / count
                    elif self._trl_head and not installed.own_logits:
                        call = {**inputs, "labels": labels, "use_cache": False, "fused_lm_head": True}
                        loss = -self._model(**call).log_probs.sum() / count
                    else:
                        logits = self._model(**inputs, use_cache=False).logits[:, :-1]
                        logits = logits.float() if half else logits.double()
                        loss = functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1))
                gradients = torch.autograd.grad(loss * lift, installed.store.parameters, allow_unused=True)
        except Exception as error:  # noqa: BLE001 - anything that an unknown model raises means: not this way
            self._reason = reason(error)
            return None
        finally:
            installed.records_apart, installed.own_logits = flags
        # 3. In float32, without the lift; a weight that the loss does not depend on has a gradient of zero
        filled = [
            torch.zeros_like(parameter) if gradient is None else gradient.detach().float() / lift
            for parameter, gradient in zip(installed.store.parameters, gradients, strict=True)
        ]
        if not all(bool(tensor.isfinite().all()) for tensor in (loss, *filled)):
            self._reason = "the loss or a gradient is not finite"
            return None
        return PassResult(float(loss.detach()), filled)


def select_records(batch: Mapping[str, Any], tokens: int, watched_lengths: tuple[int, ...] = ()) -> dict[str, Any]:
    """Select two or three short records of a batch and assemble them as the batch was: packed in a row, or padded.

    A record longer than a watched length is put before them. A batch of one record is cut in two, and a record in which
    no token is labelled (any more) is labelled throughout: what is compared need not be worth learning. Example: of
    packed records of 12, 25 and 17 tokens and 512 allowed, all three, in the order 12, 17, 25.

    Args:
        batch: ``input_ids`` and ``labels`` (rows, tokens), and what the collator adds.
        tokens: most tokens of the selection; records that exceed their share are cut.
        watched_lengths: see `SelfCheck`.

    Returns:
        A batch with the same keys.
    """
    ids, labels = batch["input_ids"], batch["labels"]
    slices = record_slices(batch)
    lengths = [columns.stop - columns.start for _, columns in slices]
    # 1. The shortest of at least 4 tokens, and the one in which a window shows
    order = sorted(range(len(slices)), key=lambda number: (lengths[number] < 4, lengths[number]))
    chosen = order[:2]
    for number in order[2:RECORDS]:
        if sum(lengths[one] for one in (*chosen, number)) <= tokens:
            chosen.append(number)
    longest = max(range(len(slices)), key=lambda number: lengths[number])
    cut = tokens if sum(lengths[one] for one in chosen) <= tokens else max(tokens // len(chosen), 8)
    if watched_lengths and lengths[longest] > min(watched_lengths):
        chosen, cut = [longest, *[number for number in chosen if number != longest][:1]], lengths[longest]
    taken = [
        (ids[row, columns][:cut], labels[row, columns][:cut]) for row, columns in (slices[number] for number in chosen)
    ]
    if len(taken) == 1 and len(taken[0][0]) > 3:
        (whole, labelled), middle = taken[0], len(taken[0][0]) // 3
        taken = [(whole[:middle], labelled[:middle]), (whole[middle:], labelled[middle:])]
    # 2. No label on a record's first token: it follows nothing. In a record without any, label all others
    taken = [(record, label.index_fill(0, label.new_zeros(1), -100)) for record, label in taken]
    taken = [
        (record, torch.cat([label[:1], record[1:]]) if bool((label == -100).all()) else label)
        for record, label in taken
    ]
    # 3. Padded rows, on the right, with the padding token that the batch ends in or any other: it is masked
    if not _is_packed(batch):
        longest = max(len(record) for record, _ in taken)
        padded = [
            torch.stack([functional.pad(part[which], (0, longest - len(part[which])), value=fill) for part in taken])
            for which, fill in ((0, int(ids[-1, -1])), (1, -100))
        ]
        mask = torch.stack([torch.arange(longest, device=ids.device) < len(record) for record, _ in taken]).long()
        return {"input_ids": padded[0], "labels": padded[1], "attention_mask": mask}
    # 4. Or one packed row, with whichever of these keys the batch has
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
    """Return the lengths in a model's config beyond which its attention or rotary embedding may change.

    Example: a Mistral config with ``sliding_window`` 4096 gives (4096,).
    """
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
def _prepared(installed: InstalledEngine) -> Iterator[None]:
    """Move the adapter off zero and switch dropout off; restore weights, modes and random state afterwards.

    B of a new LoRA is zero, and with it every gradient of A: neither could show a difference.
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
def _perturbed(model: Any, dtype: torch.dtype) -> Iterator[None]:
    """Put every adapted linear's output off by about the rounding of one operation, to measure what rounding does."""
    step = torch.finfo(dtype).eps

    def perturb(module: Any, args: Any, output: Any) -> Any:
        return output * (1 + step * torch.randn_like(output)) if isinstance(output, Tensor) else output

    adapted = [module for module in model.modules() if hasattr(module, "lora_A")]
    hooks = [module.register_forward_hook(perturb) for module in (*adapted, model.get_input_embeddings())]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
