"""Implement `bonsai qtq`: ask follow-up questions, show the chains live, and summarize each (まとめ)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text
from rich.tree import Tree

from bonsai.builder.errors import AskingError, BonsaiError
from bonsai.builder.files import exclusive
from bonsai.builder.schema import Language
from bonsai.cli.ask import AnswerLanguage, BaseUrl, DType, Model, Persona, Provider, open_engine
from bonsai.cli.common import OUT, DecoderName, MaxNewTokens, Out, console
from bonsai.recipes.inference.conversation import Question, QuestionChain, load_questions, prepared
from bonsai.recipes.inference.labels import load_labels

if TYPE_CHECKING:
    from bonsai.recipes.inference.generation import Engine
    from bonsai.recipes.inference.qtq import QtQSettings

FOLDER = "qtq"
"""below the output folder: the summaries, and in ``chains`` the stored state of each chain"""
LONGEST = 400
"""characters of an answer in the tree; the summary has all of it"""


def qtq(
    question: Annotated[str | None, typer.Argument(help="None: nine prepared ones. 省略すると用意した9問。")] = None,
    model: Model = None,
    base_url: BaseUrl = None,
    provider: Provider = None,
    dtype: DType = None,
    questions: Annotated[
        Path | None, typer.Option("--questions", help="A file: one a line, or JSON Lines. 質問のファイル。")
    ] = None,
    depth: Annotated[int, typer.Option(min=1, help="Steps of each chain. 深さ。")] = 5,
    language: AnswerLanguage = None,
    persona: Persona = "",
    decoder: DecoderName = "greedy",
    max_new_tokens: MaxNewTokens = None,
    in_own_words: Annotated[
        bool, typer.Option("--in-own-words", help="The model sums up too, above the quotations. モデル自身の要約も。")
    ] = False,
    out: Out = OUT,
) -> None:
    """Question to Question: each answer breeds a deeper question, with a まとめ. 質問を深めていく。"""
    from bonsai.recipes.inference.ask import check_questions, decode_utf8
    from bonsai.recipes.inference.generation import get_preset
    from bonsai.recipes.inference.qtq import QtQSettings

    # 1. The opening questions: one from the command line, those of a file, or the nine prepared ones.
    if question is not None and questions is not None:
        raise AskingError(
            "give one question, or a file of them with --questions, not both. どちらか一つにしてください。"
        )
    if question is not None:
        openings = [Question(instruction=question, language=language, system=persona)]
    elif questions is not None:
        text = decode_utf8(questions.read_bytes(), str(questions))
        openings = load_questions(text, str(questions), language=language, system=persona)
    else:
        openings = prepared(language or Language.JA, persona)
    # 2. Refuse what can't be asked before a model is loaded.
    check_questions(openings)
    if depth < 1:
        raise AskingError(f"--depth {depth}: a chain has at least one step; give 1 or more. 1以上にしてください。")
    settings = QtQSettings(decoder=get_preset(decoder, max_new_tokens=max_new_tokens))
    # 3. Run the chains; one run at a time may write this folder.
    folder = out / FOLDER
    with exclusive(folder), open_engine(model, base_url, provider, out, dtype) as engine:
        run_and_show(
            engine, openings, depth=depth, settings=settings, folder=folder, console=console,
            in_own_words=in_own_words, dtype=dtype,
        )  # fmt: skip


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
    """Run the chains, show them as they grow, and write the summary after each step; Ctrl-C leaves it complete too.

    Args:
        depth: steps of each chain.
        folder: a chain that an earlier run stored here is continued.
        in_own_words: let the model summarize each chain at the end; its quotations stay below.
        dtype: set only where the person chose one: chains computed in another are then not continued.
    """
    from bonsai.recipes.inference.qtq import ChainStore, new_stored_chain, run_chains
    from bonsai.recipes.inference.summary import PAGE, summarize_with_model, write_summaries

    # 1. Continue what an earlier run stored; the same question twice is one chain.
    store = ChainStore(folder / "chains")
    model = engine.name if dtype is None else f"{engine.name} in {dtype}"
    fresh = [new_stored_chain(question, model=model, depth=depth, settings=settings) for question in questions]
    personas = {chain.id: question.system for chain, question in zip(fresh, questions, strict=True)}
    chains = [store.load_or_new(chain) for chain in {chain.id: chain for chain in fresh}.values()]
    stored = sum(len(chain.steps) for chain in chains)
    if stored:
        console.print(f"{stored} steps are kept from an earlier run. 前回までの{stored}段から続けます。")
    page = (str(folder / PAGE), "bold")
    console.print(
        Text.assemble("the summary is updated after each step: まとめは一段ごとに育ちます: ", page), soft_wrap=True
    )
    # 2. Run: after each step store the chain, show it, and write the summaries anew.
    stopped = False
    with LiveChains(console, chains) as live:

        def on_step(chain: QuestionChain) -> None:
            store.write(chain)
            live.update(chain)
            write_summaries(live.begun, folder)

        try:
            run_chains(engine, chains, settings, personas=personas, on_step=on_step)
        except (KeyboardInterrupt, BonsaiError):
            stopped = True
            raise
        finally:
            # 3. Whole trees and the files, after Ctrl-C too.
            live.close()
            for chain in live.begun:
                console.print(build_tree(chain, answers=len(live.chains) == 1))
            if stopped:
                steps = sum(len(chain.steps) for chain in live.begun)
                console.print(
                    f"stopped; {steps} steps are kept, the same command goes on. "
                    f"中断しました。{steps}段が残っています。同じコマンドで続きから始まります。"
                )
            if live.begun:
                written = write_summaries(live.begun, folder)
                console.print(Text.assemble("まとめ -> ", (str(written.page), "bold")), soft_wrap=True)
                for path in (*written.markdown, written.json):
                    console.print(Text(f"         {path}"), soft_wrap=True)
    # 4. The model's own summaries above the quotations, where its words can be trusted that far.
    if in_own_words:
        summaries = {}
        for chain in live.begun:
            summaries[chain.id] = summary = summarize_with_model(chain, engine)
            write_summaries(live.begun, folder, summaries)
            text = summary.told or load_labels(chain.language).untold.format(summary.untold_because)
            console.print(Text(f"\n{chain.theme}\n{text}"), soft_wrap=True)
    return list(live.chains)


class LiveChains(contextlib.AbstractContextManager["LiveChains"]):
    """Show running question chains: a tree on a terminal, a line and an interim report per step in a log."""

    def __init__(self, console: Console, chains: Sequence[QuestionChain]) -> None:
        self._console = console
        self._current = {chain.id: chain for chain in chains}
        self._live = Live(self._render(), console=console, refresh_per_second=4, transient=True)

    @property
    def chains(self) -> Sequence[QuestionChain]:
        """All chains in their current state."""
        return tuple(self._current.values())

    @property
    def begun(self) -> Sequence[QuestionChain]:
        """The chains that have an answer."""
        return [chain for chain in self._current.values() if chain.steps]

    def __enter__(self) -> LiveChains:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the tree from the screen, for what is printed next."""
        self._live.stop()

    def update(self, chain: QuestionChain) -> None:
        """Show the new state of a chain."""
        self._current[chain.id] = chain
        if self._console.is_terminal:
            self._live.update(self._render())
            return
        number = f"{list(self._current).index(chain.id) + 1}/{len(self._current)}"
        from bonsai.recipes.inference.summary import step_report

        last = chain.steps[-1]
        if not last.candidates:
            self._console.print(Text(f"{number} step {last.number}/{chain.depth}: {last.question}"))
            self._console.print(Text(step_report(chain)), soft_wrap=True)
        if chain.ended_because:
            self._console.print(Text(f"{number} ended: {chain.ended_because}"))

    def _render(self) -> Group:
        return Group(*(build_tree(chain, answers=len(self._current) == 1) for chain in self._current.values()))


def build_tree(chain: QuestionChain, *, answers: bool) -> Tree:
    """Put each question below the one it came from, with the perspective it was asked from and why the chain ended.

    Args:
        answers: show the beginning of each answer too.
    """
    root = Tree(Text(chain.theme, style="bold"), guide_style="green")
    branch = root
    for step in chain.steps:
        if step.number > 1:
            perspective = load_labels(chain.language).perspective(step.perspective).name
            branch = branch.add(Text.assemble((f"{step.number} {perspective}", "cyan"), f" {step.question}"))
        if answers:
            text = " ".join(step.answer.answer.split())
            branch.add(Text(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…", style="dim"))
    if chain.ended_because:
        branch.add(Text(chain.ended_because, style="yellow"))
    elif not chain.complete:
        branch.add(Text(f"… {len(chain.steps)}/{chain.depth}", style="dim"))
    return root
