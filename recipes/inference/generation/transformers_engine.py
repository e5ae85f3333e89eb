"""A model of transformers on this machine, with any number of PEFT adapters over one base."""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bonsai.recipes.inference.generation.batch import Batch
from bonsai.recipes.inference.generation.decoder import Decoder
from bonsai.recipes.inference.generation.engine import Generation, GenerationError, OnAnswer, Request, Watch
from bonsai.recipes.inference.generation.merging import Merging
from bonsai.recipes.inference.generation.row import Asked
from bonsai.recipes.training.prompt import PromptEncoder

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
        with _told(base, revision):
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
        with _told(source, revision):
            if self._adapted is None:
                self._adapted = PeftModel.from_pretrained(
                    self._base, source, adapter_name=name, revision=revision, is_trainable=False
                ).eval()
                self._merging = Merging(self._adapted)
            else:
                self._merging.take_out()
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
        decoder: Decoder,
        *,
        on_answer: OnAnswer | None = None,
        watch: Watch | None = None,
    ) -> list[Generation]:
        """The answers, in the order of the prompts; the longest are answered first, so memory ends early or never.

        Raises:
            GenerationError: a prompt is longer than the model reads, or memory ends with a single prompt.
        """
        done: dict[int, Generation] = {}

        def told(place: int, generation: Generation) -> Sequence[Request]:
            done[place] = generation
            if on_answer is not None:
                on_answer(place, generation)
            return ()

        watches = [None if watch is None else partial(watch, place) for place in range(len(prompts))]
        self.flow([Request(prompt, decoder, each) for prompt, each in zip(prompts, watches, strict=True)], told)
        return [done[place] for place in range(len(prompts))]

    def flow(self, requests: Sequence[Request], more: Callable[[int, Generation], Sequence[Request]]) -> None:
        """Answer requests, each by its own decoder, and those that ``more`` returns for an answer.

        Args:
            more: called with the place of a request and its answer; what it returns has the places that follow.

        Raises:
            GenerationError: a prompt is longer than the model reads, or memory ends with a single prompt.
        """
        known = {one.place: one for one in self._asked(requests, 0)}
        asked = len(known)
        with self._answering() as model:
            batch = Batch(model, self._tokenizer, self._ends())
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
                    if not _memory_ended(error):
                        raise
                    self._shrink(min(self.batch_size, len(known)), error)

    @contextlib.contextmanager
    def _answering(self) -> Iterator[Any]:
        if self._adapted is None:
            yield self._base
        elif self._active is None:
            self._merging.take_out()
            with self._adapted.disable_adapter():
                yield self._adapted
        else:
            self._merging.answer_with(self._active)
            yield self._adapted

    def _asked(self, requests: Sequence[Request], first: int) -> list[Asked]:
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
            asked.append(Asked(first + number, request, token_ids))
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


def _memory_ended(error: BaseException) -> bool:
    plain = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return plain or any(words in str(error) for words in _ENDS_OF_MEMORY)


@contextlib.contextmanager
def _told(source: str | Path, revision: str | None) -> Iterator[None]:
    at = f" at {revision}" if revision else ""
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if _memory_ended(error):
            raise GenerationError(
                f"{source}{at} cannot be loaded: memory does not last; end other programs, or give a smaller model"
            ) from error
        reason = str(error).strip().splitlines()[0]
        raise GenerationError(
            f"{source}{at} cannot be loaded ({reason}); give a folder, or a repo id and revision that are on the Hub"
        ) from error
