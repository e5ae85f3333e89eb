"""Chains as they grow before one's eyes: a tree on a terminal, a line and an interim report a step in a log."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from bonsai.recipes.inference.conversation import Chain, Step
from bonsai.recipes.inference.summary.markdown import interim
from bonsai.recipes.inference.summary.words import words

LONGEST = 400
"""characters of an answer in the tree; the まとめ has all of it"""


class Growing(contextlib.AbstractContextManager["Growing"]):
    """A tree that grows on a terminal, a line for each step in a log."""

    def __init__(self, console: Console, chains: Sequence[Chain]) -> None:
        self._console = console
        self._now = {chain.id: chain for chain in chains}
        self._live = Live(self._tree(), console=console, refresh_per_second=4, transient=True)
        self.stopped = False

    @property
    def chains(self) -> Sequence[Chain]:
        """As they stand now."""
        return tuple(self._now.values())

    @property
    def begun(self) -> Sequence[Chain]:
        """Those that have an answer."""
        return [chain for chain in self._now.values() if chain.steps]

    def __enter__(self) -> Growing:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the screen to what comes below."""
        self._live.stop()

    def tell(self, chain: Chain) -> None:
        """Show how a chain stands now."""
        self._now[chain.id] = chain
        if self._console.is_terminal:
            self._live.update(self._tree())
            return
        number = list(self._now).index(chain.id) + 1
        last = chain.steps[-1]
        if not last.candidates:
            self._console.print(f"{number}/{len(self._now)} step {last.number}/{chain.depth}: {last.question}")
            self._console.print(interim(chain), soft_wrap=True)
        if chain.ended_because:
            self._console.print(f"{number}/{len(self._now)} ended: {chain.ended_because}")

    def _tree(self) -> Group:
        return Group(*(tree(chain, answers=len(self._now) == 1) for chain in self._now.values()))


def tree(chain: Chain, *, answers: bool) -> Tree:
    """Each question below the one it came from; what was asked from where, and why it ended."""
    root = Tree(Text(chain.theme, style="bold"), guide_style="green")
    branch = root
    for step in chain.steps:
        if step.number > 1:
            asked_from = words(chain.language).perspective(step.perspective).name
            branch = branch.add(Text.assemble((f"{step.number} {asked_from}", "cyan"), f" {step.question}"))
        if answers:
            branch.add(Text(_shortened(step), style="dim"))
    if chain.ended_because:
        branch.add(Text(chain.ended_because, style="yellow"))
    elif not chain.complete:
        branch.add(Text(f"… {len(chain.steps)}/{chain.depth}", style="dim"))
    return root


def _shortened(step: Step) -> str:
    text = " ".join(step.answer.answer.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
