"""`bonsai qtq`: questions led deeper before one's eyes, and their まとめ."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.tree import Tree

from bonsai.builder.probes import default_probes, read_probes
from bonsai.builder.schema import BonsaiError, Language
from bonsai.cli.asking import opened
from bonsai.recipes.inference.asking.errors import AskingError
from bonsai.recipes.inference.asking.limits import check_questions, text_of
from bonsai.recipes.inference.asking.question_file import questions_in
from bonsai.recipes.inference.conversation import Chain, Question, Step
from bonsai.recipes.inference.summary.words import words

if TYPE_CHECKING:
    from bonsai.recipes.inference.chains.deepening import Deepening
    from bonsai.recipes.inference.generation.engine import Engine

FOLDER = "qtq"
"""below the output folder: the まとめ, and in ``chains`` what is kept of each chain"""
LONGEST = 400
"""characters of an answer in the tree; the まとめ has all of it"""


def qtq(
    question: str | None,
    *,
    model: str,
    base_url: str | None = None,
    provider: str | None = None,
    questions_file: Path | None = None,
    depth: int = 5,
    language: str | None = None,
    persona: str = "",
    decoder: str = "greedy",
    max_new_tokens: int | None = None,
    out: Path,
    console: Console,
) -> None:
    """Lead one question, those of a file, or the nine prepared ones deeper; what was interrupted goes on.

    Args:
        model: what `bonsai.recipes.inference.models.opening.open_model` opens.
        questions_file: one question a line, or JSON Lines.
        depth: steps of each chain.
        language: of the chains; None: that of each question, and Japanese for the prepared ones.
        max_new_tokens: of one pass; None: the decoder's own.
        out: chains and their まとめ go to ``out/qtq``; adapters are looked for in ``out/adapters``.

    Raises:
        AskingError, GenerationError, KeepingError: with the reason.
    """
    questions = _openings(question, questions_file, language, persona)
    from bonsai.recipes.inference.chains.deepening import Deepening
    from bonsai.recipes.inference.generation.decoder import decoder_called

    check_questions(questions)
    if depth < 1:
        raise AskingError(f"--depth {depth}: a chain has at least one step; give 1 or more. 1以上にしてください。")
    settings = decoder_called(decoder, AskingError, max_new_tokens=max_new_tokens)
    with opened(model, base_url, provider, out) as engine:
        deepen_all(
            engine, questions, depth=depth, settings=Deepening(decoder=settings), folder=out / FOLDER, console=console
        )


def _openings(question: str | None, file: Path | None, language: str | None, persona: str) -> list[Question]:
    spoken = Language(language) if language else None
    if question is not None and file is not None:
        raise AskingError(
            "give one question, or a file of them with --questions, not both. どちらか一つにしてください。"
        )
    if question is not None:
        return [Question(instruction=question, language=spoken, system=persona)]
    if file is not None:
        return questions_in(text_of(file.read_bytes(), str(file)), str(file), language=spoken, system=persona)
    return prepared(spoken or Language.JA, persona)


def prepared(language: Language, persona: str = "") -> list[Question]:
    """The nine questions of the post of 2024-05-07, as the probes have them."""
    return [
        Question(instruction=probe.question, language=language, system=persona)
        for probe in read_probes(default_probes())
        if probe.kind == "qtq_opening" and probe.language is language
    ]


def deepen_all(
    engine: Engine, questions: Sequence[Question], *, depth: int, settings: Deepening, folder: Path, console: Console
) -> list[Chain]:
    """Lead the chains, show them as they grow, and write the まとめ, of what there is after Ctrl-C too."""
    from bonsai.recipes.inference.chains.deepening import deepen
    from bonsai.recipes.inference.chains.keeping import Keeping, begun

    keeping = Keeping(folder / "chains")
    fresh = [begun(question, model=engine.name, depth=depth, settings=settings) for question in questions]
    personas = {chain.id: question.system for chain, question in zip(fresh, questions, strict=True)}
    chains = [keeping.taken_up(chain) for chain in {chain.id: chain for chain in fresh}.values()]
    kept = sum(len(chain.steps) for chain in chains)
    if kept:
        console.print(f"{kept} steps are kept from an earlier run. 前回までの{kept}段から続けます。")
    with _Growing(console, chains) as growing:

        def grown(chain: Chain) -> None:
            keeping.write(chain)
            growing.tell(chain)

        try:
            deepen(engine, chains, settings, personas=personas, on_step=grown)
        except (KeyboardInterrupt, BonsaiError):
            growing.stopped = True
            raise
        finally:
            growing.close()
            _conclude(growing, folder, console)
    return list(growing.chains)


class _Growing(contextlib.AbstractContextManager["_Growing"]):
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

    def __enter__(self) -> _Growing:
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
            self._console.print(
                f"{number}/{len(self._now)} step {last.number}/{chain.depth}: {last.question}", markup=False
            )
        if chain.ended_because:
            self._console.print(f"{number}/{len(self._now)} ended: {chain.ended_because}", markup=False)

    def _tree(self) -> Group:
        return Group(*(tree(chain, answers=len(self._now) == 1) for chain in self._now.values()))


def tree(chain: Chain, *, answers: bool) -> Tree:
    """Each question below the one it came from; what was asked from where, and why it ended."""
    root = Tree(f"[bold]{escape(chain.theme)}[/]", guide_style="green")
    branch = root
    for step in chain.steps:
        if step.number > 1:
            asked_from = words(chain.language).perspective(step.perspective).name
            branch = branch.add(f"[cyan]{step.number} {asked_from}[/] {escape(step.question)}")
        if answers:
            branch.add(f"[dim]{escape(_shortened(step))}[/]")
    if chain.ended_because:
        branch.add(f"[yellow]{escape(chain.ended_because)}[/]")
    elif not chain.complete:
        branch.add(f"[dim]… {len(chain.steps)}/{chain.depth}[/]")
    return root


def _shortened(step: Step) -> str:
    text = " ".join(step.answer.answer.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _conclude(growing: _Growing, folder: Path, console: Console) -> None:
    """The whole tree, and the まとめ of every chain that has begun."""
    from bonsai.recipes.inference.summary.write import write

    begun = [chain for chain in growing.chains if chain.steps]
    for chain in begun:
        console.print(tree(chain, answers=len(growing.chains) == 1))
    if growing.stopped:
        steps = sum(len(chain.steps) for chain in begun)
        console.print(
            f"stopped; {steps} steps are kept, the same command goes on. "
            f"中断しました。{steps}段が残っています。同じコマンドで続きから始まります。"
        )
    if begun:
        written = write(begun, folder)
        console.print(f"まとめ -> [bold]{written.page}[/]", soft_wrap=True)
        for path in (*written.markdown, written.json):
            console.print(f"         {path}", soft_wrap=True, markup=False)
