"""Define generation settings, completions, and the interface that every inference engine implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

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


OnAnswer = Callable[[int, Completion], None]
"""Called with the index of the prompt and its completion as soon as that is done; the order is the engine's."""

StopCheck = Callable[[int, str], bool]
"""Called after each token with the index of the prompt and the text so far; True ends that completion there.

For streaming, and for stopping loops. Never called concurrently, but perhaps from another thread.
"""


class GenerationRequest(NamedTuple):
    """One prompt with its own settings."""

    prompt: str
    decoder: GenerationSettings
    should_stop: Callable[[str], bool] | None = None
    """called with the text so far after each token; True ends the completion there"""


class Engine(Protocol):
    """A model that completes prompts."""

    @property
    def name(self) -> str:
        """The name shown to readers."""

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        """Complete the prompts; results keep their order.

        Args:
            watch: called after each token; it can end a completion.

        Raises:
            GenerationError: a prompt does not fit the model, or the machine is too small for even one.
        """


GREEDY = GenerationSettings()
BLOG_POST = GenerationSettings(max_new_tokens=1024, temperature=0.2, top_p=0.95, repetition_penalty=1.15)
"""The settings with which the blog posts compared models."""

PRESETS = {"greedy": GREEDY, "post": BLOG_POST}


def get_preset(name: str, refusal: type[BonsaiError], *, max_new_tokens: int | None = None) -> GenerationSettings:
    """Return the settings of this name.

    Args:
        refusal: the class of the error to raise.
        max_new_tokens: of one pass; None: the preset's own.

    Raises:
        refusal: there is no such preset.
    """
    if name not in PRESETS:
        raise refusal(f"no decoder is called {name!r}; there are {', '.join(PRESETS)}")
    decoder = PRESETS[name]
    return decoder if max_new_tokens is None else replace(decoder, max_new_tokens=max_new_tokens)
