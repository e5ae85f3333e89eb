"""Define generation settings, completions, and the interface that every inference engine implements."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from bonsai.builder.errors import BonsaiError
from bonsai.builder.prompt import INSTRUCTION_MARKER


class GenerationError(BonsaiError, ValueError):
    """A model that cannot be loaded, or a request that it cannot answer."""


FinishReason = Literal["eos", "stop_string", "length", "watch"]
"""``watch``: a stop check ended it"""


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """How to generate; the fields are named as in `transformers.GenerationConfig`."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0: greedy"""
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    """of Keskar et al. 2019 (arXiv:1909.05858), over the completion so far, but neither over the prompt nor over the
    marker before the answer: a model that is penalized for markers leaves them, or what follows them, out. llama.cpp
    and vLLM count the prompt and the markers"""
    no_repeat_ngram_size: int = 0
    """no n-gram of this many tokens occurs twice in prompt and completion; 0: any may. A kana is one to three tokens"""
    stop_strings: tuple[str, ...] = (INSTRUCTION_MARKER.strip(),)
    """a completion ends before the first of them; by default where the model starts to ask itself the next question"""
    seed: int = 42
    """of sampling; each prompt has a stream of its own, so a completion does not depend on its neighbours"""

    def __post_init__(self) -> None:
        for field, is_valid, expected in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0; 1 changes nothing"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, "at least 1, or 0 for none"),
            ("stop_strings", all(self.stop_strings), "strings that are not empty"),
        ):
            if not is_valid:
                raise GenerationError(f"the decoder's {field} is {getattr(self, field)!r}; give {expected}")


def find_stop_string(text: str, decoder: GenerationSettings) -> int | None:
    """Return where the first of the decoder's stop strings begins; None if there is none."""
    return min((at for stop in decoder.stop_strings if (at := text.find(stop)) >= 0), default=None)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model generated for one prompt."""

    text: str
    """without the prompt, the end mark and the stop string"""
    tokens: int
    """generated, the end mark included"""
    stopped_by: FinishReason
    seconds: float
    """from the prefill to the last token, work on neighbours in the batch included"""

    @property
    def stopped_by_eos(self) -> bool:
        """Return whether the model itself ended the text."""
        return self.stopped_by == "eos"


class GenerationRequest(NamedTuple):
    """One prompt with its own settings."""

    prompt: str
    decoder: GenerationSettings
    should_stop: Callable[[str], bool] | None = None
    """called with the text so far after each token, for streaming and for stopping loops; True ends the completion
    there; never called concurrently, but perhaps from another thread"""


OnAnswer = Callable[[int, Completion], None]
"""Called with the index of the prompt and its completion as soon as that is done; the order is the engine's."""

OnCompletion = Callable[[int, Completion], Sequence[GenerationRequest]]
"""As `OnAnswer`; returns further requests, whose indexes follow."""


class Engine(ABC):
    """A model that completes prompts."""

    name: str
    """shown to readers"""

    @abstractmethod
    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        """Complete requests, each with its own settings, and those that ``on_completion`` returns, until none is left.

        Raises:
            GenerationError: a prompt does not fit the model, or the machine is too small for even one; on a server,
                some failed, and ``on_completion`` has received the others.
        """

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: Callable[[int, str], bool] | None = None,
    ) -> list[Completion]:
        """Complete prompts with the same settings; results keep their order.

        Args:
            watch: called after each token with the index of the prompt and the text so far; True ends that completion.

        Raises:
            GenerationError: as `complete`.
        """
        done: dict[int, Completion] = {}

        def on_completion(index: int, completion: Completion) -> Sequence[GenerationRequest]:
            done[index] = completion
            if on_answer is not None:
                on_answer(index, completion)
            return ()

        requests = [
            GenerationRequest(prompt, decoder, None if watch is None else partial(watch, index))
            for index, prompt in enumerate(prompts)
        ]
        self.complete(requests, on_completion)
        return [done[index] for index in range(len(prompts))]


GREEDY = GenerationSettings()
BLOG_POST = GenerationSettings(max_new_tokens=1024, temperature=0.2, top_p=0.95, repetition_penalty=1.15)
"""The settings with which the blog posts compared models."""

PRESETS = {"greedy": GREEDY, "post": BLOG_POST}


def get_preset(name: str, *, max_new_tokens: int | None = None) -> GenerationSettings:
    """Return the settings of this name, with another length of one pass if it is given.

    Raises:
        GenerationError: there is no such preset.
    """
    if name not in PRESETS:
        raise GenerationError(f"no decoder is called {name!r}; there are {', '.join(PRESETS)}")
    decoder = PRESETS[name]
    return decoder if max_new_tokens is None else replace(decoder, max_new_tokens=max_new_tokens)
