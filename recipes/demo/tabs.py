"""The demo's tabs: Ask, QtQ, Compare and Browse."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from bonsai.builder.errors import UserInputError
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Language, TextGroup, TranslationGroup
from bonsai.recipes.demo import render
from bonsai.recipes.demo.background import (
    DEEPEST,
    LONGEST_MATERIAL,
    LONGEST_PERSONA,
    LONGEST_QUESTION,
    LONGEST_SEARCH,
    MOST_QUESTIONS,
    MOST_SAMPLES,
    BackgroundStream,
    check_length,
    error_message,
    parse_questions,
)
from bonsai.recipes.demo.components import (
    ANSWER_TOKENS,
    DECODER,
    MODEL_EVENT,
    DemoContext,
    LocalizedComponent,
    choices,
    model_field,
    persona_field,
    question_field,
    question_of,
)
from bonsai.recipes.evaluation.comparison.report import Answers, DemoComparison, Timing
from bonsai.recipes.inference.ask import Passes, ask
from bonsai.recipes.inference.conversation import Answer, Question, QuestionChain, prepared
from bonsai.recipes.inference.generation import PRESETS, Engine
from bonsai.recipes.inference.labels import DEMO_JA, DemoLabels, demo_labels
from bonsai.recipes.inference.prompts import Part
from bonsai.recipes.inference.qtq import QtQSettings, new_chain, run_chains
from bonsai.recipes.inference.summary import page, write_summaries


def ask_tab(house: DemoContext) -> list[LocalizedComponent]:
    """Fill the tab."""
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            question = question_field("ask-question", lines=3)
            with gr.Accordion(DEMO_JA.more, open=False, elem_id="ask-more") as more:
                model = model_field(house, "ask-model")
                material = gr.Textbox(
                    label=DEMO_JA.material, placeholder=DEMO_JA.material_hint, lines=3, max_length=LONGEST_MATERIAL
                )
                language = gr.Radio(choices(DEMO_JA.languages), value="same", label=DEMO_JA.language)
                persona = persona_field()
                passes = gr.Radio(choices(DEMO_JA.passes_choices), value="auto", label=DEMO_JA.passes)
            with gr.Row():
                run = gr.Button(DEMO_JA.run_ask, variant="primary", elem_id="ask-run")
                stop = gr.Button(DEMO_JA.stop, elem_id="ask-stop")
            examples = gr.Dataset(
                components=[question], samples=[[text] for text in DEMO_JA.examples], type="values", show_label=False
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
        said = demo_labels(tongue)
        try:
            asked = question_of(text, material, language, persona, said)
            engine = house.engine(model)
            yield render.render_partial_answer("", "", "", said)

            def work(engine: Engine, show: Callable[[str], None]) -> None:
                written: dict[Part, str] = {"reasoning": "", "answer": ""}

                def on_text(_place: int, part: Part, so_far: str) -> None:
                    written[part] = so_far
                    show(render.render_partial_answer(written["reasoning"], written["answer"], language, said))

                (done,) = ask(engine, [asked], decoder=DECODER, passes=passes, on_text=on_text)
                show(render.render_answer(done, said))

            running = BackgroundStream(model, engine, work, house.visitors.begins(request.session_hash or ""))
            last = ""
            for last in running:
                yield last
            if running.was_stopped:
                yield last + render.render_notice(said.stopped)
        except Exception as error:  # noqa: BLE001 - the log has it, the visitor a sentence
            yield render.render_notice(error_message(error, said), error=True)

    asks = [question, material, language, persona, passes, model, house.tongue]
    gr.on([run.click, question.submit], answer, asks, shown, **MODEL_EVENT)
    stop.click(house.stop, queue=False, api_visibility="private")
    examples.click(lambda sample: sample[0], examples, question, queue=False, api_visibility="private")
    return [
        LocalizedComponent(question, lambda said: gr.update(label=said.question, placeholder=said.question_hint)),
        LocalizedComponent(more, lambda said: gr.update(label=said.more)),
        LocalizedComponent(model, lambda said: gr.update(label=said.model)),
        LocalizedComponent(material, lambda said: gr.update(label=said.material, placeholder=said.material_hint)),
        LocalizedComponent(language, lambda said: gr.update(label=said.language, choices=choices(said.languages))),
        LocalizedComponent(persona, lambda said: gr.update(label=said.persona, placeholder=said.persona_hint)),
        LocalizedComponent(passes, lambda said: gr.update(label=said.passes, choices=choices(said.passes_choices))),
        LocalizedComponent(run, lambda said: gr.update(value=said.run_ask)),
        LocalizedComponent(stop, lambda said: gr.update(value=said.stop)),
        LocalizedComponent(examples, lambda said: gr.update(samples=[[text] for text in said.examples])),
    ]


class _Shown(NamedTuple):
    """What the tab shows, in the order of its outputs."""

    steps: str
    to_come: Any
    """where the summary will be, as long as there is none"""
    summary: str
    page: Any
    markdown: Any


def qtq_tab(house: DemoContext) -> list[LocalizedComponent]:
    """Fill the tab."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            question = question_field("qtq-question", lines=2)
            depth = gr.Slider(2, DEEPEST, value=4, step=1, label=DEMO_JA.depth, elem_id="qtq-depth")
            with gr.Accordion(DEMO_JA.more, open=False) as more:
                model = model_field(house, "qtq-model")
                language = gr.Radio(choices(DEMO_JA.languages), value="same", label=DEMO_JA.language)
                persona = persona_field()
            with gr.Row():
                run = gr.Button(DEMO_JA.run_qtq, variant="primary", elem_id="qtq-run")
                stop = gr.Button(DEMO_JA.stop, elem_id="qtq-stop")
            examples = gr.Dataset(
                components=[question],
                samples=_openings(DEMO_JA),
                type="values",
                show_label=False,
                elem_id="qtq-prepared",
            )
            steps = gr.HTML(elem_id="qtq-steps")
        with gr.Column(scale=2, min_width=300):
            to_come = gr.HTML(render.render_notice(DEMO_JA.summary_to_come), elem_id="qtq-to-come")
            heading = gr.HTML(elem_id="qtq-summary")
            with gr.Row():
                page_file = gr.DownloadButton(f"{DEMO_JA.download} (HTML)", visible=False, elem_id="qtq-page")
                text_file = gr.DownloadButton(f"{DEMO_JA.download} (Markdown)", visible=False)

    def go_deeper(
        text: str | None, depth: int, language: str, persona: str | None, model: str, tongue: str, request: gr.Request
    ) -> Iterator[_Shown]:
        said = demo_labels(tongue)
        hidden = gr.update(visible=False)
        chain: QuestionChain | None = None
        try:
            asked = question_of(text, "", language, persona, said)
            engine = house.engine(model)
            start = new_chain(asked, id="demo", depth=min(max(int(depth), 1), DEEPEST))
            yield _Shown(render.render_notice(said.waiting), gr.update(visible=True), "", hidden, hidden)

            def work(engine: Engine, show: Callable[[QuestionChain], None]) -> None:
                run_chains(
                    engine, [start], QtQSettings(decoder=DECODER), personas={start.id: asked.system}, on_step=show
                )

            running = BackgroundStream(model, engine, work, house.visitors.begins(request.session_hash or ""))
            for chain in running:
                summed_up = render.render_iframe(page([chain]), said.summary) if chain.steps else ""
                empty = gr.update(visible=not chain.steps)
                yield _Shown(render.steps(chain, said, _state(chain, said)), empty, summed_up, hidden, hidden)
            note = said.stopped if running.was_stopped else ""
        except Exception as error:  # noqa: BLE001 - the log has it, the visitor a sentence
            so_far = render.steps(chain, said) if chain else ""
            yield _Shown(
                so_far + render.render_notice(error_message(error, said), error=True),
                gr.skip(),
                gr.skip(),
                hidden,
                hidden,
            )
            return
        if chain is not None:
            with tempfile.TemporaryDirectory() as folder:  # gradio copies the files when they are yielded
                written = write_summaries([chain], Path(folder))
                yield _Shown(
                    render.steps(chain, said, note or chain.ended_because or ""),
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
        LocalizedComponent(question, lambda said: gr.update(label=said.question, placeholder=said.question_hint)),
        LocalizedComponent(depth, lambda said: gr.update(label=said.depth)),
        LocalizedComponent(more, lambda said: gr.update(label=said.more)),
        LocalizedComponent(model, lambda said: gr.update(label=said.model)),
        LocalizedComponent(language, lambda said: gr.update(label=said.language, choices=choices(said.languages))),
        LocalizedComponent(persona, lambda said: gr.update(label=said.persona, placeholder=said.persona_hint)),
        LocalizedComponent(run, lambda said: gr.update(value=said.run_qtq)),
        LocalizedComponent(stop, lambda said: gr.update(value=said.stop)),
        LocalizedComponent(examples, lambda said: gr.update(samples=_openings(said))),
        LocalizedComponent(to_come, lambda said: gr.update(value=render.render_notice(said.summary_to_come))),
        LocalizedComponent(page_file, lambda said: gr.update(label=f"{said.download} (HTML)")),
        LocalizedComponent(text_file, lambda said: gr.update(label=f"{said.download} (Markdown)")),
    ]


