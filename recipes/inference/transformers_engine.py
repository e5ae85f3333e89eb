"""Run a transformers model with any number of PEFT adapters over one base, merged where that pays.

Adapters are merged in float32 only: in fewer bits a young adapter's delta is smaller than half a step of the base's
weight and would be rounded away, and NF4 would have to be quantized again.
"""

from __future__ import annotations

import contextlib
import gc
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from bonsai.builder.prompt import PromptEncoder
from bonsai.recipes.inference.batching import ContinuousBatch, QueuedPrompt
from bonsai.recipes.inference.generation import (
    Engine,
    GenerationError,
    GenerationRequest,
    OnCompletion,
)

BATCH_SIZE = 32
"""prompts answered together; halved when memory runs out"""
MAX_MERGE_BYTES = 2**30
"""of the base's adapted weights up to which an adapter is merged: a copy is kept, to restore them"""
_OUT_OF_MEMORY = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""in PyTorch's messages where it raises a plain RuntimeError"""


class AdapterMerger:
    """Merge one adapter at a time into the base; unmerging restores the base's weights bit for bit."""

    def __init__(self, adapted: Any) -> None:
        self._adapted = adapted
        self._name: str | None = None
        self._own: list[tuple[Any, torch.Tensor, torch.Tensor | None]] = []

    @property
    def merged(self) -> str | None:
        """The adapter that is merged; None if none is."""
        return self._name

    def activate(self, name: str) -> None:
        """Activate a loaded adapter, and merge it if that is lossless and the base's weights fit `MAX_MERGE_BYTES`.

        Raises:
            GenerationError: its weights are not finite.
        """
        if self._name == name:
            return
        # before the other is activated: PEFT would then unmerge by subtraction, which rounds
        self.unmerge()
        self._adapted.set_adapter(name)
        layers = [module for module in self._adapted.modules() if isinstance(module, BaseTunerLayer)]
        bases: list[Any] = [layer.get_base_layer() for layer in layers]
        weights = [base.weight for base in bases]
        is_lossless = all(weight.dtype == torch.float32 and weight.device.type == "cpu" for weight in weights)
        size = sum(weight.numel() * weight.element_size() for weight in weights)
        if self._adapted.peft_config[name].peft_type != PeftType.LORA or not is_lossless or size > MAX_MERGE_BYTES:
            return
        for layer, base in zip(layers, bases, strict=True):
            bias = getattr(base, "bias", None)
            self._own.append((layer, base.weight.data, bias.data if isinstance(bias, torch.Tensor) else None))
        try:
            self._adapted.merge_adapter([name], safe_merge=True)
        except ValueError as error:
            self.unmerge()
            raise GenerationError(f"{name}: {error}; take another revision of it, or train it again") from error
        self._name = name

    def unmerge(self) -> None:
        """Restore the base's own weights."""
        while self._own:
            layer, weight, bias = self._own.pop()
            base = layer.get_base_layer()
            base.weight.data = weight
            if bias is not None:
                base.bias.data = bias
            layer.merged_adapters.clear()
        self._name = None


