"""Lay out a question chain as a tree: asked questions along the root, rejected ones as cut side roots.

All coordinates are computed here, in CSS pixels, so that the page needs no script and the drawing fits a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import get_character_cell_size

from bonsai.recipes.inference.conversation import QuestionChain, chosen_candidate
from bonsai.recipes.inference.labels import load_labels

WIDTH = 360
"""of the drawing"""
_TOP = 104
"""the tree above the ground"""
_ROOT_X = 30
_BRANCH_X = 74
_TEXT_X = 58
_BRANCH_TEXT_X = 92
_LINE_HEIGHT = 20
_SMALL_LINE_HEIGHT = 17
_SPACING = 26
"""between cut roots: wide enough for a finger"""
_NOT_AT_LINE_START = "、。，．？！）」』】〕》〉・ーぁぃぅぇぉっゃゅょァィゥェォッャュョ "
_NOT_AT_LINE_END = "（「『【〔《〈"


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """One line; ``y`` is its baseline."""

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
    """A candidate that was not chosen."""

    kind: Literal["bud", "cut"]
    anchor: str
    """step and candidate, as in ``2-5``: the id of its note"""
    x: float
    y: float
    path: str
    lines: tuple[TextLine, ...] = ()
    """empty for a rejected one: its note has the text"""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """Everything to draw, from the ground down."""

    height: float
    roots: tuple[str, ...]
    """outlines, each thinner than the one before"""
    nodes: tuple[TreeNode, ...]
    twigs: tuple[Branch, ...]
    captions: tuple[TextLine, ...]
    """how many candidates were rejected"""


def layout_tree(chain: QuestionChain) -> Tree:
    """Lay out a chain, complete or not; ``y`` moves down from step to step."""
    labels = load_labels(chain.language)
    nodes: list[TreeNode] = []
    twigs: list[Branch] = []
    captions: list[TextLine] = []
    y = float(_TOP)
    for step in chain.steps:
        # 1. The question, by turns a little left and right of the middle. Divisors are font sizes.
        y += 34
        name = wrap_text(labels.perspective(step.perspective).name, 22, 1)[0]
        question = wrap_text(step.question, (WIDTH - _TEXT_X - 6) / 14.5, 4)
        nodes.append(
            TreeNode(
                number=step.number,
                x=_ROOT_X + (-3 if step.number % 2 else 3),
                y=y,
                label=TextLine(x=_TEXT_X, y=y - 8, text=name),
                lines=_stack(question, _TEXT_X, y + 10, _LINE_HEIGHT),
            )
        )
        y = max(y + 8, nodes[-1].lines[-1].y + 6)

        # 2. A bud for each question that passed and was not asked.
        chosen = chosen_candidate(chain, step)
        rejected: list[int] = []
        for place, candidate in enumerate(step.candidates, 1):
            if candidate.refused_because is not None:
                rejected.append(place)
            elif candidate is not chosen:
                y += 22
                text = wrap_text(candidate.question, (WIDTH - _BRANCH_TEXT_X - 6) / 12.5, 2)
                lines = _stack(text, _BRANCH_TEXT_X, y + 4, _SMALL_LINE_HEIGHT)
                path = _side_root(y - 16, y - 2, y)
                twigs.append(
                    Branch(kind="bud", anchor=f"{step.number}-{place}", x=_BRANCH_X, y=y, path=path, lines=lines)
                )
                y = lines[-1].y + 4

        # 3. Rejected ones as cut roots in rows below a caption.
        if rejected:
            y += 20
            captions.append(TextLine(x=_BRANCH_TEXT_X, y=y, text=f"{labels.refused} {len(rejected)}"))
            top = y + 18
            per_row = int((WIDTH - _BRANCH_X - 12) // _SPACING) + 1
            for number, place in enumerate(rejected):
                row, column = divmod(number, per_row)
                x, y = _BRANCH_X + _SPACING * column, top + _SPACING * row
                path = f"M{x - _SPACING:g} {y:g}H{x:g}" if column else _side_root(y - 18, y - 2, y)
                twigs.append(Branch(kind="cut", anchor=f"{step.number}-{place}", x=x, y=y, path=path))
            y += 10
    return Tree(
        height=y + 26,
        roots=_root_outlines(nodes, y + 14),
        nodes=tuple(nodes),
        twigs=tuple(twigs),
        captions=tuple(captions),
    )


def _stack(texts: Sequence[str], x: float, y: float, height: float) -> tuple[TextLine, ...]:
    return tuple(TextLine(x=x, y=y + height * number, text=text) for number, text in enumerate(texts))


def _side_root(start: float, bend: float, end: float) -> str:
    return f"M{_ROOT_X} {start:g}C{_ROOT_X + 4} {bend:g} {_BRANCH_X - 26:g} {end:g} {_BRANCH_X:g} {end:g}"


def _root_outlines(nodes: Sequence[TreeNode], end: float) -> tuple[str, ...]:
    """Outline the root from the trunk to each node and on to its end, thinning on the way."""
    points = [(float(_ROOT_X), float(_TOP)), *((node.x, node.y) for node in nodes), (float(_ROOT_X), end)]
    half_widths = [6.0 - 4.6 * number / (len(points) - 1) for number in range(len(points) - 1)] + [0.4]
    outlines = []
    for number in range(len(points) - 1):
        (x, y), (to_x, to_y) = points[number : number + 2]
        wide, thin = half_widths[number : number + 2]
        middle = (y + to_y) / 2
        outlines.append(
            f"M{x - wide:.1f} {y:g}C{x - wide:.1f} {middle:g} {to_x - thin:.1f} {middle:g} {to_x - thin:.1f} {to_y:g}"
            f"H{to_x + thin:.1f}C{to_x + thin:.1f} {middle:g} {x + wide:.1f} {middle:g} {x + wide:.1f} {y:g}Z"
        )
    return tuple(outlines)


def wrap_text(text: str, width: float, max_lines: int) -> list[str]:
    """Wrap text into lines of ``width`` full-width characters, the last one ending in an ellipsis if text is left.

    SVG does not wrap text.
    """
    # 1. Split where a line may break: after a space, or beside a full-width character that may start a line.
    pieces: list[str] = []
    for character in " ".join(text.split()):
        before = pieces[-1][-1] if pieces else " "
        is_inside = (
            character in _NOT_AT_LINE_START
            or before in _NOT_AT_LINE_END
            or not (get_character_cell_size(character) == 2 or get_character_cell_size(before) == 2)
        )
        if before != " " and is_inside:
            pieces[-1] += character
        else:
            pieces.append(character)

    # 2. Fill the lines; a piece wider than a line is split into characters.
    lines = [""]
    while pieces:
        piece = pieces.pop(0)
        if _text_width(lines[-1] + piece.rstrip()) <= width:
            lines[-1] += piece
        elif _text_width(piece.rstrip()) > width and len(piece) > 1:
            pieces = [*piece, *pieces]
        else:
            lines.append(piece)
    lines = [line.strip() for line in lines if line.strip()] or ["…"]

    # 3. Shorten the last line for the ellipsis.
    if len(lines) > max_lines:
        last = lines[max_lines - 1]
        while _text_width(last + "…") > width:
            last = last[:-1]
        lines = [*lines[: max_lines - 1], last + "…"]
    return lines


def _text_width(text: str) -> float:
    """Estimate the width in em of a wide font (DejaVu Sans Bold): the reader's font is not known here."""
    width = 0.0
    for character in text:
        cells = get_character_cell_size(character)
        if cells != 1:
            width += cells / 2
        elif character in "iIjlftr.,:;'|!()[] ":
            width += 0.44
        else:
            width += 0.98 if character in "mwMW%@—" else 0.78 if character.isupper() else 0.69
    return width
