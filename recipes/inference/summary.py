"""Summarize a question chain (まとめ) as Markdown, JSON and one self-contained HTML page.

The rule: a pair of neighbouring characters (two letters of Japanese or Chinese, a word of English) weighs as many
sentences of this step's Reasoning and answer as it occurs in, and nothing if the question or a sentence learnt earlier
has it. The sentence of the answer whose pairs weigh most, over the square root of their number, is essential; a second
one if, after the first, it still weighs at least half as much. It needs no model, so the same chain gives the same
summary everywhere. After SumBasic (Nenkova and Vanderwende 2005), with novelty as in Carbonell and Goldstein 1998.

Its content security policy lets its own style in and nothing besides, so no question or answer can bring code along.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from bonsai.builder.checks.base import Severity
from bonsai.builder.checks.language import language_issues
from bonsai.builder.schema import Language
from bonsai.recipes.inference.ask import ask
from bonsai.recipes.inference.conversation import Answer, LocalizedText, Question, QuestionChain, Step, chosen_candidate
from bonsai.recipes.inference.generation import GREEDY, Engine, GenerationSettings
from bonsai.recipes.inference.labels import SUMMARY_EN, SUMMARY_JA, SummaryLabels, load_labels
from bonsai.recipes.inference.tree_svg import WIDTH, layout_tree

SENTENCES = 2
"""quoted of one answer at most"""
LONGEST = 280
"""characters of a quotation; text without full stops is cut here"""

_END = re.compile(r"(?<=[。！？])[」』）”]*|(?<=[!?…])[\"”’)]*\s+|(?<=[.])[\"”’)]*\s+(?=[\"“‘(]?[A-Z0-9])|\n+")
_ABBREVIATED = re.compile(r"(?:\b(?:[A-Z]|Dr|Mr|Mrs|Ms|Mt|Prof|St|No|vs|etc|approx|e\.g|i\.e|cf)\.|^\d+\.)$")
_MARKUP = re.compile(r"^\s*(?:[-*•・]\s+|#{1,6}\s+|\d+[.)]\s+)")
_WORD = re.compile(r"[a-z0-9À-ɏ]+|[^\W\d_a-zÀ-ɏ]+")


def split_sentences(text: str) -> list[str]:
    """The sentences of a text in ja, en or zh, without marks of lists and headings; each once."""
    found: list[str] = []
    start = 0
    for end in _END.finditer(text):
        piece = text[start : end.end()]
        if "\n" not in end.group() and _ABBREVIATED.search(piece.rstrip()):
            continue
        found.append(piece)
        start = end.end()
    found.append(text[start:])
    return list(dict.fromkeys(clean for piece in found if (clean := _MARKUP.sub("", piece).strip())))


def extract_key_sentences(reasoning: str, answer: str, *, known: Iterable[str] = ()) -> list[str]:
    """Up to two sentences of ``answer``, in its order; ``known`` are the question and what was learnt before.

    An answer that says nothing new is still quoted by one sentence, its first.
    """
    said = split_sentences(answer)
    if not said:
        return []
    everything = [_terms(sentence) for sentence in dict.fromkeys([*split_sentences(reasoning), *said])]
    weights = Counter(term for terms in everything for term in terms)
    for text in known:
        for term in _terms(text):
            weights.pop(term, None)
    chosen = _top_sentences(said, weights)
    return [_cut(sentence) for sentence in said if sentence in chosen]


def _top_sentences(said: Sequence[str], weights: Counter[str]) -> set[str]:
    chosen: list[str] = []
    first = 0.0
    while len(chosen) < min(SENTENCES, len(said)):
        weighed = {sentence: _weight(_terms(sentence), weights) for sentence in said if sentence not in chosen}
        best = max(weighed, key=lambda sentence: weighed[sentence])
        if chosen and (weighed[best] == 0 or weighed[best] < first / 2):
            break
        first = first or weighed[best]
        chosen.append(best)
        for term in _terms(best):
            weights.pop(term, None)
    return set(chosen)


def _weight(terms: set[str], weights: Counter[str]) -> float:
    return float(sum(weights[term] for term in terms) / len(terms) ** 0.5) if terms else 0.0


def _terms(text: str) -> set[str]:
    """Words of more than two letters, and pairs of neighbours in scripts that write none."""
    found: set[str] = set()
    for run in _WORD.findall(text.lower()):
        if run[0].isascii() or run[0] < "ɐ":
            found |= {run} if len(run) > 2 or run.isdigit() else set()
        else:
            found |= {run[place : place + 2] for place in range(max(1, len(run) - 1))}
    return found


def _cut(sentence: str) -> str:
    return sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1].rstrip() + "…"


class _SummaryModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepSummary(_SummaryModel):
    """One step in a few words."""

    number: int
    question: str
    perspective: str | None
    """a key; None for the opening question"""
    because: str
    """why it was asked, as a sentence; empty for the opening question"""
    sentences: tuple[str, ...]
    """of the answer, word for word; empty: there was no answer"""


class OpenQuestion(_SummaryModel):
    """A question that passed and was not asked."""

    question: str
    perspective: str
    after: int
    """the step it came up after"""


class Summary(_SummaryModel):
    """A chain in a few words; all but the labels is quoted from it."""

    id: str
    theme: str
    language: Language
    depth: int
    models: tuple[str, ...]
    learnt: tuple[StepSummary, ...]
    still_open: tuple[OpenQuestion, ...]
    refused: int
    """candidates, over all steps"""
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


def summarize(chain: QuestionChain) -> Summary:
    """What was asked, why, what was learnt, what remains open and why it ended."""
    return Summary(
        id=chain.id,
        theme=chain.theme,
        language=chain.language,
        depth=chain.depth,
        models=tuple(dict.fromkeys(step.answer.model for step in chain.steps)),
        learnt=tuple(_learnt(chain)),
        still_open=tuple(_still_open(chain)),
        refused=sum(one.refused_because is not None for step in chain.steps for one in step.candidates),
        complete=chain.complete,
        ended=end_reason(chain),
        tokens=sum(step.answer.tokens for step in chain.steps),
        seconds=sum(step.answer.seconds for step in chain.steps),
    )


def end_reason(chain: QuestionChain) -> str:
    """Why the chain ended, or how far it is."""
    if chain.ended_because is not None:
        return chain.ended_because
    said = load_labels(chain.language)
    return (said.depth_reached if chain.complete else said.going_on).format(chain.depth, len(chain.steps))


def _learnt(chain: QuestionChain) -> Iterator[StepSummary]:
    known: list[str] = []
    for step in chain.steps:
        known.append(step.question)
        found = extract_key_sentences(step.answer.reasoning, step.answer.answer, known=known)
        known += found
        yield StepSummary(
            number=step.number,
            question=step.question,
            perspective=step.perspective,
            because=load_labels(chain.language).perspective(step.perspective).because,
            sentences=tuple(found),
        )


def _still_open(chain: QuestionChain) -> Iterator[OpenQuestion]:
    told = {step.question for step in chain.steps}
    for step in chain.steps:
        for one in step.candidates:
            if one.refused_because is None and one.question not in told:
                told.add(one.question)
                yield OpenQuestion(question=one.question, perspective=one.perspective, after=step.number)


_REQUEST = {
    Language.JA: "次の問答から学べることを、三文から五文でまとめてください。書かれていないことは加えないでください。",
    Language.EN: "Sum up in three to five sentences what this dialogue teaches. Add nothing that is not in it.",
    Language.ZH: "请用三到五句话概括下面的问答教给我们什么，不要添加其中没有的内容。",
}
_LONGEST = 600
"""characters of one answer that the model is shown"""
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")


def summarize_with_model(chain: QuestionChain, engine: Engine, *, decoder: GenerationSettings = GREEDY) -> Summary:
    """The summary with a model's own words above the quotations.

    Where its words cannot be used, the quotations stand alone and ``untold_because`` says why.

    Raises:
        GenerationError: the model cannot be asked.
    """
    quoted = summarize(chain)
    if not chain.steps:
        return quoted
    dialogue = "\n\n".join(f"{step.number}. {step.question}\n{step.answer.answer[:_LONGEST]}" for step in chain.steps)
    (said,) = ask(
        engine,
        [Question(instruction=_REQUEST[chain.language], input=dialogue, language=chain.language)],
        decoder=decoder,
    )
    wrong = _fault(said, chain.language, dialogue)
    if wrong is not None:
        told = wrong.told(load_labels(chain.language).html)
        return quoted.model_copy(update={"untold_because": f"{said.model}: {told}"})
    return quoted.model_copy(update={"told": said.answer, "told_by": said.model})


def _fault(said: Answer, language: Language, dialogue: str) -> LocalizedText | None:
    """Why the words cannot be used, as a clause; None: they can."""
    if not said.answer.strip():
        return LocalizedText(en="it wrote nothing", ja="何も書きませんでした")
    if said.loops:
        return LocalizedText(en="it says the same again and again", ja="同じことを繰り返しています")
    if said.stopped_by == "length":
        return LocalizedText(en="it did not come to an end", ja="終わりまで書けませんでした")
    if any(fault.severity is Severity.ERROR for fault in language_issues(said.answer, language)):
        return LocalizedText(
            en=f"it did not keep to the language of the chain ({language.value})",
            ja=f"連鎖の言語（{language.value}）で書かれていません",
        )
    known = set(_NUMBER.findall(dialogue))
    if new := [number for number in _NUMBER.findall(said.answer) if number not in known]:
        return LocalizedText(
            en=f"it names {new[0]}, which no answer does", ja=f"どの答えにもない数「{new[0]}」があります"
        )
    return None


_SPECIAL = re.compile(r"([\\`*_\[\]~|])")
_BLOCK = re.compile(r"^(\s*\d*)([#>+=.)-])", re.MULTILINE)


def chain_to_markdown(chain: QuestionChain, summary: Summary | None = None) -> str:
    """The whole chain: the summary first, then each step's report.

    Args:
        chain: finished or not.
        summary: one that a model has told (`bonsai.recipes.inference.summary`); else it is made of quotations.
    """
    said = load_labels(chain.language)
    summary = summary or summarize(chain)
    lines = [f"# {said.title}: {_line(chain.theme)}", "", _facts(summary, said), ""]
    if summary.told is not None:
        lines += [_quoted(summary.told), "", f"*{_line(said.told_by.format(summary.told_by))}*", ""]
    elif summary.untold_because is not None:
        lines += [f"*{_line(said.untold.format(summary.untold_because))}*", ""]
    lines += [f"## {said.asked}", ""]
    for one in summary.learnt:
        why = f" — *{_line(said.perspective(one.perspective).name)}*: {_line(one.because)}" if one.perspective else ""
        lines.append(f"{one.number}. {_line(one.question)}{why}")
    lines += ["", f"## {said.learnt}", ""]
    for one in summary.learnt:
        lines.append(f"{one.number}. {_line(' '.join(one.sentences)) or said.no_answer}")
    lines += ["", f"*{said.rule}*", "", f"## {said.still_open}", ""]
    lines += [
        f"- {_line(left.question)} (*{_line(said.perspective(left.perspective).name)}*)" for left in summary.still_open
    ] or [said.nothing_open]
    lines += ["", f"## {said.ended}", "", _line(summary.ended), ""]
    for step in chain.steps:
        lines += [_report(chain, step, said), ""]
    return "\n".join(lines)


def step_report(chain: QuestionChain) -> str:
    """What the latest step brought, to be read while the chain goes on; empty before the first step."""
    return _report(chain, chain.steps[-1], load_labels(chain.language)) + "\n" if chain.steps else ""


def _facts(summary: Summary, said: SummaryLabels) -> str:
    return " · ".join(
        [
            *(_line(model) for model in summary.models),
            said.steps.format(summary.depth, len(summary.learnt)),
            said.tokens.format(summary.tokens),
            said.seconds.format(f"{summary.seconds:.1f}"),
        ]
    )


def _report(chain: QuestionChain, step: Step, said: SummaryLabels) -> str:
    answer = step.answer
    lines = [f"## {said.step.format(step.number)}: {_line(step.question)}", ""]
    if step.perspective is not None:
        why = said.perspective(step.perspective)
        lines += [f"**{said.why_deeper}** ({_line(why.name)}): {_line(why.because)}", ""]
    lines += [f"**{said.reasoning}**", "", _quoted(answer.reasoning or said.no_reasoning), ""]
    lines += [f"**{said.answer}**", "", _quoted(answer.answer or said.no_answer)]
    for note in answer_notes(answer, said):
        lines += ["", f"*{_line(note)}*"]
    if step.candidates:
        lines += ["", f"**{said.considered}**", ""]
    taken = chosen_candidate(chain, step)
    for one in step.candidates:
        name = _line(said.perspective(one.perspective).name)
        state = said.chosen if one is taken else said.passed
        if one.refused_because is not None:
            state = f"{said.refused}: {_line(one.refused_because)}"
        lines.append(f"- {_line(one.question)} (*{name}*; {state})")
    return "\n".join(lines)


def answer_notes(answer: Answer, said: SummaryLabels) -> list[str]:
    """What a reader should know of how an answer came about."""
    found = []
    if answer.second_pass_because is not None:
        found.append(f"{said.two_passes}: {answer.second_pass_because.told(said.html)}")
    if answer.retried_because is not None:
        found.append(f"{said.retried}: {answer.retried_because.told(said.html)}")
    if answer.loops:
        found.append(said.loops)
    if answer.stopped_by == "length":
        found.append(said.cut_off)
    return found


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in _safe(text).split("\n"))


def _line(text: str) -> str:
    """One line of Markdown that shows just this text."""
    return _safe(" ".join(text.split()))


def _safe(text: str) -> str:
    """No text of a model or a visitor becomes an element, a link, a heading or a list."""
    plain = _SPECIAL.sub(r"\\\1", text.replace("\r", "")).replace("&", "&amp;").replace("<", "&lt;")
    return _BLOCK.sub(r"\1\\\2", plain)


def page(chains: Sequence[QuestionChain], summaries: Mapping[str, Summary] | None = None) -> str:
    """The whole page; several chains get an index. Every text is escaped by jinja2.

    Args:
        chains: finished or not; labels are in each one's language.
        summaries: by id of the chain, those that a model has told; the others are made of quotations.
    """
    style = _asset("page.css")
    japanese = any(load_labels(chain.language) is SUMMARY_JA for chain in chains) or not chains
    return _template().render(
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
        said=SUMMARY_JA if japanese else SUMMARY_EN,
        notes=answer_notes,
        width=WIDTH,
        style=Markup(style),
        style_hash="sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    )


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("page.html.j2"))


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


PAGE, JSON = "summary.html", "summary.json"


class SummaryFiles(NamedTuple):
    """Where the summary lies."""

    page: Path
    json: Path
    markdown: tuple[Path, ...]
    """in the order of the chains"""


def write_summaries(
    chains: Sequence[QuestionChain], folder: Path, summaries: Mapping[str, Summary] | None = None
) -> SummaryFiles:
    """Write the summary of these chains into ``folder``, which is made if need be; earlier files are replaced.

    A reader never meets half a file, so this may be called after each step.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    told = {chain.id: (summaries or {}).get(chain.id) or summarize(chain) for chain in chains}
    texts = []
    for name, chain in zip(_names(chains), chains, strict=True):
        texts.append(folder / f"{name}.md")
        _replace(texts[-1], chain_to_markdown(chain, told[chain.id]))
    _replace(folder / JSON, as_json(chains, told))
    _replace(folder / PAGE, page(chains, told))
    return SummaryFiles(page=folder / PAGE, json=folder / JSON, markdown=tuple(texts))


def as_json(chains: Sequence[QuestionChain], summaries: Mapping[str, Summary] | None = None) -> str:
    """``{"chains": [{"summary": …, "chain": …}]}``, the records as they are."""
    entries = [
        {
            "summary": ((summaries or {}).get(chain.id) or summarize(chain)).model_dump(mode="json"),
            "chain": chain.model_dump(mode="json"),
        }
        for chain in chains
    ]
    return json.dumps({"chains": entries}, ensure_ascii=False, indent=1) + "\n"


def _names(chains: Sequence[QuestionChain]) -> list[str]:
    """A file name a chain, whatever its id: letters, digits and hyphens, and a number where two would be one."""
    names: list[str] = []
    for place, chain in enumerate(chains, 1):
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", chain.id).strip("-")[:60] or f"chain-{place}"
        taken = plain.lower() in {name.lower() for name in names} | {"summary"}
        names.append(f"{plain}-{place}" if taken else plain)
    return names


def _replace(path: Path, text: str) -> None:
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace"))  # a model may leave half a surrogate pair
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
