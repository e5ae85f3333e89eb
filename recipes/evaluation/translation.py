"""chrF and BLEU by sacrebleu, with the tokenizer of the target language.

sacrebleu's default tokenizer, 13a, sees a Japanese or Chinese sentence as one word and gives 0. It is imported where it
is used: the environment that publishes reads evaluations without it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

TOKENIZERS = {"ja": "ja-mecab", "zh": "zh", "en": "13a"}
RESAMPLES = 1000
"""of sacrebleu's bootstrap; its seed is SACREBLEU_SEED, 12345 unless told otherwise"""


class CorpusScore(NamedTuple):
    """A score of all texts of a direction together, 0 to 100, with its 95% interval."""

    value: float
    low: float
    high: float
    signature: str


@functools.cache
def _metrics(language: str) -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"chrf": CHRF(), "bleu": BLEU(tokenize=TOKENIZERS[language])}


def chrf(answer: str, reference: str) -> float:
    """chrF of one translation, 0 to 100."""
    return float(_metrics("en")["chrf"].sentence_score(answer, [reference]).score)


def corpus_scores(answers: Sequence[str], references: Sequence[str], language: str) -> dict[str, CorpusScore]:
    """chrF and BLEU of a direction, with sacrebleu's bootstrap; at least two texts."""
    scores = {}
    for name, metric in _metrics(language).items():
        found: Any = metric.corpus_score(answers, [references], n_bootstrap=RESAMPLES)
        low, high = max(0.0, found._mean - found._ci), min(100.0, found._mean + found._ci)
        signature = metric.get_signature().format()
        scores[name] = CorpusScore(float(found.score), float(low), float(high), signature)
    return scores


def paired_p_values(
    before: Sequence[str], after: Sequence[str], references: Sequence[str], language: str
) -> dict[str, float]:
    """p of sacrebleu's paired bootstrap (Koehn 2004) for chrF and BLEU.

    It counts the resamples that differ more than the texts do: none, so "certainly different", where both are the same.
    """
    if list(before) == list(after):
        return {"chrf": 1.0, "bleu": 1.0}
    from sacrebleu.significance import PairedTest

    test = PairedTest(
        [("before", before), ("after", after)],
        # fresh metrics: the test keeps the references in them
        _metrics.__wrapped__(language),
        [references],
        test_type="bs",
        n_samples=RESAMPLES,
    )
    _, scores = test()
    results: list[Any] = [found[1] for name, found in scores.items() if name != "System"]
    return {name: float(result.p_value) for name, result in zip(("chrf", "bleu"), results, strict=True)}
