"""How a question is asked again.

Chosen on answers of the seedling that had run in a loop, when the penalty still counted the prompt too: from a penalty
of 1.15 on, the texts drifted off into words that nothing had asked for; at 1.05 half of them still looped. The barred
runs are long because a token of Japanese may be a third of a character: shorter ones would forbid common words.
"""

from __future__ import annotations

from dataclasses import replace

from bonsai.recipes.inference.generation.decoder import Decoder

LIVELY = 0.7
PENALTY = 1.1
RUN = 16
"""tokens"""


def livelier(decoder: Decoder) -> Decoder:
    """For a model that gave nothing: greedy, it would give nothing again."""
    return replace(decoder, temperature=max(decoder.temperature, LIVELY), top_p=min(decoder.top_p, 0.95))


def without_loops(decoder: Decoder) -> Decoder:
    """For a text that ran in a loop."""
    return replace(
        decoder,
        repetition_penalty=max(decoder.repetition_penalty, PENALTY),
        no_repeat_ngram_size=decoder.no_repeat_ngram_size or RUN,
    )
