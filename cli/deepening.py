"""`bonsai qtq`: questions led deeper before one's eyes, and their まとめ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from bonsai.builder.folder import exclusive
from bonsai.builder.schema import BonsaiError, Language
from bonsai.cli.asking import opened
from bonsai.cli.growing import Growing, tree
from bonsai.recipes.inference.asking.errors import AskingError
from bonsai.recipes.inference.asking.limits import check_questions, text_of
from bonsai.recipes.inference.asking.question_file import prepared, questions_in
from bonsai.recipes.inference.conversation import Chain, Question
from bonsai.recipes.inference.summary.words import words

if TYPE_CHECKING:
    from bonsai.recipes.inference.chains.deepening import Deepening
    from bonsai.recipes.inference.generation.engine import Engine

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
        model: what `bonsai.recipes.inference.models.opening.open_model` opens.
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
    from bonsai.recipes.inference.chains.deepening import Deepening
    from bonsai.recipes.inference.generation.decoder import decoder_called

    check_questions(questions)
    if depth < 1:
        raise AskingError(f"--depth {depth}: a chain has at least one step; give 1 or more. 1以上にしてください。")
    settings = decoder_called(decoder, AskingError, max_new_tokens=max_new_tokens)
    with exclusive(out / FOLDER), opened(model, base_url, provider, out, dtype) as engine:
        deepen_all(
            engine,
            questions,
            depth=depth,
            settings=Deepening(decoder=settings),
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
        return questions_in(text_of(file.read_bytes(), str(file)), str(file), language=spoken, system=persona)
    return prepared(spoken or Language.JA, persona)


def deepen_all(
    engine: Engine,
    questions: Sequence[Question],
    *,
    depth: int,
    settings: Deepening,
    folder: Path,
    console: Console,
    in_own_words: bool = False,
    dtype: str | None = None,
) -> list[Chain]:
    """Lead the chains, show them as they grow, and write the まとめ after each step; after Ctrl-C it is there too.

    Args:
        dtype: where one was asked for: chains computed in another are not gone on with.
    """
    from bonsai.recipes.inference.chains.deepening import deepen
    from bonsai.recipes.inference.chains.keeping import Keeping, begun
    from bonsai.recipes.inference.summary.write import PAGE, write

    keeping = Keeping(folder / "chains")
    model = engine.name if dtype is None else f"{engine.name} in {dtype}"
    fresh = [begun(question, model=model, depth=depth, settings=settings) for question in questions]
    personas = {chain.id: question.system for chain, question in zip(fresh, questions, strict=True)}
    chains = [keeping.taken_up(chain) for chain in {chain.id: chain for chain in fresh}.values()]
    kept = sum(len(chain.steps) for chain in chains)
    if kept:
        console.print(f"{kept} steps are kept from an earlier run. 前回までの{kept}段から続けます。")
    told = Text.assemble("it grows with each step: まとめは一段ごとに育ちます: ", (str(folder / PAGE), "bold"))
    console.print(told, soft_wrap=True)
    with Growing(console, chains) as growing:

        def grown(chain: Chain) -> None:
            keeping.write(chain)
            growing.tell(chain)
            write(growing.begun, folder)

        try:
            deepen(engine, chains, settings, personas=personas, on_step=grown)
        except (KeyboardInterrupt, BonsaiError):
            growing.stopped = True
            raise
        finally:
            growing.close()
            _conclude(growing, folder, console)
    if in_own_words:
        _in_own_words(engine, growing.begun, folder, console)
    return list(growing.chains)


def _in_own_words(engine: Engine, chains: Sequence[Chain], folder: Path, console: Console) -> None:
    """The model's own summary above the quotations, where its words can be trusted that far."""
    from bonsai.recipes.inference.summary.telling import tell
    from bonsai.recipes.inference.summary.write import write

    told = {}
    for chain in chains:
        told[chain.id] = summary = tell(chain, engine)
        write(chains, folder, told)
        said = summary.told or words(chain.language).untold.format(summary.untold_because)
        console.print(f"\n{chain.theme}\n{said}", soft_wrap=True)


def _conclude(growing: Growing, folder: Path, console: Console) -> None:
    """The whole tree, and the まとめ of every chain that has begun."""
    from bonsai.recipes.inference.summary.write import write

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
        written = write(begun, folder)
        console.print(Text.assemble("まとめ -> ", (str(written.page), "bold")), soft_wrap=True)
        for path in (*written.markdown, written.json):
            console.print(f"         {path}", soft_wrap=True)
