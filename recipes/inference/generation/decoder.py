"""How the next token is chosen: settings that are part of every result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bonsai.builder.messages import INSTRUCTION_MARKER
from bonsai.builder.schema import BonsaiError
from bonsai.recipes.inference.generation.engine import GenerationError


@dataclass(frozen=True, kw_only=True)
class Decoder:
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


GREEDY = Decoder()
POST = Decoder(max_new_tokens=1024, temperature=0.2, top_p=0.95, repetition_penalty=1.15)
"""What the posts compared models with."""

DECODERS = {"greedy": GREEDY, "post": POST}


def decoder_called(name: str, refusal: type[BonsaiError], *, max_new_tokens: int | None = None) -> Decoder:
    """The settings of this name.

    Args:
        refusal: the error of whoever asks for them.
        max_new_tokens: of one pass; None: the decoder's own.

    Raises:
        refusal: there are none.
    """
    if name not in DECODERS:
        raise refusal(f"no decoder is called {name!r}; there are {', '.join(DECODERS)}")
    decoder = DECODERS[name]
    return decoder if max_new_tokens is None else replace(decoder, max_new_tokens=max_new_tokens)
