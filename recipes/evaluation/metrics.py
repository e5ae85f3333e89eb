"""Score answers: every per-sample metric of the evaluation, and the corpus-level metrics of translations.

A per-sample metric takes an answer and what it is measured against, and returns a number, or `None` where it does not
apply. `METRICS` names them all; `score_answer` picks those of an item's task and adds the form metrics:

    >>> f1("It is the Shinano river.", "the river Shinano")
    0.6666666666666666
    >>> contains_accepted("The answer is 4万2千.", ["42,000"])
    1.0
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from bonsai.builder.checks.base import Severity, extract_previous_question
from bonsai.builder.checks.chains import SAME_FROM
from bonsai.builder.checks.constraints import constraint_issues
from bonsai.builder.checks.form import parse_numbered_list
from bonsai.builder.checks.language import language_issues
from bonsai.builder.checks.parallel import offered_labels, parse_labels
from bonsai.builder.checks.paraphrase import embed, paraphrase_probability
from bonsai.builder.checks.repetition import is_trivial_extension, normalize_clause, repetition_issues
from bonsai.builder.checks.text import (
    HAN_LETTER,
    KANA_LETTER,
    LATIN_LETTER,
    OTHER_LETTERS,
    normalize_alnum,
    not_simplified,
    simplified_only,
)
from bonsai.builder.checks.unicode import mojibake_issues
from bonsai.builder.prompt import parse_response
from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.items import EvalItem
from bonsai.recipes.evaluation.normalization import equivalent, tokens
from bonsai.recipes.evaluation.statistics import Direction, MeanEstimate
from bonsai.recipes.inference.generation import Completion

LONG_TEXT = "言葉 word. " * 400
"""breaks every limit of length, and every count"""
NGRAM = 4
ON_THEME = 0.30
"""cosine of a new question with the previous one, or with all of its input, below which it has left the theme.

Of the 252 question_to_question rows in three languages 90 to 94% reach it, of pairs drawn from two chains 19 to 26%.
"""
RESAMPLES = 1000
"""of sacrebleu's bootstrap; its seed is SACREBLEU_SEED, 12345 by default"""
SAME_IDEA = 0.85
"""cosine from which two ideas count as one; the 3,249 pairs of ideas in one list of the records stay below .72"""
TOKENIZERS = {"ja": "ja-mecab", "zh": "zh", "en": "13a"}
"""sacrebleu's, by language; its default, 13a, takes a Japanese or Chinese sentence for one word and scores it 0"""

_BULLET = re.compile(r"^\s*(?:[-*•・]|\d{1,2}\s*[.．、)）:：])\s*")
_SENTENCE_END = re.compile(r"(?<=[。！？!?])|(?<=\.)\s|\n")
_QUESTION = re.compile(r"[?？]$|(?:か|でしょう|かな|吗|呢)[。.]?$")

Scores = dict[str, float]
"""by the names of `METRICS`; a score that does not apply is absent"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of an answer."""

    name: str
    direction: Direction
    """which values are better"""
    english: str
    japanese: str
    top: float | None = 1.0
    """the largest possible value; `None`: there is none"""
    hub_type: str | None = None
    """its name on the Hub's cards; `None`: its own"""


