"""Generation settings, and the interface that every inference engine implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

from bonsai.builder.errors import BonsaiError
from bonsai.builder.prompt import INSTRUCTION_MARKER


class GenerationError(BonsaiError, ValueError):
    """A model that cannot be loaded or asked as it was asked."""


FinishReason = Literal["eos", "stop_string", "length", "watch"]


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What a model said to one prompt."""

    text: str
    """without the prompt, the end mark and the stop string"""
    tokens: int
    """generated, the end mark included"""
    stopped_by: FinishReason
    seconds: float
    """from the reading of the prompt to the last token, its neighbours' work included"""

    @property
    def stopped_by_eos(self) -> bool:
        """Whether the model itself said that it was done."""
        return self.stopped_by == "eos"


OnAnswer = Callable[[int, Completion], None]
"""Called with the place of the prompt and its answer as soon as that answer is complete; the order is the engine's."""

StopCheck = Callable[[int, str], bool]
"""Called after each token with the place of the prompt and the text so far; True ends that answer there.

For streaming, and for guards that stop a loop. Never called twice at once, but perhaps from another thread.
"""


class GenerationRequest(NamedTuple):
    """One prompt, to be answered in its own way."""

    prompt: str
    decoder: GenerationSettings
    watch: Callable[[str], bool] | None = None
    """told the text so far after each token; True ends the answer there"""


class Engine(Protocol):
    """A model that answers prompts."""

    @property
    def name(self) -> str:
        """What a reader calls it."""

    def generate(
        self,
        prompts: Sequence[str],
        decoder: GenerationSettings,
        *,
        on_answer: OnAnswer | None = None,
        watch: StopCheck | None = None,
    ) -> list[Completion]:
        """The answers, in the order of the prompts.

        Raises:
            GenerationError: a prompt cannot be asked, or the machine is too small for even one.
        """


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Fields keep the names that `transformers.GenerationConfig` gives them."""

    max_new_tokens: int = 256
    temperature: float = 0.0
    """0: greedy, the likeliest token each time"""
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    """of Keskar et al. 2019 (arXiv:1909.05858), over what was said so far, but neither over the prompt nor over the
    marker before the answer: a model that is punished for markers leaves them, or what follows them, out. llama.cpp and
    vLLM count the prompt and the markers"""
    no_repeat_ngram_size: int = 0
    """no run of so many tokens comes twice in prompt and answer; 0: any may. A kana or kanji is one to three tokens"""
    stop_strings: tuple[str, ...] = (INSTRUCTION_MARKER.strip(),)
    """an answer ends before the first of them; by default where the model begins to ask itself the next question"""
    seed: int = 42
    """of sampling; each prompt draws from a stream of its own, so an answer does not depend on its neighbours"""

    def __post_init__(self) -> None:
        for field, is_right, wanted in (
            ("max_new_tokens", self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature >= 0, "0 (greedy) or more"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0; 1 changes nothing"),
            ("no_repeat_ngram_size", self.no_repeat_ngram_size >= 0, "at least 1, or 0 for none"),
            ("stop_strings", all(self.stop_strings), "strings that are not empty"),
        ):
            if not is_right:
                raise GenerationError(f"the decoder's {field} is {getattr(self, field)!r}; give {wanted}")


GREEDY = GenerationSettings()
BLOG_POST = GenerationSettings(max_new_tokens=1024, temperature=0.2, top_p=0.95, repetition_penalty=1.15)
"""What the posts compared models with."""

PRESETS = {"greedy": GREEDY, "post": BLOG_POST}


def get_preset(name: str, refusal: type[BonsaiError], *, max_new_tokens: int | None = None) -> GenerationSettings:
    """The settings of this name.

    Args:
        refusal: the error of whoever asks for them.
        max_new_tokens: of one pass; None: the decoder's own.

    Raises:
        refusal: there are none.
    """
    if name not in PRESETS:
        raise refusal(f"no decoder is called {name!r}; there are {', '.join(PRESETS)}")
    decoder = PRESETS[name]
    return decoder if max_new_tokens is None else replace(decoder, max_new_tokens=max_new_tokens)
