"""Summarize a question chain (まとめ) as Markdown, JSON and one self-contained HTML page.

Each step is summarized by up to two sentences of its answer. A term (a word of English, two neighbouring characters of
Japanese or Chinese) weighs as many sentences of the step's reasoning and answer as it occurs in, and nothing if the
question or an earlier quotation has it. The sentence whose terms weigh most, over the square root of their number, is
quoted; a second one if, without the terms of the first, it still weighs at least half as much. This needs no model, so
the same chain gives the same summary everywhere. After SumBasic (Nenkova and Vanderwende 2005), with novelty as in
Carbonell and Goldstein 1998.

The page's content security policy admits its own style and nothing else, so no question or answer can run code.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from bonsai.builder.assets import html_environment, load_text, render_page
from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.language import language_issues
from bonsai.builder.files import atomic_write_text
from bonsai.builder.schema import Language
from bonsai.recipes.inference.ask import ask
from bonsai.recipes.inference.conversation import (
    Answer,
    LocalizedText,
    Question,
    QuestionChain,
    StoredModel,
    chosen_candidate,
)
from bonsai.recipes.inference.generation import GREEDY, Engine, GenerationSettings
from bonsai.recipes.inference.labels import SUMMARY_EN, SUMMARY_JA, Labels, load_labels, reason
from bonsai.recipes.inference.tree_svg import WIDTH, layout_tree

SENTENCES = 2
"""quoted of one answer at most"""
LONGEST = 280
"""characters of a quotation; text without full stops is cut here"""
PAGE, JSON = "summary.html", "summary.json"

_END = re.compile(r"(?<=[。！？])[」』）”]*|(?<=[!?…])[\"”’)]*\s+|(?<=[.])[\"”’)]*\s+(?=[\"“‘(]?[A-Z0-9])|\n+")
_ABBREVIATED = re.compile(r"(?:\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Mt|Prof|St|No|vs|etc|approx|e\.g|i\.e|cf)\.|^\d+\.)$")
_LIST_MARK = re.compile(r"^\s*(?:[-*•・]\s+|#{1,6}\s+|\d+[.)]\s+)")
_WORD = re.compile(r"[a-z0-9À-ɏ]+|[^\W\d_a-zÀ-ɏ]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_MARKDOWN_INLINE = re.compile(r"([\\`*_\[\]~|])")
_MARKDOWN_BLOCK = re.compile(r"^(\s*\d*)([#>+=.)-])", re.MULTILINE)

_SUMMARY_REQUEST = {
    Language.JA: "次の問答から学べることを、三文から五文でまとめてください。書かれていないことは加えないでください。",
    Language.EN: "Sum up in three to five sentences what this dialogue teaches. Add nothing that is not in it.",
    Language.ZH: "请用三到五句话概括下面的问答教给我们什么，不要添加其中没有的内容。",
}
_LONGEST_SHOWN = 600
"""characters of one answer that the model is shown"""


class StepSummary(StoredModel):
    """One step in a few words."""

    number: int
    question: str
    perspective: str | None
    """a key; None for the opening question"""
    because: str
    """why it was asked, as a sentence; empty for the opening question"""
    sentences: tuple[str, ...]
    """of the answer, word for word; empty: there was no answer"""


class OpenQuestion(StoredModel):
    """A candidate that passed and was not asked."""

    question: str
    perspective: str
    after: int
    """the step it was proposed after"""


class Summary(StoredModel):
    """A chain in a few words; all but the labels and ``told`` is quoted from it."""

    id: str
    theme: str
    language: Language
    depth: int
    models: tuple[str, ...]
    learnt: tuple[StepSummary, ...]
    still_open: tuple[OpenQuestion, ...]
    refused: int
    """rejected candidates, over all steps"""
    complete: bool
    ended: str
    """why it ended, or that it has not yet, as a sentence"""
    tokens: int
    seconds: float
    told_by: str | None = None
    """the model that wrote ``told``"""
    told: str | None = None
    """the summary in a model's own words; None: only quotations"""
    untold_because: str | None = None
    """why the words of a model that was asked for them are not used, as a sentence"""


class SummaryFiles(NamedTuple):
    """The paths that `write_summaries` has written."""

    page: Path
    json: Path
    markdown: tuple[Path, ...]
    """in the order of the chains"""


def split_sentences(text: str) -> list[str]:
    """Split text in ja, en or zh into sentences, without marks of lists and headings; each sentence once."""
    pieces: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        if "\n" not in end.group() and _ABBREVIATED.search(piece.rstrip()):
            continue
        pieces.append(piece)
        start = end.end()
    pieces.append(text[start:])
    return list(dict.fromkeys(clean for piece in pieces if (clean := _LIST_MARK.sub("", piece).strip())))