class CorpusScore(NamedTuple):
    """A score of all texts of one direction together, 0 to 100."""

    estimate: MeanEstimate
    signature: str
    """sacrebleu's, which states the version and every setting"""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="f1", direction="higher", english="F1", japanese="F1", hub_type="f1"),
        Metric(
            name="exact_match", direction="higher", english="exact match", japanese="完全一致", hub_type="exact_match"
        ),
        Metric(name="accepted", direction="higher", english="right answer inside", japanese="正答を含む"),
        Metric(name="label", direction="higher", english="label right", japanese="ラベル一致", hub_type="accuracy"),
        Metric(name="chrf", direction="higher", english="chrF", japanese="chrF", top=100.0, hub_type="chrf"),
        Metric(name="ideas", direction="higher", english="distinct ideas", japanese="異なる案の数", top=None),
        Metric(name="constraints", direction="higher", english="constraints kept", japanese="条件を守る"),
        Metric(name="deepens", direction="higher", english="question goes deeper", japanese="質問が深まる"),
        Metric(name="tautology", direction="lower", english="question goes in a circle", japanese="質問が堂々巡り"),
        Metric(name="reasoning", direction="higher", english="Reasoning present", japanese="Reasoningあり"),
        Metric(name="language", direction="higher", english="right language", japanese="言語が正しい"),
        Metric(name="foreign", direction="lower", english="foreign letters", japanese="他言語の文字"),
        Metric(name="mojibake", direction="lower", english="mojibake", japanese="文字化け"),
        Metric(name="repetition", direction="lower", english="repeated 4-grams", japanese="4-gramの繰り返し"),
        Metric(name="loop", direction="lower", english="repeats itself", japanese="繰り返しあり"),
        Metric(name="eos", direction="higher", english="ends by itself", japanese="自分で終わる"),
        Metric(name="length", direction="neither", english="length (characters)", japanese="長さ（文字）", top=None),
    )
}

PRIMARY_METRIC = {
    "single_answer": "f1",
    "accepted": "accepted",
    "classification": "label",
    "translation": "chrf",
    "creative": "constraints",
    "brainstorming": "ideas",
    "deepening": "deepens",
    "free": "loop",
}
"""the one metric that represents a task"""

FORM_METRICS = ("reasoning", "language", "foreign", "mojibake", "repetition", "loop", "eos", "length")
"""metrics of every answer, whatever its task"""


def score_answer(item: EvalItem, completion: Completion) -> Scores:
    """Score one completion by the metrics of its task, then by its form."""
    # 1. The task.
    reasoning, answer = parse_response(completion.text)
    scores: dict[str, float | None] = {}
    match item.task:
        case "single_answer":
            scores = {"f1": f1(answer, item.reference), "exact_match": exact_match(answer, item.reference)}
        case "accepted":
            scores = {"accepted": contains_accepted(answer, item.accepted)}
        case "classification":
            scores = {
                "label": label_accuracy(answer, item.reference, item.instruction),
                "exact_match": exact_match(answer, item.reference),
                "f1": f1(answer, item.reference),
            }
        case "translation":
            scores = {"chrf": chrf(answer, item.reference)}
        case "creative":
            scores = {"constraints": constraint_satisfaction(answer, item.instruction, item.language)}
        case "brainstorming":
            scores = {"ideas": float(distinct_ideas(answer))}
        case "deepening":
            scores = {"deepens": goes_deeper(answer, item.input), "tautology": is_tautology(answer, item.input)}

    # 2. The form. Question and reference may be quoted; only a poem may repeat its lines.
    scores |= {
        "reasoning": float(bool(reasoning and answer)),
        "language": language_match(answer, item.language, item.reference),
        "foreign": foreign_letter_share(answer, item.language, item.instruction + item.input + item.reference),
        "mojibake": is_garbled(completion.text),
        "repetition": seq_rep_4(completion.text),
        "loop": has_loop(answer, refrain=item.task == "creative"),
        "eos": float(completion.stopped_by_eos),
        "length": float(len(answer)),
    }
    return {name: score for name, score in scores.items() if score is not None}


# Right or wrong: compare an answer with a reference.


def exact_match(answer: str, reference: str) -> float:
    """Return 1 if the two are equal after normalization, else 0."""
    return float(equivalent(answer, reference))


def f1(answer: str, reference: str) -> float:
    """Compute F1 (0 to 1) over characters where the script has no spaces, over words elsewhere.

    SQuAD's measure with the mixed segmentation of MLQA (Lewis et al. 2020, arXiv:1910.07475). English is not compared
    letter by letter: any two English sentences share most of theirs.
    """
    ours, theirs = Counter(tokens(answer)), Counter(tokens(reference))
    common = sum((ours & theirs).values())
    if not common:
        return 0.0
    precision, recall = common / ours.total(), common / theirs.total()
    return 2 * precision * recall / (precision + recall)


