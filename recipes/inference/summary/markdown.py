"""The summary as Markdown: after each step an interim report, at the end the whole."""

from __future__ import annotations

import re

from bonsai.recipes.inference.conversation import Answer, Chain, Step
from bonsai.recipes.inference.summary.content import Summary, chosen, summarise
from bonsai.recipes.inference.summary.words import Words, words

_SPECIAL = re.compile(r"([\\`*_\[\]~|])")
_BLOCK = re.compile(r"^(\s*\d*)([#>+=.)-])", re.MULTILINE)


def markdown(chain: Chain, summary: Summary | None = None) -> str:
    """The whole chain: the summary first, then each step's report.

    Args:
        chain: finished or not.
        summary: one that a model has told (`bonsai.recipes.inference.summary.telling`); else it is made of quotations.
    """
    said = words(chain.language)
    summary = summary or summarise(chain)
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


def interim(chain: Chain) -> str:
    """What the latest step brought, to be read while the chain goes on; empty before the first step."""
    return _report(chain, chain.steps[-1], words(chain.language)) + "\n" if chain.steps else ""


def _facts(summary: Summary, said: Words) -> str:
    return " · ".join(
        [
            *(_line(model) for model in summary.models),
            said.steps.format(summary.depth, len(summary.learnt)),
            said.tokens.format(summary.tokens),
            said.seconds.format(f"{summary.seconds:.1f}"),
        ]
    )


def _report(chain: Chain, step: Step, said: Words) -> str:
    answer = step.answer
    lines = [f"## {said.step.format(step.number)}: {_line(step.question)}", ""]
    if step.perspective is not None:
        why = said.perspective(step.perspective)
        lines += [f"**{said.why_deeper}** ({_line(why.name)}): {_line(why.because)}", ""]
    lines += [f"**{said.reasoning}**", "", _quoted(answer.reasoning or said.no_reasoning), ""]
    lines += [f"**{said.answer}**", "", _quoted(answer.answer or said.no_answer)]
    for note in notes(answer, said):
        lines += ["", f"*{_line(note)}*"]
    if step.candidates:
        lines += ["", f"**{said.considered}**", ""]
    taken = chosen(chain, step)
    for one in step.candidates:
        name = _line(said.perspective(one.perspective).name)
        state = said.chosen if one is taken else said.passed
        if one.refused_because is not None:
            state = f"{said.refused}: {_line(one.refused_because)}"
        lines.append(f"- {_line(one.question)} (*{name}*; {state})")
    return "\n".join(lines)


def notes(answer: Answer, said: Words) -> list[str]:
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
