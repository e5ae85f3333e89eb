"""QtQ: a question is led deeper, step by step, and its まとめ grows beside it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from bonsai.builder.schema import Language
from bonsai.recipes.inference.asking.question_file import prepared
from bonsai.recipes.inference.chains.deepening import Deepening, deepen, opened
from bonsai.recipes.inference.conversation import Chain
from bonsai.recipes.inference.demo import parts
from bonsai.recipes.inference.demo.limits import DEEPEST, told
from bonsai.recipes.inference.demo.running import Snapshots
from bonsai.recipes.inference.demo.tabs import (
    DECODER,
    MODEL_EVENT,
    House,
    Labelled,
    choices,
    model_field,
    persona_field,
    question_field,
    question_of,
)
from bonsai.recipes.inference.demo.words import JA, Words, words
from bonsai.recipes.inference.generation.engine import Engine
from bonsai.recipes.inference.summary.page import page
from bonsai.recipes.inference.summary.write import write


class _Shown(NamedTuple):
    """What the tab shows, in the order of its outputs."""

    steps: str
    to_come: Any
    """where the summary will be, as long as there is none"""
    summary: str
    page: Any
    markdown: Any


def qtq_tab(house: House) -> list[Labelled]:
    """Fill the tab."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            question = question_field("qtq-question", lines=2)
            depth = gr.Slider(2, DEEPEST, value=4, step=1, label=JA.depth, elem_id="qtq-depth")
            with gr.Accordion(JA.more, open=False) as more:
                model = model_field(house, "qtq-model")
                language = gr.Radio(choices(JA.languages), value="same", label=JA.language)
                persona = persona_field()
            with gr.Row():
                run = gr.Button(JA.run_qtq, variant="primary", elem_id="qtq-run")
                stop = gr.Button(JA.stop, elem_id="qtq-stop")
            examples = gr.Dataset(
                components=[question], samples=_openings(JA), type="values", show_label=False, elem_id="qtq-prepared"
            )
            steps = gr.HTML(elem_id="qtq-steps")
        with gr.Column(scale=2, min_width=300):
            to_come = gr.HTML(parts.notice(JA.summary_to_come), elem_id="qtq-to-come")
            heading = gr.HTML(elem_id="qtq-summary")
            with gr.Row():
                page_file = gr.DownloadButton(f"{JA.download} (HTML)", visible=False, elem_id="qtq-page")
                text_file = gr.DownloadButton(f"{JA.download} (Markdown)", visible=False)

    def go_deeper(
        text: str | None, depth: int, language: str, persona: str | None, model: str, tongue: str, request: gr.Request
    ) -> Iterator[_Shown]:
        said = words(tongue)
        hidden = gr.update(visible=False)
        chain: Chain | None = None
        try:
            asked = question_of(text, "", language, persona, said)
            engine = house.engine(model)
            start = opened(asked, id="demo", depth=min(max(int(depth), 1), DEEPEST))
            yield _Shown(parts.notice(said.waiting), gr.update(visible=True), "", hidden, hidden)

            def work(engine: Engine, show: Callable[[Chain], None]) -> None:
                deepen(engine, [start], Deepening(decoder=DECODER), personas={start.id: asked.system}, on_step=show)

            running = Snapshots(model, engine, work, house.visitors.begins(request.session_hash or ""))
            for chain in running:
                summed_up = parts.framed(page([chain]), said.summary) if chain.steps else ""
                empty = gr.update(visible=not chain.steps)
                yield _Shown(parts.steps(chain, said, _state(chain, said)), empty, summed_up, hidden, hidden)
            note = said.stopped if running.was_stopped else ""
        except Exception as error:  # noqa: BLE001 - the log has it, the visitor a sentence
            so_far = parts.steps(chain, said) if chain else ""
            yield _Shown(so_far + parts.notice(told(error, said), error=True), gr.skip(), gr.skip(), hidden, hidden)
            return
        if chain is not None:
            with tempfile.TemporaryDirectory() as folder:  # gradio copies the files when they are yielded
                written = write([chain], Path(folder))
                yield _Shown(
                    parts.steps(chain, said, note or chain.ended_because or ""),
                    gr.skip(),
                    gr.skip(),
                    gr.update(value=str(written.page), visible=True),
                    gr.update(value=str(written.markdown[0]), visible=True),
                )

    asks = [question, depth, language, persona, model, house.tongue]
    gr.on([run.click, question.submit], go_deeper, asks, [steps, to_come, heading, page_file, text_file], **MODEL_EVENT)
    stop.click(house.stop, queue=False, api_visibility="private")
    examples.click(lambda sample: sample[0], examples, question, queue=False, api_visibility="private")
    return [
        Labelled(question, lambda said: gr.update(label=said.question, placeholder=said.question_hint)),
        Labelled(depth, lambda said: gr.update(label=said.depth)),
        Labelled(more, lambda said: gr.update(label=said.more)),
        Labelled(model, lambda said: gr.update(label=said.model)),
        Labelled(language, lambda said: gr.update(label=said.language, choices=choices(said.languages))),
        Labelled(persona, lambda said: gr.update(label=said.persona, placeholder=said.persona_hint)),
        Labelled(run, lambda said: gr.update(value=said.run_qtq)),
        Labelled(stop, lambda said: gr.update(value=said.stop)),
        Labelled(examples, lambda said: gr.update(samples=_openings(said))),
        Labelled(to_come, lambda said: gr.update(value=parts.notice(said.summary_to_come))),
        Labelled(page_file, lambda said: gr.update(label=f"{said.download} (HTML)")),
        Labelled(text_file, lambda said: gr.update(label=f"{said.download} (Markdown)")),
    ]


def _state(chain: Chain, said: Words) -> str:
    """What happens next, below the steps."""
    if chain.complete:
        return chain.ended_because or ""
    last = chain.steps[-1] if chain.steps else None
    return said.waiting if last is None or last.candidates else said.looking


def _openings(said: Words) -> list[list[str]]:
    """The nine prepared questions in the language of the page, to be pressed."""
    return [[question.instruction] for question in prepared(Language(said.html))]