def extract_key_sentences(reasoning: str, answer: str, *, known: Iterable[str] = ()) -> list[str]:
    """Return up to `SENTENCES` sentences of ``answer``, in its order.

    An answer that says nothing new is still quoted by one sentence, its first.

    Args:
        known: the question and what was quoted before.
    """
    # 1. Weigh each term by the sentences it occurs in, and by nothing if it is known.
    candidates = split_sentences(answer)
    sentences = dict.fromkeys([*split_sentences(reasoning), *candidates])
    weights = Counter(term for sentence in sentences for term in _terms(sentence))
    for text in known:
        for term in _terms(text):
            weights.pop(term, None)

    # 2. Take the heaviest sentence; its terms are then known too.
    chosen: list[str] = []
    first = 0.0
    while len(chosen) < min(SENTENCES, len(candidates)):
        weighed = {
            sentence: sum(weights[term] for term in terms) / len(terms) ** 0.5 if (terms := _terms(sentence)) else 0.0
            for sentence in candidates
            if sentence not in chosen
        }
        best = max(weighed, key=lambda sentence: weighed[sentence])
        if chosen and (weighed[best] == 0 or weighed[best] < first / 2):
            break
        first = first or weighed[best]
        chosen.append(best)
        for term in _terms(best):
            weights.pop(term, None)

    # 3. Quote them in the order of the answer.
    return [
        sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1].rstrip() + "…"
        for sentence in candidates
        if sentence in chosen
    ]


def _terms(text: str) -> set[str]:
    """Return words of more than two letters, and pairs of neighbours in scripts that are written without spaces."""
    terms: set[str] = set()
    for run in _WORD.findall(text.lower()):
        if run[0].isascii() or run[0] < "ɐ":
            terms |= {run} if len(run) > 2 or run.isdigit() else set()
        else:
            terms |= {run[at : at + 2] for at in range(max(1, len(run) - 1))}
    return terms


def summarize(chain: QuestionChain) -> Summary:
    """Summarize what was asked and why, what was learnt, what remains open and why the chain ended."""
    labels = load_labels(chain.language)

    # 1. Quote each step; what is quoted is known to the later ones.
    learnt: list[StepSummary] = []
    known: list[str] = []
    for step in chain.steps:
        known.append(step.question)
        sentences = extract_key_sentences(step.answer.reasoning, step.answer.answer, known=known)
        known += sentences
        learnt.append(
            StepSummary(
                number=step.number,
                question=step.question,
                perspective=step.perspective,
                because=labels.perspective(step.perspective).because,
                sentences=tuple(sentences),
            )
        )

    # 2. Collect candidates that passed and were never asked, each once.
    still_open: list[OpenQuestion] = []
    seen = {step.question for step in chain.steps}
    for step in chain.steps:
        for candidate in step.candidates:
            if candidate.refused_because is None and candidate.question not in seen:
                seen.add(candidate.question)
                question, perspective = candidate.question, candidate.perspective
                still_open.append(OpenQuestion(question=question, perspective=perspective, after=step.number))

    progress = labels.depth_reached if chain.complete else labels.going_on
    return Summary(
        id=chain.id,
        theme=chain.theme,
        language=chain.language,
        depth=chain.depth,
        models=tuple(dict.fromkeys(step.answer.model for step in chain.steps)),
        learnt=tuple(learnt),
        still_open=tuple(still_open),
        refused=sum(one.refused_because is not None for step in chain.steps for one in step.candidates),
        complete=chain.complete,
        ended=progress.format(chain.depth, len(chain.steps)) if chain.ended_because is None else chain.ended_because,
        tokens=sum(step.answer.tokens for step in chain.steps),
        seconds=sum(step.answer.seconds for step in chain.steps),
    )


def summarize_with_model(chain: QuestionChain, engine: Engine, *, decoder: GenerationSettings = GREEDY) -> Summary:
    """Summarize with a model's own words above the quotations.

    If its words cannot be used, ``untold_because`` says why.

    Raises:
        GenerationError: the model cannot be asked.
    """
    summary = summarize(chain)
    if not chain.steps:
        return summary
    dialogue = "\n\n".join(
        f"{step.number}. {step.question}\n{step.answer.answer[:_LONGEST_SHOWN]}" for step in chain.steps
    )
    request = Question(instruction=_SUMMARY_REQUEST[chain.language], input=dialogue, language=chain.language)
    (answer,) = ask(engine, [request], decoder=decoder)
    problem = _unusable_reason(answer, chain.language, dialogue)
    if problem is None:
        return summary.model_copy(update={"told": answer.answer, "told_by": answer.model})
    explanation = f"{answer.model}: {problem.text(load_labels(chain.language).html)}"
    return summary.model_copy(update={"untold_because": explanation})