def contains_accepted(answer: str, variants: Sequence[str]) -> float:
    """Return 1 if the answer contains one of the variants as whole words and whole numbers, else 0."""
    ours = tokens(answer)
    parts = (part for part in map(tokens, variants) if part)
    return float(any(ours[at : at + len(part)] == part for part in parts for at in range(len(ours) - len(part) + 1)))


def label_accuracy(answer: str, reference: str, instruction: str) -> float:
    """Compute the share of the items (mostly one) that got their label, 0 to 1.

    A sentence counts if it names the right one of the options and no other.
    """

    def is_label(text: str, label: str) -> bool:
        if normalize_alnum(text) == normalize_alnum(label) or equivalent(text, label):
            return True
        named = [option for option in offered_labels(instruction, label) if contains_accepted(text, [option])]
        return len(named) == 1 and normalize_alnum(named[0]) == normalize_alnum(label)

    wanted = parse_labels(reference)
    if len(wanted) == 1 and not wanted[0][0]:
        return float(is_label(answer, wanted[0][1]))
    given = {normalize_alnum(item): label for item, label in parse_labels(answer)}
    return sum(is_label(given.get(normalize_alnum(item), ""), label) for item, label in wanted) / len(wanted)


# Open tasks: ideas, constraints, and questions that go deeper.


def distinct_ideas(answer: str) -> int:
    """Count the different ideas of an answer: items of a numbered or bulleted list, else its lines."""
    ideas = [idea for _, idea in parse_numbered_list(answer)]
    ideas = ideas or [_BULLET.sub("", line) for line in answer.splitlines() if line.strip()]
    vectors = embed(ideas)
    distinct: list[tuple[str, int]] = []
    for index, idea in enumerate(ideas):
        key = normalize_clause(idea)
        if key and not any(
            key == other
            or is_trivial_extension(key, other)
            or float(vectors[index] @ vectors[other_index]) >= SAME_IDEA
            for other, other_index in distinct
        ):
            distinct.append((key, index))
    return len(distinct)


def constraint_satisfaction(answer: str, instruction: str, language: str) -> float | None:
    """Return 1 if the answer breaks no constraint of the instruction, else 0; `None` if there is none to check.

    Whether the instruction has one is found by trying texts that must break it: none, a long one, the instruction.
    """

    def breaks(text: str) -> bool:
        return any(True for _ in constraint_issues(instruction, text, Language(language)))

    if not any(map(breaks, ("", LONG_TEXT, instruction))):
        return None
    return float(bool(answer.strip()) and not breaks(answer))


def extract_question(answer: str) -> str:
    """Return the first question in an answer, or an empty string."""
    sentences = (_BULLET.sub("", piece).strip() for piece in _SENTENCE_END.split(answer))
    return next((sentence for sentence in sentences if _QUESTION.search(sentence)), "")


def is_tautology(answer: str, input_text: str) -> float | None:
    """Return 1 if the new question asks what the input asked, 0 if not, `None` if the answer asks nothing."""
    new, old = extract_question(answer), extract_previous_question(input_text)
    if not new:
        return None
    first, second = embed([old, new])
    return float(paraphrase_probability(old, new, float(first @ second)) >= SAME_FROM)


def goes_deeper(answer: str, input_text: str) -> float:
    """Return 1 if there is a new question that stays on the theme and is no tautology, else 0."""
    new = extract_question(answer)
    if not new or is_tautology(answer, input_text):
        return 0.0
    previous, context, row = embed([extract_previous_question(input_text), input_text, new])
    return float(max(previous @ row, context @ row) >= ON_THEME)


# Form: what any answer may get wrong.


