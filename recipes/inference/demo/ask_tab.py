"""Ask: one question, its Reasoning and its answer as they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import gradio as gr

from bonsai.recipes.inference.asking.ask import ask
from bonsai.recipes.inference.asking.course import Passes
from bonsai.recipes.inference.asking.said import Part
from bonsai.recipes.inference.demo import parts
from bonsai.recipes.inference.demo.limits import LONGEST_MATERIAL, told
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
from bonsai.recipes.inference.demo.words import JA, words
from bonsai.recipes.inference.generation.engine import Engine


def ask_tab(house: House) -> list[Labelled]:
    """Fill the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            question = question_field("ask-question", lines=3)
            with gr.Accordion(JA.more, open=False, elem_id="ask-more") as more:
                model = model_field(house, "ask-model")
                material = gr.Textbox(
                    label=JA.material, placeholder=JA.material_hint, lines=3, max_length=LONGEST_MATERIAL
                )
                language = gr.Radio(choices(JA.languages), value="same", label=JA.language)
                persona = persona_field()
                passes = gr.Radio(choices(JA.passes_choices), value="auto", label=JA.passes)
            with gr.Row():
                run = gr.Button(JA.run_ask, variant="primary", elem_id="ask-run")
                stop = gr.Button(JA.stop, elem_id="ask-stop")
            examples = gr.Dataset(
                components=[question], samples=[[text] for text in JA.examples], type="values", show_label=False
            )
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(elem_id="ask-shown")

    def answer(
        text: str | None,
        material: str | None,
        language: str,
        persona: str | None,
        passes: Passes,
        model: str,
        tongue: str,
        request: gr.Request,
    ) -> Iterator[str]:
        said = words(tongue)
        try:
            asked = question_of(text, material, language, persona, said)
            engine = house.engine(model)
            yield parts.growing("", "", "", said)

            def work(engine: Engine, show: Callable[[str], None]) -> None:
                written: dict[Part, str] = {"reasoning": "", "answer": ""}

                def on_text(_place: int, part: Part, so_far: str) -> None:
                    written[part] = so_far
                    show(parts.growing(written["reasoning"], written["answer"], language, said))

                (done,) = ask(engine, [asked], decoder=DECODER, passes=passes, on_text=on_text)
                show(parts.complete(done, said))

            running = Snapshots(model, engine, work, house.visitors.begins(request.session_hash or ""))
            last = ""
            for last in running:
                yield last
            if running.was_stopped:
                yield last + parts.notice(said.stopped)
        except Exception as error:  # noqa: BLE001 - the log has it, the visitor a sentence
            yield parts.notice(told(error, said), error=True)

    asks = [question, material, language, persona, passes, model, house.tongue]
    gr.on([run.click, question.submit], answer, asks, shown, **MODEL_EVENT)
    stop.click(house.stop, queue=False, api_visibility="private")
    examples.click(lambda sample: sample[0], examples, question, queue=False, api_visibility="private")
    return [
        Labelled(question, lambda said: gr.update(label=said.question, placeholder=said.question_hint)),
        Labelled(more, lambda said: gr.update(label=said.more)),
        Labelled(model, lambda said: gr.update(label=said.model)),
        Labelled(material, lambda said: gr.update(label=said.material, placeholder=said.material_hint)),
        Labelled(language, lambda said: gr.update(label=said.language, choices=choices(said.languages))),
        Labelled(persona, lambda said: gr.update(label=said.persona, placeholder=said.persona_hint)),
        Labelled(passes, lambda said: gr.update(label=said.passes, choices=choices(said.passes_choices))),
        Labelled(run, lambda said: gr.update(value=said.run_ask)),
        Labelled(stop, lambda said: gr.update(value=said.stop)),
        Labelled(examples, lambda said: gr.update(samples=[[text] for text in said.examples])),
    ]