def _unusable_reason(answer: Answer, language: Language, dialogue: str) -> LocalizedText | None:
    """Explain in a clause why a model's summary cannot be used; None if it can."""
    if not answer.answer.strip():
        return reason("summary_empty")
    if answer.loops:
        return reason("summary_loops")
    if answer.stopped_by == "length":
        return reason("summary_unfinished")
    if any(issue.severity is Severity.ERROR for issue in language_issues(answer.answer, language)):
        return reason("summary_language", language=language.value)
    known = set(_NUMBER.findall(dialogue))
    if new := [number for number in _NUMBER.findall(answer.answer) if number not in known]:
        return reason("summary_number", number=new[0])
    return None


def chain_to_markdown(chain: QuestionChain, summary: Summary | None = None) -> str:
    """Write the whole chain as Markdown: the summary first, then each step.

    Args:
        chain: complete or not.
        summary: one that a model has written; else one of quotations is made.
    """
    return str(_markdown().whole(chain, summary or summarize(chain), load_labels(chain.language)))


def step_report(chain: QuestionChain) -> str:
    """Write the latest step as Markdown, to be read while the chain runs; empty before the first step."""
    return str(_markdown().in_full(chain, chain.steps[-1], load_labels(chain.language))) if chain.steps else ""


@cache
def _markdown() -> Any:
    """Load the macros of ``summary.md.j2``."""
    environment = html_environment(__package__, line=_line, quote=_quote).overlay(autoescape=False)
    environment.globals |= {"answer_notes": answer_notes, "chosen_candidate": chosen_candidate}
    return environment.get_template("summary.md.j2").module


def answer_notes(answer: Answer, labels: Labels) -> list[str]:
    """Return what a reader should know about how an answer was made."""
    notes = []
    if answer.second_pass_because is not None:
        notes.append(f"{labels.two_passes}: {answer.second_pass_because.text(labels.html)}")
    if answer.retried_because is not None:
        notes.append(f"{labels.retried}: {answer.retried_because.text(labels.html)}")
    if answer.loops:
        notes.append(labels.loops)
    if answer.stopped_by == "length":
        notes.append(labels.cut_off)
    return notes


def _quote(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in _escape(text).split("\n"))


def _line(text: str) -> str:
    """Return one line of Markdown that shows just this text."""
    return _escape(" ".join(text.split()))


def _escape(text: str) -> str:
    """Escape text of a model or a visitor, so that it cannot become an element, a link, a heading or a list."""
    escaped = _MARKDOWN_INLINE.sub(r"\\\1", text.replace("\r", "")).replace("&", "&amp;").replace("<", "&lt;")
    return _MARKDOWN_BLOCK.sub(r"\1\\\2", escaped)


def page(chains: Sequence[QuestionChain], summaries: Mapping[str, Summary] | None = None) -> str:
    """Render the page; several chains get an index. Every text is escaped by jinja2.

    Args:
        chains: complete or not; labels are in each one's language.
        summaries: by id of the chain, those that a model has written; the others are made of quotations.
    """
    is_japanese = any(load_labels(chain.language) is SUMMARY_JA for chain in chains) or not chains
    return render_page(
        html_environment(__package__).get_template("page.html.j2"),
        style=load_text(__package__, "page.css"),
        entries=[
            {
                "chain": chain,
                "summary": (summaries or {}).get(chain.id) or summarize(chain),
                "said": load_labels(chain.language),
                "tree": layout_tree(chain),
                "chosen": [chosen_candidate(chain, step) for step in chain.steps],
            }
            for chain in chains
        ],
        said=SUMMARY_JA if is_japanese else SUMMARY_EN,
        notes=answer_notes,
        width=WIDTH,
    )


def write_summaries(
    chains: Sequence[QuestionChain], folder: Path, summaries: Mapping[str, Summary] | None = None
) -> SummaryFiles:
    """Write the page, the JSON and a Markdown file a chain into ``folder``; earlier files are replaced.

    Each file is replaced atomically, so this may be called after each step.

    Args:
        folder: created if it does not exist.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_id = {chain.id: (summaries or {}).get(chain.id) or summarize(chain) for chain in chains}

    # 1. Markdown, under the chain's id as far as that is safe as a file name, numbered where two would be the same.
    names = ["summary"]
    for number, chain in enumerate(chains, 1):
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", chain.id).strip("-")[:60] or f"chain-{number}"
        names.append(f"{name}-{number}" if name.lower() in {taken.lower() for taken in names} else name)
        atomic_write_text(folder / f"{names[-1]}.md", chain_to_markdown(chain, by_id[chain.id]))

    # 2. JSON: the records as they are.
    entries = [
        {"summary": by_id[chain.id].model_dump(mode="json"), "chain": chain.model_dump(mode="json")} for chain in chains
    ]
    atomic_write_text(folder / JSON, json.dumps({"chains": entries}, ensure_ascii=False, indent=1) + "\n")

    # 3. The page.
    atomic_write_text(folder / PAGE, page(chains, by_id))
    markdown = tuple(folder / f"{name}.md" for name in names[1:])
    return SummaryFiles(page=folder / PAGE, json=folder / JSON, markdown=markdown)
