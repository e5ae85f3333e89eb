"""Implement `bonsai qtq`: show question chains live, then summarize them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from bonsai.builder.errors import AskingError, BonsaiError
from bonsai.builder.files import exclusive
from bonsai.builder.schema import Language
from bonsai.cli.common import open_engine
from bonsai.recipes.inference.ask import check_questions, decode_utf8
from bonsai.recipes.inference.conversation import Question, QuestionChain, Step, load_questions, prepared
from bonsai.recipes.inference.labels import load_labels
from bonsai.recipes.inference.summary import step_report

if TYPE_CHECKING:
    from bonsai.recipes.inference.generation import Engine
    from bonsai.recipes.inference.qtq import QtQSettings

LONGEST = 400
"""characters of an answer in the tree; the まとめ has all of it"""


class LiveChains(contextlib.AbstractContextManager["LiveChains"]):
    """A tree that grows on a terminal, a line for each step in a log."""

    def __init__(self, console: Console, chains: Sequence[QuestionChain]) -> None:
        self._console = console
        self._now = {chain.id: chain for chain in chains}
        self._live = Live(self._tree(), console=console, refresh_per_second=4, transient=True)
        self.stopped = False

    @property
    def chains(self) -> Sequence[QuestionChain]:
        """As they stand now."""
        return tuple(self._now.values())

    @property
    def begun(self) -> Sequence[QuestionChain]:
        """Those that have an answer."""
        return [chain for chain in self._now.values() if chain.steps]

    def __enter__(self) -> LiveChains:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the screen to what comes below."""
        self._live.stop()

    def tell(self, chain: QuestionChain) -> None:
        """Show how a chain stands now."""
        self._now[chain.id] = chain
        if self._console.is_terminal:
            self._live.update(self._tree())
            return
        number = list(self._now).index(chain.id) + 1
        last = chain.steps[-1]
        if not last.candidates:
            self._console.print(f"{number}/{len(self._now)} step {last.number}/{chain.depth}: {last.question}")
            self._console.print(step_report(chain), soft_wrap=True)
        if chain.ended_because:
            self._console.print(f"{number}/{len(self._now)} ended: {chain.ended_because}")

    def _tree(self) -> Group:
        return Group(*(tree(chain, answers=len(self._now) == 1) for chain in self._now.values()))


def tree(chain: QuestionChain, *, answers: bool) -> Tree:
    """Each question below the one it came from; what was asked from where, and why it ended."""
    root = Tree(Text(chain.theme, style="bold"), guide_style="green")
    branch = root
    for step in chain.steps:
        if step.number > 1:
            asked_from = load_labels(chain.language).perspective(step.perspective).name
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


FOLDER = "qtq"
"""below the output folder: the まとめ, and in ``chains`` what is kept of each chain"""


