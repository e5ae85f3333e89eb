"""Run a transformers model with any number of PEFT adapters over one base, merged where that pays.

Done in float32 only. In fewer bits a young adapter's part is smaller than half a step of the base's weight and would be
rounded away, and NF4 would be quantised anew.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bonsai.builder.prompt import PromptEncoder
from bonsai.recipes.inference.batching import ContinuousBatch, QueuedPrompt
from bonsai.recipes.inference.generation import (
    Completion,
    GenerationError,
    GenerationRequest,
    GenerationSettings,
    OnAnswer,
    StopCheck,
)

LARGEST = 2**30
"""bytes of the base's adapted weights up to which an adapter is merged: they are kept beside, to be given back"""


class AdapterMerger:
    """Merges one adapter at a time; each base's weight is given back bit by bit."""

    def __init__(self, adapted: Any) -> None:
        self._adapted = adapted
        self._name: str | None = None
        self._own: list[tuple[Any, torch.Tensor, torch.Tensor | None]] = []

    @property
    def merged(self) -> str | None:
        """The adapter in the base's weights."""
        return self._name

    def activate(self, name: str) -> None:
        """Activate an adapter that is loaded, and merge it where that loses nothing.

        PEFT takes a merged adapter out by subtraction when another is activated, so it is out before.

        Raises:
            GenerationError: its weights are not finite.
        """
        if self._name == name:
            return
        self.unmerge()
        self._adapted.set_adapter(name)
        layers = [module for module in self._adapted.modules() if isinstance(module, BaseTunerLayer)]
        bases: list[Any] = [layer.get_base_layer() for layer in layers]
        if self._adapted.peft_config[name].peft_type != PeftType.LORA or not _can_merge(
            [base.weight for base in bases]
        ):
            return
        self._own = [(layer, base.weight.data, _bias(base)) for layer, base in zip(layers, bases, strict=True)]
        try:
            self._adapted.merge_adapter([name], safe_merge=True)
        except ValueError as error:
            self.unmerge()
            raise GenerationError(f"{name}: {error}; take another revision of it, or train it again") from error
        self._name = name

    def unmerge(self) -> None:
        """Give the base its own weights back."""
        while self._own:
            layer, weight, bias = self._own.pop()
            base = layer.get_base_layer()
            base.weight.data = weight
            if bias is not None:
                base.bias.data = bias
            layer.merged_adapters.clear()
        self._name = None


def _can_merge(weights: list[torch.Tensor]) -> bool:
    plain = all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights)
    return plain and sum(weight.numel() * weight.element_size() for weight in weights) <= LARGEST


def _bias(base: Any) -> torch.Tensor | None:
    bias = getattr(base, "bias", None)
    return bias.data if isinstance(bias, torch.Tensor) else None


BATCH_SIZE = 32
"""prompts answered together; halved by itself where memory ends"""


