"""Score answers: the metrics of each task, form metrics, and corpus-level translation metrics.

sacrebleu's default tokenizer, 13a, sees a Japanese or Chinese sentence as one word and gives 0. It is imported where it
is used: the environment that publishes reads evaluations without it.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

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
from bonsai.recipes.inference.generation import Completion


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One score of an answer."""

    name: str
    better: Literal["higher", "lower", "neither"]
    english: str
    japanese: str
    top: float | None = 1.0
    """the largest value there can be; None: there is none"""
    hub_type: str | None = None
    """how the Hub's card calls it; None: by its own name"""


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(name="f1", better="higher", english="F1", japanese="F1", hub_type="f1"),
        Metric(name="exact_match", better="higher", english="exact match", japanese="完全一致", hub_type="exact_match"),
        Metric(name="accepted", better="higher", english="right answer inside", japanese="正答を含む"),
        Metric(name="label", better="higher", english="label right", japanese="ラベル一致", hub_type="accuracy"),
        Metric(name="chrf", better="higher", english="chrF", japanese="chrF", top=100.0, hub_type="chrf"),
        Metric(name="ideas", better="higher", english="distinct ideas", japanese="異なる案の数", top=None),
        Metric(name="constraints", better="higher", english="constraints kept", japanese="条件を守る"),
        Metric(name="deepens", better="higher", english="question goes deeper", japanese="質問が深まる"),
        Metric(name="tautology", better="lower", english="question goes in a circle", japanese="質問が堂々巡り"),
        Metric(name="reasoning", better="higher", english="Reasoning present", japanese="Reasoningあり"),
        Metric(name="language", better="higher", english="right language", japanese="言語が正しい"),
        Metric(name="foreign", better="lower", english="foreign letters", japanese="他言語の文字"),
        Metric(name="mojibake", better="lower", english="mojibake", japanese="文字化け"),
        Metric(name="repetition", better="lower", english="repeated 4-grams", japanese="4-gramの繰り返し"),
        Metric(name="loop", better="lower", english="repeats itself", japanese="繰り返しあり"),
        Metric(name="eos", better="higher", english="ends by itself", japanese="自分で終わる"),
        Metric(name="length", better="neither", english="length (characters)", japanese="長さ（文字）", top=None),
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
"""the one score that stands for a task"""

FORM_METRICS = ("reasoning", "language", "foreign", "mojibake", "repetition", "loop", "eos", "length")
"""scores that every answer gets"""


def exact_match(answer: str, reference: str) -> float:
    """1 where the two are the same after normalisation, else 0."""
    return float(equivalent(answer, reference))


def f1(answer: str, reference: str) -> float:
    """F1 (0 to 1) over characters where the script has no spaces, over words elsewhere.

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
    """1 where one of the variants stands in the answer, whole words and whole numbers, else 0."""
    ours = tokens(answer)
    return float(any(_contains(tokens(variant), ours) for variant in variants))


def _contains(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return bool(part) and any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))


NGRAM = 4


def language_match(answer: str, language: str, reference: str) -> float | None:
    """1 where the answer is in its language, else 0; None where there is none, or the reference itself mixes two."""
    spoken = Language(language)
    if not answer or _is_foreign(reference, spoken):
        return None
    return float(not _is_foreign(answer, spoken))


def _is_foreign(text: str, language: Language) -> bool:
    return any(fault.severity is Severity.ERROR for fault in language_issues(text, language))


def foreign_letter_share(answer: str, language: str, known: str) -> float:
    """Share of the letters that the language does not write with, 0 to 1.

    Args:
        known: question and reference; their characters may be quoted.
    """
    quoted = set(known)
    foreign_letters = [letter for letter in _foreign_letters(answer, language) if letter not in quoted]
    letters = sum(len(pattern.findall(answer)) for pattern in (KANA_LETTER, HAN_LETTER, LATIN_LETTER))
    letters += sum(map(len, OTHER_LETTERS.findall(answer)))
    return len(foreign_letters) / letters if letters else 0.0


def _foreign_letters(answer: str, language: str) -> list[str]:
    found = [letter for run in OTHER_LETTERS.findall(answer) for letter in run]
    match Language(language):
        case Language.EN:
            return found + KANA_LETTER.findall(answer) + HAN_LETTER.findall(answer)
        case Language.JA:
            return found + [letter for letter in HAN_LETTER.findall(answer) if letter in simplified_only()]
        case Language.ZH:
            traditional = [letter for letter in HAN_LETTER.findall(answer) if letter in not_simplified()]
            return found + KANA_LETTER.findall(answer) + traditional


def is_garbled(text: str) -> float:
    """1 where a run of mojibake stands inside, else 0."""
    return float(any(True for _ in mojibake_issues(text)))


def seq_rep_4(text: str) -> float:
    """Share of the 4-grams that were said before, 0 to 1 (seq-rep-4 of Welleck et al. 2020, arXiv:1908.04319)."""
    units = tokens(text)
    grams = [units[at : at + NGRAM] for at in range(len(units) - NGRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def has_loop(text: str, *, refrain: bool) -> float:
    """1 where sentences, clauses or pieces of words come again, else 0.

    Args:
        refrain: whether lines may come again, as in a poem.
    """
    return float(any(True for _ in repetition_issues(re.sub(r"\n+", "\n", text), refrain=refrain)))


SAME_IDEA = 0.85
"""cosine from which two ideas count as one; the 3,249 pairs of ideas in one list of the records stay below .72"""

ON_THEME = 0.30
"""cosine of a new question with the one before, or with all of its input, below which it has left the theme.