def qtq(
    question: str | None,
    *,
    model: str,
    base_url: str | None = None,
    provider: str | None = None,
    dtype: str | None = None,
    questions_file: Path | None = None,
    depth: int = 5,
    language: str | None = None,
    persona: str = "",
    decoder: str = "greedy",
    max_new_tokens: int | None = None,
    in_own_words: bool = False,
    out: Path,
    console: Console,
) -> None:
    """Lead one question, those of a file, or the nine prepared ones deeper; what was interrupted goes on.

    Args:
        model: what `bonsai.recipes.inference.models.open_model` opens.
        dtype: what a model on this machine computes in; None: as `open_model` chooses.
        questions_file: one question a line, or JSON Lines.
        depth: steps of each chain.
        language: of the chains; None: that of each question, and Japanese for the prepared ones.
        max_new_tokens: of one pass; None: the decoder's own.
        in_own_words: let the model sum each chain up at the end; the quotations stay below.
        out: chains and their まとめ go to ``out/qtq``; adapters are looked for in ``out/adapters``.

    Raises:
        AskingError, GenerationError, KeepingError: with the reason.
        FolderInUseError: another run keeps its chains here.
    """
    questions = _openings(question, questions_file, language, persona)
    from bonsai.recipes.inference.generation import get_preset
    from bonsai.recipes.inference.qtq import QtQSettings

    check_questions(questions)
    if depth < 1:
        raise AskingError(f"--depth {depth}: a chain has at least one step; give 1 or more. 1以上にしてください。")
    settings = get_preset(decoder, AskingError, max_new_tokens=max_new_tokens)
    with exclusive(out / FOLDER), open_engine(model, base_url, provider, out, dtype) as engine:
        run_and_show(
            engine,
            questions,
            depth=depth,
            settings=QtQSettings(decoder=settings),
            folder=out / FOLDER,
            console=console,
            in_own_words=in_own_words,
            dtype=dtype,
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
        return load_questions(decode_utf8(file.read_bytes(), str(file)), str(file), language=spoken, system=persona)
    return prepared(spoken or Language.JA, persona)


def run_and_show(
    engine: Engine,
    questions: Sequence[Question],
    *,
    depth: int,
    settings: QtQSettings,
    folder: Path,
    console: Console,
    in_own_words: bool = False,
    dtype: str | None = None,
) -> list[QuestionChain]:
    """Lead the chains, show them as they grow, and write the まとめ after each step; after Ctrl-C it is there too.

    Args:
        dtype: where one was asked for: chains computed in another are not gone on with.
    """
    from bonsai.recipes.inference.qtq import ChainStore, new_stored_chain, run_chains
    from bonsai.recipes.inference.summary import PAGE, write_summaries

    keeping = ChainStore(folder / "chains")
    model = engine.name if dtype is None else f"{engine.name} in {dtype}"
    fresh = [new_stored_chain(question, model=model, depth=depth, settings=settings) for question in questions]
    personas = {chain.id: question.system for chain, question in zip(fresh, questions, strict=True)}
    chains = [keeping.load_or_new(chain) for chain in {chain.id: chain for chain in fresh}.values()]
    kept = sum(len(chain.steps) for chain in chains)
    if kept:
        console.print(f"{kept} steps are kept from an earlier run. 前回までの{kept}段から続けます。")
    told = Text.assemble("it grows with each step: まとめは一段ごとに育ちます: ", (str(folder / PAGE), "bold"))
    console.print(told, soft_wrap=True)
    with LiveChains(console, chains) as growing:

        def grown(chain: QuestionChain) -> None:
            keeping.write(chain)
            growing.tell(chain)
            write_summaries(growing.begun, folder)

        try:
            run_chains(engine, chains, settings, personas=personas, on_step=grown)
        except (KeyboardInterrupt, BonsaiError):
            growing.stopped = True
            raise
        finally:
            growing.close()
            _print_result(growing, folder, console)
    if in_own_words:
        _in_own_words(engine, growing.begun, folder, console)
    return list(growing.chains)


def _in_own_words(engine: Engine, chains: Sequence[QuestionChain], folder: Path, console: Console) -> None:
    """The model's own summary above the quotations, where its words can be trusted that far."""
    from bonsai.recipes.inference.summary import summarize_with_model, write_summaries

    told = {}
    for chain in chains:
        told[chain.id] = summary = summarize_with_model(chain, engine)
        write_summaries(chains, folder, told)
        said = summary.told or load_labels(chain.language).untold.format(summary.untold_because)
        console.print(f"\n{chain.theme}\n{said}", soft_wrap=True)


def _print_result(growing: LiveChains, folder: Path, console: Console) -> None:
    """The whole tree, and the まとめ of every chain that has begun."""
    from bonsai.recipes.inference.summary import write_summaries

    begun = growing.begun
    for chain in begun:
        console.print(tree(chain, answers=len(growing.chains) == 1))
    if growing.stopped:
        steps = sum(len(chain.steps) for chain in begun)
        console.print(
            f"stopped; {steps} steps are kept, the same command goes on. "
            f"中断しました。{steps}段が残っています。同じコマンドで続きから始まります。"
        )
    if begun:
        written = write_summaries(begun, folder)
        console.print(Text.assemble("まとめ -> ", (str(written.page), "bold")), soft_wrap=True)
        for path in (*written.markdown, written.json):
            console.print(f"         {path}", soft_wrap=True)