class TransformersEngine(Engine):
    """Complete many prompts at a time, with the base alone or, inside `using`, with one of its adapters."""

    def __init__(self, model: Any, tokenizer: Any, *, name: str, batch_size: int = BATCH_SIZE) -> None:
        self._base = model.eval()
        self._adapted: Any = None
        self._merger: Any = None
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
    def name(self) -> str:  # type: ignore[override]  # it changes with the adapter
        """The base, and behind a plus sign the adapter in use."""
        return self._name if self._active is None else f"{self._name} + {self._active}"

    @property
    def dtype(self) -> str:
        """The type it computes in, such as float32."""
        return str(self._base.dtype).removeprefix("torch.")

    @property
    def device(self) -> str:
        """The name of the GPU, or CPU."""
        return torch.cuda.get_device_name() if self._base.device.type == "cuda" else "CPU"

    def add_adapter(self, name: str, source: str | Path, *, revision: str | None = None) -> None:
        """Load an adapter from a folder or the Hub over the base, which is not loaded again.

        Raises:
            GenerationError: there is no such adapter, or it does not fit the base.
        """
        with _load_errors(source, revision):
            if self._adapted is None:
                self._adapted = PeftModel.from_pretrained(
                    self._base, source, adapter_name=name, revision=revision, is_trainable=False
                ).eval()
                self._merger = AdapterMerger(self._adapted)
            else:
                self._merger.unmerge()
                self._adapted.load_adapter(source, adapter_name=name, revision=revision, is_trainable=False)

    @contextlib.contextmanager
    def using(self, adapter: str) -> Iterator[None]:
        """Answer with this adapter inside the block."""
        if self._adapted is None or adapter not in self._adapted.peft_config:
            raise GenerationError(f"no adapter {adapter!r} is loaded over {self._name}; call add_adapter first")
        before, self._active = self._active, adapter
        try:
            yield
        finally:
            self._active = before

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        """Complete the longest prompts first, so that memory runs out early or never.

        Raises:
            GenerationError: a prompt is longer than the model reads, or memory does not suffice for a single prompt.
        """
        # 1. Tokenize and check all prompts before the first is run.
        unfinished = {prompt.number: prompt for prompt in self._tokenize(requests, 0)}
        count = len(unfinished)

        # 2. Put the active adapter in place, or take it out.
        with contextlib.ExitStack() as stack:
            model = self._base if self._adapted is None else self._adapted
            if self._adapted is not None and self._active is None:
                self._merger.unmerge()
                stack.enter_context(self._adapted.disable_adapter())
            elif self._active is not None:
                self._merger.activate(self._active)

            # 3. Run them in one batch; end tokens are those of the tokenizer and of the model's own configuration.
            configured = self._base.generation_config.eos_token_id
            tokens = configured if isinstance(configured, list) else [configured]
            ends = frozenset(token for token in (*tokens, self._tokenizer.eos_token_id) if token is not None)
            batch = ContinuousBatch(model, self._tokenizer, ends)
            while unfinished:
                waiting = deque(sorted(unfinished.values(), key=lambda prompt: -len(prompt.token_ids)))
                try:
                    for index, completion in batch.run(waiting, self.batch_size):
                        del unfinished[index]
                        added = self._tokenize(on_completion(index, completion), count)
                        count += len(added)
                        unfinished.update((prompt.number, prompt) for prompt in added)
                        waiting.extend(added)
                except (MemoryError, RuntimeError) as error:
                    if not _is_out_of_memory(error):
                        raise
                    # 4. Out of memory: halve the batch, and run again what was not finished.
                    size = min(self.batch_size, len(unfinished))
                    if size == 1:
                        raise GenerationError(
                            f"{self._name}: there is not enough memory for a single prompt; generate fewer tokens, or "
                            "use a smaller model"
                        ) from error
                    self.batch_size = size // 2
                    gc.collect()
                    if torch.cuda.is_available():
                        torch.cuda.empty_cache()

    def _tokenize(self, requests: Sequence[GenerationRequest], first: int) -> list[QueuedPrompt]:
        prompts = []
        for number, request in enumerate(requests):
            reserved = request.decoder.max_new_tokens
            limit = self._base.config.max_position_embeddings - reserved
            token_ids = self._encoder.ids(request.prompt)
            if not 1 <= len(token_ids) <= limit:
                raise GenerationError(
                    f"prompt {number + 1} of {len(requests)} has {len(token_ids):,} tokens; {self._name} reads 1 to "
                    f"{limit:,} before an answer of up to {reserved:,}: shorten it"
                )
            prompts.append(QueuedPrompt(first + number, request, token_ids))
        return prompts


def _is_out_of_memory(error: BaseException) -> bool:
    is_plain = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return is_plain or any(message in str(error) for message in _OUT_OF_MEMORY)


@contextlib.contextmanager
def _load_errors(source: str | Path, revision: str | None) -> Iterator[None]:
    at = f" at {revision}" if revision else ""
    try:
        yield
    except (OSError, ValueError, RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            raise GenerationError(
                f"{source}{at} cannot be loaded: there is not enough memory; end other programs or give a smaller model"
            ) from error
        reason = str(error).strip().splitlines()[0]
        raise GenerationError(
            f"{source}{at} cannot be loaded ({reason}); give a folder, or a repo id and revision that are on the Hub"
        ) from error