def _state(chain: QuestionChain, said: DemoLabels) -> str:
    """What happens next, below the steps."""
    if chain.complete:
        return chain.ended_because or ""
    last = chain.steps[-1] if chain.steps else None
    return said.waiting if last is None or last.candidates else said.looking


def _openings(said: DemoLabels) -> list[list[str]]:
    """The nine prepared questions in the language of the page, to be pressed."""
    return [[question.instruction] for question in prepared(Language(said.html))]


def compare_tab(house: DemoContext) -> list[LocalizedComponent]:
    """Fill the tab."""
    names = list(house.engines)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            asked = gr.Textbox(
                label=DEMO_JA.questions.format(MOST_QUESTIONS),
                placeholder=DEMO_JA.questions_hint,
                lines=4,
                max_length=MOST_QUESTIONS * LONGEST_QUESTION,
                elem_id="compare-questions",
            )
        with gr.Column(scale=2, min_width=300):
            models = gr.CheckboxGroup(names, value=names[:2], label=DEMO_JA.models, elem_id="compare-models")
            samples = gr.Slider(
                1,
                MOST_SAMPLES,
                value=1,
                step=1,
                label=DEMO_JA.samples,
                info=DEMO_JA.samples_hint,
                elem_id="compare-samples",
            )
            with gr.Accordion(DEMO_JA.more, open=False) as more:
                settings = gr.Radio(choices(DEMO_JA.settings_choices), value="greedy", label=DEMO_JA.settings)
                persona = persona_field()
    with gr.Row():
        run = gr.Button(DEMO_JA.run_compare, variant="primary", elem_id="compare-run")
        stop = gr.Button(DEMO_JA.stop, elem_id="compare-stop")
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
        said = demo_labels(tongue)
        wanted: list[str] = []
        answers: dict[tuple[int, str], list[Answer]] = {}
        took: dict[str, list[Timing]] = {}
        try:
            wanted = parse_questions(text, said)
            system = check_length(said.persona, persona, LONGEST_PERSONA, said)
            engines = {name: house.engine(name) for name in chosen}
            if not engines:
                raise UserInputError(said.choose_one)
            decoder = replace(PRESETS[settings], max_new_tokens=ANSWER_TOKENS)
            times = min(max(int(samples), 1), MOST_SAMPLES)
            stopping = house.visitors.begins(request.session_hash or "")
            asks = [Question(instruction=one, system=system) for one in wanted]
            yield render.comparison(wanted, chosen, answers, said)

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
                        took.setdefault(name, []).append(Timing(tokens, time.perf_counter() - started))

                running = BackgroundStream(name, engine, work, stopping)
                for so_far in running:
                    yield render.comparison(wanted, chosen, so_far, said)
                if running.was_stopped:
                    yield render.render_notice(said.stopped) + render.comparison(
                        wanted, chosen, answers, said, over=True
                    )
                    return
            compared = DemoComparison(
                questions=asks, names=chosen, answers=answers, took=took, decoder_name=settings, decoder=decoder
            )
            yield render.comparison(wanted, chosen, answers, said, over=True) + house.figures(compared, said.html)
        except Exception as error:  # noqa: BLE001 - the log has it, the visitor a sentence
            failure = render.render_notice(error_message(error, said), error=True)
            yield failure + (render.comparison(wanted, chosen, answers, said, over=True) if answers else "")

    fields = [asked, models, samples, settings, persona, house.tongue]
    run.click(compare, fields, shown, **MODEL_EVENT)
    stop.click(house.stop, queue=False, api_visibility="private")
    return [
        LocalizedComponent(
            asked,
            lambda said: gr.update(label=said.questions.format(MOST_QUESTIONS), placeholder=said.questions_hint),
        ),
        LocalizedComponent(models, lambda said: gr.update(label=said.models)),
        LocalizedComponent(samples, lambda said: gr.update(label=said.samples, info=said.samples_hint)),
        LocalizedComponent(more, lambda said: gr.update(label=said.more)),
        LocalizedComponent(
            settings, lambda said: gr.update(label=said.settings, choices=choices(said.settings_choices))
        ),
        LocalizedComponent(persona, lambda said: gr.update(label=said.persona, placeholder=said.persona_hint)),
        LocalizedComponent(run, lambda said: gr.update(value=said.run_compare)),
        LocalizedComponent(stop, lambda said: gr.update(value=said.stop)),
    ]