Of the 252 question_to_question rows in three languages 90 to 94% reach it, of pairs drawn from two chains 19 to 26%.
"""

_BULLET = re.compile(r"^\s*(?:[-*•・]|\d{1,2}\s*[.．、)）:：])\s*")
_SENTENCE_END = re.compile(r"(?<=[。！？!?])|(?<=\.)\s|\n")
_ASKS = re.compile(r"[?？]$|(?:か|でしょう|かな|吗|呢)[。.]?$")
_LONG = "言葉 word. " * 400
"""what breaks every limit of length, and every count"""


def label_accuracy(answer: str, reference: str, instruction: str) -> float:
    """Share of the items (mostly one) that got their label, 0 to 1.

    A sentence counts where it names the right one of the options and no other.
    """
    wanted, given = parse_labels(reference), parse_labels(answer)
    if len(wanted) == 1 and not wanted[0][0]:
        return float(_is_label(answer, wanted[0][1], instruction))
    by_item = {normalize_alnum(item): label for item, label in given}
    return sum(_is_label(by_item.get(normalize_alnum(item), ""), label, instruction) for item, label in wanted) / len(
        wanted
    )


def _is_label(answer: str, label: str, instruction: str) -> bool:
    if normalize_alnum(answer) == normalize_alnum(label) or equivalent(answer, label):
        return True
    options = offered_labels(instruction, label)
    named = [option for option in options if contains_accepted(answer, [option])]
    return len(named) == 1 and normalize_alnum(named[0]) == normalize_alnum(label)


def distinct_ideas(answer: str) -> int:
    """How many different ideas an answer lists: items of a numbered or bulleted list, else its lines."""
    ideas = [idea for _, idea in parse_numbered_list(answer)]
    ideas = ideas or [_BULLET.sub("", line) for line in answer.splitlines() if line.strip()]
    kept: list[str] = []
    rows = embed(ideas)
    places: list[int] = []
    for place, idea in enumerate(ideas):
        key = normalize_clause(idea)
        if key and not any(key == other or is_trivial_extension(key, other) for other in kept):
            if any(float(rows[place] @ rows[other]) >= SAME_IDEA for other in places):
                continue
            kept.append(key)
            places.append(place)
    return len(kept)


def constraint_satisfaction(answer: str, instruction: str, language: str) -> float | None:
    """1 where no constraint of the instruction is broken, else 0; None where the instruction states none that counts.

    Whether it states one is found by trying texts that must break it: none at all, one far too long, the instruction.
    """
    spoken = Language(language)
    if not any([*constraint_issues(instruction, text, spoken)] for text in ("", _LONG, instruction)):
        return None
    return float(bool(answer.strip()) and not [*constraint_issues(instruction, answer, spoken)])


def extract_question(answer: str) -> str:
    """The first question in an answer; empty if it asks nothing."""
    sentences = (_BULLET.sub("", piece).strip() for piece in _SENTENCE_END.split(answer))
    return next((sentence for sentence in sentences if _ASKS.search(sentence)), "")


def is_tautology(answer: str, input_text: str) -> float | None:
    """1 where the new question asks again what the input asked, 0 where not, None where nothing is asked."""
    new, old = extract_question(answer), extract_previous_question(input_text)
    if not new:
        return None
    first, second = embed([old, new])
    return float(paraphrase_probability(old, new, float(first @ second)) >= SAME_FROM)


def goes_deeper(answer: str, input_text: str) -> float:
    """1 where there is a new question that stays on the theme and is no tautology, else 0."""
    new = extract_question(answer)
    if not new or is_tautology(answer, input_text):
        return 0.0
    asked, read, row = embed([extract_previous_question(input_text), input_text, new])
    return float(max(asked @ row, read @ row) >= ON_THEME)


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


Scores = dict[str, float]
"""by the names in `bonsai.recipes.evaluation.metrics`; a score that does not apply is absent"""


def score_answer(item: EvalItem, generation: Completion) -> Scores:
    """The scores of the task, then those of the form."""
    answer = parse_response(generation.text).answer
    found = {**_task_scores(item, answer), **_form_scores(item, generation)}
    return {name: score for name, score in found.items() if score is not None}


def _task_scores(item: EvalItem, answer: str) -> dict[str, float | None]:
    match item.task:
        case "single_answer":
            return {"f1": f1(answer, item.reference), "exact_match": exact_match(answer, item.reference)}
        case "accepted":
            return {"accepted": contains_accepted(answer, item.accepted)}
        case "classification":
            return {
                "label": label_accuracy(answer, item.reference, item.instruction),
                "exact_match": exact_match(answer, item.reference),
                "f1": f1(answer, item.reference),
            }
        case "translation":
            return {"chrf": chrf(answer, item.reference)}
        case "creative":
            return {"constraints": constraint_satisfaction(answer, item.instruction, item.language)}
        case "brainstorming":
            return {"ideas": float(distinct_ideas(answer))}
        case "deepening":
            return {"deepens": goes_deeper(answer, item.input), "tautology": is_tautology(answer, item.input)}
        case "free":
            return {}


def _form_scores(item: EvalItem, generation: Completion) -> dict[str, float | None]:
    reasoning, answer = parse_response(generation.text)
    known = item.instruction + item.input + item.reference
    return {
        "reasoning": float(bool(reasoning and answer)),
        "language": language_match(answer, item.language, item.reference),
        "foreign": foreign_letter_share(answer, item.language, known),
        "mojibake": is_garbled(generation.text),
        "repetition": seq_rep_4(generation.text),
        "loop": has_loop(answer, refrain=item.task == "creative"),
        "eos": float(generation.stopped_by_eos),
        "length": float(len(answer)),
    }
