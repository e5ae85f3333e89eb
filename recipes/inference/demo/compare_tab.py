"""Compare: a few questions put to several models, side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import gradio as gr

from bonsai.recipes.inference.asking.ask import ask
from bonsai.recipes.inference.conversation import Answer, Question
from bonsai.recipes.inference.demo import parts
from bonsai.recipes.inference.demo.compared import Answers, Compared, Took
from bonsai.recipes.inference.demo.errors import VisitorError
from bonsai.recipes.inference.demo.limits import (
    LONGEST_PERSONA,
    LONGEST_QUESTION,
    MOST_QUESTIONS,
    MOST_SAMPLES,
    questions,
    told,
    within,
)
from bonsai.recipes.inference.demo.running import Snapshots
from bonsai.recipes.inference.demo.tabs import ANSWER_TOKENS, MODEL_EVENT, House, Labelled, choices, persona_field
from bonsai.recipes.inference.demo.words import JA, words
from bonsai.recipes.inference.generation.decoder import DECODERS
from bonsai.recipes.inference.generation.engine import Engine


def compare_tab(house: House) -> list[Labelled]:
    """Fill the tab."""
    names = list(house.engines)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            asked = gr.Textbox(
                label=JA.questions.format(MOST_QUESTIONS),
                placeholder=JA.questions_hint,
                lines=4,
                max_length=MOST_QUESTIONS * LONGEST_QUESTION,
                elem_id="compare-questions",
            )
        with gr.Column(scale=2, min_width=300):
            models = gr.CheckboxGroup(names, value=names[:2], label=JA.models, elem_id="compare-models")
            samples = gr.Slider(
                1, MOST_SAMPLES, value=1, step=1, label=JA.samples, info=JA.samples_hint, elem_id="compare-samples"
            )
            with gr.Accordion(JA.more, open=False) as more:
                settings = gr.Radio(choices(JA.settings_choices), value="greedy", label=JA.settings)
                persona = persona_field()
    with gr.Row():
        run = gr.Button(JA.run_compare, variant="primary", elem_id="compare-run")
        stop = gr.Button(JA.stop, elem_id="compare-stop")
    shown = gr.HTML(elem_id="compare-shown")

    def compare(
        text: str | None,
        chosen: list[str],
        samples: int,
        settings: str,
        persona: str | None,
        tongue: str,
        request: gr.Request,
    ) -> Iterator[str]:
        said = words(tongue)
        wanted: list[str] = []
        answers: dict[tuple[int, str], list[Answer]] = {}
        took: dict[str, list[Took]] = {}
        try:
            wanted = questions(text, said)
            system = within(said.persona, persona, LONGEST_PERSONA, said)
            engines = {name: house.engine(name) for name in chosen}
            if not engines:
                raise VisitorError(said.choose_one)
            decoder = replace(DECODERS[settings], max_new_tokens=ANSWER_TOKENS)
            times = min(max(int(samples), 1), MOST_SAMPLES)
            stopping = house.visitors.begins(request.session_hash or "")
            asks = [Question(instruction=one, system=system) for one in wanted]
            yield parts.comparison(wanted, chosen, answers, said)

            for name, engine in engines.items():

                def work(engine: Engine, show: Callable[[Answers], None], name: str = name) -> None:
                    for sample in range(times):

                        def stands(place: int, answer: Answer) -> None:
                            answers.setdefault((place, name), []).append(answer)
                            show({key: list(kept) for key, kept in answers.items()})

                        started = time.perf_counter()
                        given = ask(
                            engine, asks, decoder=replace(decoder, seed=decoder.seed + sample), on_answer=stands
                        )
                        tokens = sum(answer.tokens for answer in given)
                        took.setdefault(name, []).append(Took(tokens, time.perf_counter() - started))

                running = Snapshots(name, engine, work, stopping)
                for so_far in running:
                    yield parts.comparison(wanted, chosen, so_far, said)
                if running.was_stopped:
                    yield parts.notice(said.stopped) + parts.comparison(wanted, chosen, answers, said, over=True)
                    return
            compared = Compared(
                questions=asks, names=chosen, answers=answers, took=took, decoder_name=settings, decoder=decoder
            )
            yield parts.comparison(wanted, chosen, answers, said, over=True) + house.figures(compared, said.html)
        except Exception as error:  # noqa: BLE001 - the log has it, the visitor a sentence
            failure = parts.notice(told(error, said), error=True)
            yield failure + (parts.comparison(wanted, chosen, answers, said, over=True) if answers else "")

    fields = [asked, models, samples, settings, persona, house.tongue]
    run.click(compare, fields, shown, **MODEL_EVENT)
    stop.click(house.stop, queue=False, api_visibility="private")
    return [
        Labelled(
            asked,
            lambda said: gr.update(label=said.questions.format(MOST_QUESTIONS), placeholder=said.questions_hint),
        ),
        Labelled(models, lambda said: gr.update(label=said.models)),
        Labelled(samples, lambda said: gr.update(label=said.samples, info=said.samples_hint)),
        Labelled(more, lambda said: gr.update(label=said.more)),
        Labelled(settings, lambda said: gr.update(label=said.settings, choices=choices(said.settings_choices))),
        Labelled(persona, lambda said: gr.update(label=said.persona, placeholder=said.persona_hint)),
        Labelled(run, lambda said: gr.update(value=said.run_compare)),
        Labelled(stop, lambda said: gr.update(value=said.stop)),
    ]
