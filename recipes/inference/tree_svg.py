"""Lay out a question chain as a tree drawing.

All is laid out here, in units of one CSS pixel, so that the page needs no script and the drawing is as wide as a phone.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Literal

from bonsai.recipes.inference.conversation import Candidate, QuestionChain, Step, chosen_candidate
from bonsai.recipes.inference.labels import load_labels

WIDTH = 360
"""of the drawing"""
_MIDDLE = 30
_TEXT = 58
_BUD_TEXT = 92
_BUD = 74
_ROW = 20
_SMALL_ROW = 17
_SPACING = 26
"""between cut roots: wide enough for a finger"""
_TOP = 104
"""the tree above the ground"""


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """One line; ``y`` is its base line."""

    x: float
    y: float
    text: str


@dataclass(frozen=True, kw_only=True)
class TreeNode:
    """A question that was asked."""

    number: int
    x: float
    y: float
    label: TextLine
    """the perspective it was asked from"""
    lines: tuple[TextLine, ...]


@dataclass(frozen=True, kw_only=True)
class Branch:
    """A candidate that was not taken."""

    kind: Literal["bud", "cut"]
    place: str
    """step and candidate, as in ``2-5``; the note's anchor"""
    x: float
    y: float
    path: str
    lines: tuple[TextLine, ...]
    """empty for what was refused: its note says it"""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Everything to draw, from the ground down."""

    height: float
    roots: tuple[str, ...]
    """outlines, each thinner than the one before"""
    nodes: tuple[TreeNode, ...]
    twigs: tuple[Branch, ...]
    captions: tuple[TextLine, ...]
    """how many were refused"""


def layout_tree(chain: QuestionChain) -> Tree:
    """The drawing of a chain, finished or not."""
    said = load_labels(chain.language)
    nodes: list[TreeNode] = []
    twigs: list[Branch] = []
    captions: list[TextLine] = []
    y = float(_TOP)
    for step in chain.steps:
        y += 34
        node = _node(step, y, said.perspective(step.perspective).name)
        nodes.append(node)
        y = max(y + 8, node.lines[-1].y + 6)
        taken = chosen_candidate(chain, step)
        for place, one in enumerate(step.candidates, 1):
            if one is not taken and one.refused_because is None:
                twigs.append(_bud(one, f"{step.number}-{place}", y))
                y = twigs[-1].lines[-1].y + 4
        refused = [place for place, one in enumerate(step.candidates, 1) if one.refused_because is not None]
        if refused:
            y += 20
            captions.append(TextLine(x=_BUD_TEXT, y=y, text=f"{said.refused} {len(refused)}"))
            cut, y = _cut(refused, step.number, y + 8)
            twigs += cut
    return Tree(
        height=y + 26,
        roots=tuple(_roots(nodes, y + 14)),
        nodes=tuple(nodes),
        twigs=tuple(twigs),
        captions=tuple(captions),
    )


def _node(step: Step, y: float, name: str) -> TreeNode:
    lines = wrap_text(step.question, (WIDTH - _TEXT - 6) / 14.5, 4)
    return TreeNode(
        number=step.number,
        x=_MIDDLE + (-3 if step.number % 2 else 3),
        y=y,
        label=TextLine(x=_TEXT, y=y - 8, text=wrap_text(name, 22, 1)[0]),
        lines=tuple(TextLine(x=_TEXT, y=y + 10 + _ROW * number, text=line) for number, line in enumerate(lines)),
    )


def _bud(one: Candidate, place: str, y: float) -> Branch:
    y += 22
    lines = wrap_text(one.question, (WIDTH - _BUD_TEXT - 6) / 12.5, 2)
    return Branch(
        kind="bud",
        place=place,
        x=_BUD,
        y=y,
        path=f"M{_MIDDLE} {y - 16:g}C{_MIDDLE + 4} {y - 2:g} {_BUD - 26:g} {y:g} {_BUD:g} {y:g}",
        lines=tuple(
            TextLine(x=_BUD_TEXT, y=y + 4 + _SMALL_ROW * number, text=line) for number, line in enumerate(lines)
        ),
    )


def _cut(refused: list[int], step: int, y: float) -> tuple[list[Branch], float]:
    in_a_row = int((WIDTH - _BUD - 12) // _SPACING) + 1
    found = []
    for number, place in enumerate(refused):
        row, column = divmod(number, in_a_row)
        x, here = _BUD + _SPACING * column, y + 10 + _SPACING * row
        start = f"M{_MIDDLE} {here - 18:g}C{_MIDDLE + 4} {here - 2:g} {_BUD - 26:g} {here:g} {_BUD:g} {here:g}"
        path = start if column == 0 else f"M{x - _SPACING:g} {here:g}H{x:g}"
        found.append(Branch(kind="cut", place=f"{step}-{place}", x=x, y=here, path=path, lines=()))
    return found, found[-1].y + 10


def _roots(nodes: list[TreeNode], end: float) -> list[str]:
    """Outlines from the trunk to each node and on to where the root ends, thinning on the way."""
    points = [(float(_MIDDLE), float(_TOP)), *((node.x, node.y) for node in nodes), (float(_MIDDLE), end)]
    half = [6.0 - 4.6 * place / (len(points) - 1) for place in range(len(points) - 1)] + [0.4]
    found = []
    for place in range(len(points) - 1):
        (x, y), (to, down) = points[place : place + 2]
        wide, thin = half[place : place + 2]
        mid = (y + down) / 2
        found.append(
            f"M{x - wide:.1f} {y:g}C{x - wide:.1f} {mid:g} {to - thin:.1f} {mid:g} {to - thin:.1f} {down:g}"
            f"H{to + thin:.1f}C{to + thin:.1f} {mid:g} {x + wide:.1f} {mid:g} {x + wide:.1f} {y:g}Z"
        )
    return found


def wrap_text(text: str, width: float, most: int) -> list[str]:
    """Text in at most ``most`` lines of ``width`` full-width characters; what does not fit ends in an ellipsis.

    SVG breaks no lines, and no font is known here, so widths are those of a wide one (DejaVu Sans Bold), in em.
    """
    lines = [""]
    words_left = _pieces(" ".join(text.split()))
    while words_left:
        piece = words_left.pop(0)
        if _text_width(lines[-1] + piece.rstrip()) <= width:
            lines[-1] += piece
        elif _text_width(piece.rstrip()) > width and len(piece) > 1:
            words_left = [*piece, *words_left]
        else:
            lines.append(piece)
    lines = [line.strip() for line in lines if line.strip()] or ["…"]
    if len(lines) > most:
        last = lines[most - 1]
        while _text_width(last + "…") > width:
            last = last[:-1]
        lines = [*lines[: most - 1], last + "…"]
    return lines


def _pieces(text: str) -> list[str]:
    """Where a line may break: after a space, or beside a full-width character that may begin a line."""
    found: list[str] = []
    for character in text:
        joins = (
            found
            and not found[-1].endswith(" ")
            and (
                character in "、。，．？！）」』】〕》〉・ーぁぃぅぇぉっゃゅょァィゥェォッャュョ"
                or character == " "
                or not (_wide(character) or _wide(found[-1][-1]))
                or found[-1][-1] in "（「『【〔《〈"
            )
        )
        if joins:
            found[-1] += character
        else:
            found.append(character)
    return found


def _wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"


def _text_width(text: str) -> float:
    return sum(_width(character) for character in text)


def _width(character: str) -> float:
    if _wide(character):
        return 1.0
    if unicodedata.combining(character):
        return 0.0
    if character in "iIjlftr.,:;'|!()[] ":
        return 0.44
    return 0.98 if character in "mwMW%@—" else 0.78 if character.isupper() else 0.69