class TransformersEngine:
    """Answers many prompts at a time; the base alone answers until an adapter is put to `using`."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch_size: int = BATCH_SIZE) -> None:
        self._base = model.eval()
        self._adapted: Any = None
        self._merging: Any = None
        self._active: str | None = None
        self._tokenizer = tokenizer
        self._encoder = PromptEncoder(tokenizer)
        self._name = name
        self.batch_size = batch_size
        """as large as memory has allowed so far"""

    @classmethod
    def load(
        cls,
        base: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype | None = None,
        device: Literal["cuda", "cpu"] | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> TransformersEngine:
        """Load a base model from a folder or the Hub.

        Args:
            revision: a commit id or tag, where ``base`` is on the Hub.
            dtype: by default float32 on a CPU, and float16 over NF4 on a GPU (a T4 has no bfloat16 worth the name).
            device: by default a GPU where there is one.

        Raises:
            GenerationError: there is no such model.
        """
        gpu = device == "cuda" or (device is None and torch.cuda.is_available())
        settings: dict[str, Any] = {"dtype": dtype or (torch.float16 if gpu else torch.float32)}
        if gpu and dtype is None:
            settings |= {
                "device_map": {"": 0},
                "quantization_config": BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                    load_in_4bit=True,
                    bnb_4bit_quant_type="nf4",
                    bnb_4bit_use_double_quant=True,
                    bnb_4bit_compute_dtype=torch.float16,
                ),
            }
        with _load_errors(base, revision):
            model: Any = AutoModelForCausalLM.from_pretrained(
                base, revision=revision, attn_implementation="sdpa", **settings
            )
            tokenizer = AutoTokenizer.from_pretrained(base, revision=revision)
        if gpu and dtype is not None:
            model = model.to("cuda")
        return cls(model, tokenizer, name=str(base), batch_size=batch_size)

    @property
    def name(self) -> str:
        """The base, and the adapter in use behind a plus sign."""
        return self._name if self._active is None else f"{self._name} + {self._active}"

    @property
    def dtype(self) -> str:
        """What it computes in: float32, float16."""
        return str(self._base.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """The name of what it runs on, as a reader knows it."""
        return torch.cuda.get_device_name() if self._base.device.type == "cuda" else "CPU"

    def add_adapter(self, name: str, source: str | Path, *, revision: str | None = None) -> None:
        """Put an adapter, from a folder or the Hub, over the base; the base is not loaded again.

        Raises:
            GenerationError: there is no such adapter, or it does not fit the base.
        """
        with _load_errors(source, revision):
            if self._adapted is None:
                self._adapted = PeftModel.from_pretrained(
                    self._base, source, adapter_name=name, revision=revision, is_trainable=False
                ).eval()
                self._merging = AdapterMerger(self._adapted)
            else:
                self._merging.unmerge()
                self._adapted.load_adapter(source, adapter_name=name, revision=revision, is_trainable=False)

    @contextlib.contextmanager
    def using(self, adapter: str) -> Iterator[None]:
        """Answer with this adapter for as long as the block lasts."""
        if self._adapted is None or adapter not in self._adapted.peft_config:
            raise GenerationError(f"no adapter {adapter!r} is loaded over {self._name}; call add_adapter first")
        before, self._active = self._active, adapter
        try:
            yield
        finally:
            self._active = before

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        """The answers, in the order of the prompts; the longest are answered first, so memory ends early or never.

        Raises:
            GenerationError: a prompt is longer than the model reads, or memory ends with a single prompt.
        """
        done: dict[int, Completion] = {}

        def told(place: int, generation: Completion) -> Sequence[GenerationRequest]:
            done[place] = generation
            if on_answer is not None:
                on_answer(place, generation)
            return ()

        watches = [None if watch is None else partial(watch, place) for place in range(len(prompts))]
        self.flow(
            [GenerationRequest(prompt, decoder, each) for prompt, each in zip(prompts, watches, strict=True)], told
        )
        return [done[place] for place in range(len(prompts))]

    def flow(
        self, requests: Sequence[GenerationRequest], more: Callable[[int, Completion], Sequence[GenerationRequest]]
    ) -> None:
        """Answer requests, each by its own decoder, and those that ``more`` returns for an answer.

        Args:
            more: called with the place of a request and its answer; what it returns has the places that follow.

        Raises:
            GenerationError: a prompt is longer than the model reads, or memory ends with a single prompt.
        """
        known = {one.place: one for one in self._asked(requests, 0)}
        asked = len(known)
        with self._answering() as model:
            batch = ContinuousBatch(model, self._tokenizer, self._ends())
            while known:
                waiting = deque(sorted(known.values(), key=lambda one: -len(one.token_ids)))
                try:
                    for place, generation in batch.answers(waiting, self.batch_size):
                        del known[place]
                        news = self._asked(more(place, generation), asked)
                        asked += len(news)
                        known.update((one.place, one) for one in news)
                        waiting.extend(news)
                except (MemoryError, RuntimeError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    self._shrink(min(self.batch_size, len(known)), error)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[Any]:
        if self._adapted is None:
            yield self._base
        elif self._active is None:
            self._merging.unmerge()
            with self._adapted.disable_adapter():
                yield self._adapted
        else:
            self._merging.activate(self._active)
            yield self._adapted

    def _asked(self, requests: Sequence[GenerationRequest], first: int) -> list[QueuedPrompt]:
        asked = []
        for number, request in enumerate(requests):
            longest = request.decoder.max_new_tokens
            room = self._base.config.max_position_embeddings - longest
            token_ids = self._encoder.ids(request.prompt)
            if not 1 <= len(token_ids) <= room:
                raise GenerationError(
                    f"prompt {number + 1} of {len(requests)} has {len(token_ids):,} tokens; {self._name} reads 1 to "
                    f"{room:,} before an answer of up to {longest:,}: shorten it"
                )
            asked.append(QueuedPrompt(first + number, request, token_ids))
        return asked

    def _ends(self) -> frozenset[int]:
        """Tokens that end an answer, by the tokenizer and by the model's own settings."""
        configured = self._base.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        return frozenset(end for end in (*ends, self._tokenizer.eos_token_id) if end is not None)

    def _shrink(self, size: int, error: BaseException) -> None:
        if size == 1:
            raise GenerationError(
                f"{self._name}: memory does not last for a single prompt; give fewer tokens, or a smaller model"
            ) from error
        self.batch_size = size // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


_ENDS_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""as PyTorch words them where it raises a plain RuntimeError"""


def _is_out_of_memory(error: BaseException) -> bool:
    plain = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return plain or any(words in str(error) for words in _ENDS_OF_MEMORY)


@contextlib.contextmanager
def _load_errors(source: str | Path, revision: str | None) -> Iterator[None]:
    at = f" at {revision}" if revision else ""
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            raise GenerationError(
                f"{source}{at} cannot be loaded: memory does not last; end other programs, or give a smaller model"
            ) from error
        reason = str(error).strip().splitlines()[0]
        raise GenerationError(
            f"{source}{at} cannot be loaded ({reason}); give a folder, or a repo id and revision that are on the Hub"
        ) from error