def language_match(answer: str, language: str, reference: str) -> float | None:
    """Return 1 if the answer is in its language, else 0; `None` if it is empty or the reference mixes languages."""

    def is_foreign(text: str) -> bool:
        return any(issue.severity is Severity.ERROR for issue in language_issues(text, Language(language)))

    if not answer or is_foreign(reference):
        return None
    return float(not is_foreign(answer))


def foreign_letter_share(answer: str, language: str, known: str) -> float:
    """Compute the share of letters that the language is not written with, 0 to 1.

    Args:
        known: question and reference, whose characters may be quoted.
    """
    kana, han, latin = (pattern.findall(answer) for pattern in (KANA_LETTER, HAN_LETTER, LATIN_LETTER))
    foreign = others = [letter for run in OTHER_LETTERS.findall(answer) for letter in run]
    match Language(language):
        case Language.EN:
            foreign = others + kana + han
        case Language.JA:
            foreign = others + [letter for letter in han if letter in simplified_only()]
        case Language.ZH:
            foreign = others + kana + [letter for letter in han if letter in not_simplified()]
    letters = len(kana) + len(han) + len(latin) + len(others)
    quoted = set(known)
    return sum(letter not in quoted for letter in foreign) / letters if letters else 0.0


def is_garbled(text: str) -> float:
    """Return 1 if the text contains mojibake, else 0."""
    return float(any(True for _ in mojibake_issues(text)))


def seq_rep_4(text: str) -> float:
    """Compute the share of repeated 4-grams, 0 to 1 (seq-rep-4 of Welleck et al. 2020, arXiv:1908.04319)."""
    units = tokens(text)
    grams = [units[at : at + NGRAM] for at in range(len(units) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def has_loop(text: str, *, refrain: bool) -> float:
    """Return 1 if sentences, clauses or pieces of words are repeated, else 0.

    Args:
        refrain: whether lines may be repeated, as in a poem.
    """
    return float(any(True for _ in repetition_issues(re.sub(r"\n+", "\n", text), refrain=refrain)))


# Translation. sacrebleu is imported where it is used: the environment that publishes reads evaluations without it.


@functools.cache
def _sacrebleu_metrics(language: str) -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    return {"chrf": CHRF(), "bleu": BLEU(tokenize=TOKENIZERS[language])}


def chrf(answer: str, reference: str) -> float:
    """Compute the chrF of one translation, 0 to 100."""
    return float(_sacrebleu_metrics("en")["chrf"].sentence_score(answer, [reference]).score)


def corpus_scores(answers: Sequence[str], references: Sequence[str], language: str) -> dict[str, CorpusScore]:
    """Compute chrF and BLEU of at least two translations into a language, with sacrebleu's bootstrap."""
    scores = {}
    for name, metric in _sacrebleu_metrics(language).items():
        found: Any = metric.corpus_score(answers, [references], n_bootstrap=RESAMPLES)
        low, high = max(0.0, found._mean - found._ci), min(100.0, found._mean + found._ci)
        signature = metric.get_signature().format()
        scores[name] = CorpusScore(MeanEstimate(float(found.score), float(low), float(high)), signature)
    return scores


def paired_p_values(
    before: Sequence[str], after: Sequence[str], references: Sequence[str], language: str
) -> dict[str, float]:
    """Compute p of sacrebleu's paired bootstrap (Koehn 2004) for chrF and BLEU."""
    # the bootstrap counts resamples that differ more than the texts do: none, so p = 0, where both are the same
    if list(before) == list(after):
        return {"chrf": 1.0, "bleu": 1.0}
    from sacrebleu.significance import PairedTest

    test = PairedTest(
        [("before", before), ("after", after)],
        # fresh metrics: the test keeps the references in them
        _sacrebleu_metrics.__wrapped__(language),
        [references],
        test_type="bs",
        n_samples=RESAMPLES,
    )
    _, scores = test()
    results: list[Any] = [found[1] for name, found in scores.items() if name != "System"]
    return {name: float(result.p_value) for name, result in zip(("chrf", "bleu"), results, strict=True)}