A_PAGE = 6
"""records"""


Look = Callable[[str, list[str], str | None, int, str], tuple[str, str, int]]
"""from the fields to the records, the place among those found, and the page"""


class Chosen(NamedTuple):
    """A page of the records that fit."""

    groups: Sequence[TextGroup | TranslationGroup]
    first: int
    """place of the first among all that fit, from 0"""
    total: int


def chosen(
    groups: Sequence[TextGroup | TranslationGroup],
    category: str,
    languages: Sequence[str],
    search: str | None,
    page: int,
) -> Chosen:
    """Records of this category (``""``: any) that have all these languages and, somewhere in them, the words.

    Args:
        page: from 0; one past the end shows the last.
    """
    wanted = (search or "").strip()[:LONGEST_SEARCH].casefold()
    fit = [
        group
        for group in groups
        if category in ("", group.category.value)
        and {language.value for language in group.texts()} >= set(languages)
        and (not wanted or wanted in _searched(group, languages))
    ]
    first = min(max(page, 0), max(0, len(fit) - 1) // A_PAGE) * A_PAGE
    return Chosen(fit[first : first + A_PAGE], first, len(fit))


def browse_tab(house: DemoContext, groups: Sequence[TextGroup | TranslationGroup]) -> list[LocalizedComponent]:
    """Fill the tab."""
    with gr.Row():
        category = gr.Dropdown(_categories(DEMO_JA), value="", label=DEMO_JA.category, elem_id="browse-category")
        languages = gr.CheckboxGroup(
            _languages(DEMO_JA), value=["ja", "en"], label=DEMO_JA.shown_languages, elem_id="browse-languages"
        )
        search = gr.Textbox(
            label=DEMO_JA.search, placeholder=DEMO_JA.search_hint, max_length=LONGEST_SEARCH, elem_id="browse-search"
        )
    page = gr.State(0)
    shown = gr.HTML(elem_id="browse-shown")
    with gr.Row():
        earlier = gr.Button(DEMO_JA.earlier, elem_id="browse-earlier")
        where = gr.HTML(elem_id="browse-where")
        later = gr.Button(DEMO_JA.later, elem_id="browse-later")

    def look(category: str, languages: list[str], search: str | None, page: int, tongue: str) -> tuple[str, str, int]:
        said = demo_labels(tongue)
        found = chosen(groups, category, languages, search, page)
        until = found.first + len(found.groups)
        place = said.found.format(found.total, min(found.first + 1, until), until)
        return render.groups(found.groups, languages, said), render.render_notice(place), found.first // A_PAGE

    def turned(by: int | None) -> Look:
        """Some pages on or back; None: to the first."""

        def look_there(
            category: str, languages: list[str], search: str | None, page: int, tongue: str
        ) -> tuple[str, str, int]:
            return look(category, languages, search, 0 if by is None else page + by, tongue)

        return look_there

    asks = [category, languages, search, page, house.tongue]
    shows = [shown, where, page]
    quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
    for changed in (category.change, languages.change, search.change):
        changed(turned(None), asks, shows, trigger_mode="always_last", **quick)
    earlier.click(turned(-1), asks, shows, **quick)
    later.click(turned(1), asks, shows, **quick)
    house.tongue.change(look, asks, shows, **quick)
    house.page.load(look, asks, shows, **quick)
    return [
        LocalizedComponent(category, lambda said: gr.update(label=said.category, choices=_categories(said))),
        LocalizedComponent(languages, lambda said: gr.update(label=said.shown_languages, choices=_languages(said))),
        LocalizedComponent(search, lambda said: gr.update(label=said.search, placeholder=said.search_hint)),
        LocalizedComponent(earlier, lambda said: gr.update(value=said.earlier)),
        LocalizedComponent(later, lambda said: gr.update(value=said.later)),
    ]


def _categories(said: DemoLabels) -> list[tuple[str, str]]:
    return [(said.every_category, ""), *((name, name) for name in CATEGORIES)]


def _languages(said: DemoLabels) -> list[tuple[str, str]]:
    return [(said.languages[name], name) for name in LANGUAGES]


def _searched(group: TextGroup | TranslationGroup, languages: Sequence[str]) -> str:
    texts = [text for language, text in group.texts().items() if language.value in languages]
    words_in_it = [value for text in texts for value in text.model_dump().values()]
    return "\n".join([group.id, group.topic, *words_in_it]).casefold()
