"""The demo's tabs: Ask, QtQ, Compare and Browse."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import gradio as gr

from bonsai.builder.errors import UserInputError
from bonsai.builder.schema import CATEGORIES, LANGUAGES, Language, TextGroup, TranslationGroup
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
    language_field,
    model_field,
    persona_field,
    question_field,
    read_question,
    render,
)
from bonsai.recipes.evaluation.comparison.record import (
    Comparison,
    ComparisonQuestion,
    ModelRun,
    SampledAnswer,
    SampleRound,
)
from bonsai.recipes.evaluation.comparison.report import render_figures
from bonsai.recipes.inference.ask import Passes, ask
from bonsai.recipes.inference.conversation import Answer, Question, QuestionChain, prepared
from bonsai.recipes.inference.generation import PRESETS, Engine
from bonsai.recipes.inference.labels import Labels, demo_labels, load_labels
from bonsai.recipes.inference.prompts import Part
from bonsai.recipes.inference.qtq import QtQSettings, new_chain, run_chains
from bonsai.recipes.inference.summary import page, write_summaries

Answers: TypeAlias = Mapping[tuple[int, str], Sequence[Answer]]
"""by index of the question and name of the model, one answer a sample"""


def ask_tab(context: DemoContext) -> None:
    """Build the tab that asks one model, and shows reasoning and answer while they grow."""
    # 1. The fields.
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            question = question_field(context, "ask-question", lines=3)
            with context.add(gr.Accordion, {"label": "more"}, open=False, elem_id="ask-more"):
                model = model_field(context, "ask-model")
                material = context.add(
                    gr.Textbox,
                    {"label": "material", "placeholder": "material_hint"},
                    lines=3,
                    max_length=LONGEST_MATERIAL,
                )
                language = language_field(context)
                persona = persona_field(context)
                passes = context.add(gr.Radio, {"label": "passes", "choices": "passes_choices"}, value="auto")
            with gr.Row():
                run = context.add(gr.Button, {"value": "run_ask"}, variant="primary", elem_id="ask-run")
                stop = context.add(gr.Button, {"value": "stop"}, elem_id="ask-stop")
            examples = context.add(
                gr.Dataset,
                {"samples": lambda labels: [[text] for text in labels.examples]},
                components=[question],
                type="values",
                show_label=False,
            )
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(elem_id="ask-shown")

    # 2. A run, whose snapshots gradio shows as they are yielded.
    def answer(
        text: str | None,
        material: str | None,
        language: str,
        persona: str | None,
        passes: Passes,
        model: str,
        ui_language: str,
        request: gr.Request,
    ) -> Iterator[str]:
        labels = demo_labels(ui_language)
        try:
            asked = read_question(text, material, language, persona, labels)
            engine = context.engine(model)
            yield render("growing", "", "", "", labels)

            def work(engine: Engine, show: Callable[[str], None]) -> None:
                written: dict[Part, str] = {"reasoning": "", "answer": ""}

                def on_text(_place: int, part: Part, so_far: str) -> None:
                    written[part] = so_far
                    show(render("growing", written["reasoning"], written["answer"], language, labels))

                (done,) = ask(engine, [asked], decoder=DECODER, passes=passes, on_text=on_text)
                show(render("complete", done, labels))

            running = BackgroundStream(model, engine, work, context.visitors.begin(request.session_hash or ""))
            last = ""
            for last in running:
                yield last
            if running.was_stopped:
                yield last + render("notice", labels.stopped)
        except Exception as error:  # noqa: BLE001 - it goes to the log, the visitor reads a sentence
            yield render("notice", error_message(error, labels), "error")

    # 3. Events.
    asks = [question, material, language, persona, passes, model, context.ui_language]
    gr.on([run.click, question.submit], answer, asks, shown, **MODEL_EVENT)
    stop.click(context.stop, queue=False, api_visibility="private")
    examples.click(lambda sample: sample[0], examples, question, queue=False, api_visibility="private")


class ChainOutputs(NamedTuple):
    """The outputs of the QtQ tab, in their order."""

    steps: str
    to_come: Any
    """where the summary will be, as long as there is none"""
    summary: str
    page: Any
    markdown: Any


def qtq_tab(context: DemoContext) -> None:
    """Build the tab that follows a question deeper, with the summary beside the steps."""
    # 1. The fields.
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            question = question_field(context, "qtq-question", lines=2)
            depth = context.add(
                gr.Slider, {"label": "depth"}, minimum=2, maximum=DEEPEST, value=4, step=1, elem_id="qtq-depth"
            )
            with context.add(gr.Accordion, {"label": "more"}, open=False):
                model = model_field(context, "qtq-model")
                language = language_field(context)
                persona = persona_field(context)
            with gr.Row():
                run = context.add(gr.Button, {"value": "run_qtq"}, variant="primary", elem_id="qtq-run")
                stop = context.add(gr.Button, {"value": "stop"}, elem_id="qtq-stop")
            examples = context.add(
                gr.Dataset,
                {"samples": _openings},
                components=[question],
                type="values",
                show_label=False,
                elem_id="qtq-prepared",
            )
            steps = gr.HTML(elem_id="qtq-steps")
        with gr.Column(scale=2, min_width=300):
            to_come = context.add(
                gr.HTML, {"value": lambda labels: render("notice", labels.summary_to_come)}, elem_id="qtq-to-come"
            )
            heading = gr.HTML(elem_id="qtq-summary")
            with gr.Row():
                page_file, text_file = (
                    context.add(
                        gr.DownloadButton,
                        {"label": partial(_download_label, form)},
                        visible=False,
                        elem_id=elem_id,
                    )
                    for form, elem_id in (("HTML", "qtq-page"), ("Markdown", None))
                )

    # 2. A run, whose snapshots gradio shows as they are yielded.
    def go_deeper(
        text: str | None,
        depth: int,
        language: str,
        persona: str | None,
        model: str,
        ui_language: str,
        request: gr.Request,
    ) -> Iterator[ChainOutputs]:
        labels = demo_labels(ui_language)
        hidden = gr.update(visible=False)
        chain: QuestionChain | None = None
        try:
            asked = read_question(text, "", language, persona, labels)
            engine = context.engine(model)
            # 1. Run the chain in the background; each snapshot brings the summary so far.
            start = new_chain(asked, id="demo", depth=min(max(int(depth), 1), DEEPEST))
            yield ChainOutputs(render("notice", labels.waiting), gr.update(visible=True), "", hidden, hidden)

            def work(engine: Engine, show: Callable[[QuestionChain], None]) -> None:
                run_chains(
                    engine, [start], QtQSettings(decoder=DECODER), personas={start.id: asked.system}, on_step=show
                )

            running = BackgroundStream(model, engine, work, context.visitors.begin(request.session_hash or ""))
            for chain in running:
                summed_up = render("framed", page([chain]), labels.summary) if chain.steps else ""
                empty = gr.update(visible=not chain.steps)
                yield ChainOutputs(
                    _render_steps(chain, labels, _state(chain, labels)), empty, summed_up, hidden, hidden
                )
            note = labels.stopped if running.was_stopped else ""
        except Exception as error:  # noqa: BLE001 - it goes to the log, the visitor reads a sentence
            so_far = _render_steps(chain, labels, "") if chain else ""
            failure = render("notice", error_message(error, labels), "error")
            yield ChainOutputs(so_far + failure, gr.skip(), gr.skip(), hidden, hidden)
            return
        # 2. The files, once nothing more is coming.
        if chain is not None:
            with tempfile.TemporaryDirectory() as folder:  # gradio copies the files when they are yielded
                written = write_summaries([chain], Path(folder))
                yield ChainOutputs(
                    _render_steps(chain, labels, note or chain.ended_because or ""),
                    gr.skip(),
                    gr.skip(),
                    gr.update(value=str(written.page), visible=True),
                    gr.update(value=str(written.markdown[0]), visible=True),
                )

    # 3. Events.
    asks = [question, depth, language, persona, model, context.ui_language]
    gr.on([run.click, question.submit], go_deeper, asks, [steps, to_come, heading, page_file, text_file], **MODEL_EVENT)
    stop.click(context.stop, queue=False, api_visibility="private")
    examples.click(lambda sample: sample[0], examples, question, queue=False, api_visibility="private")


def _download_label(form: str, labels: Labels) -> str:
    return f"{labels.download} ({form})"


def _render_steps(chain: QuestionChain, labels: Labels, note: str) -> str:
    return render("steps", chain, labels, load_labels(chain.language), note)


def _state(chain: QuestionChain, labels: Labels) -> str:
    """What happens next, below the steps."""
    if chain.complete:
        return chain.ended_because or ""
    last = chain.steps[-1] if chain.steps else None
    return labels.waiting if last is None or last.candidates else labels.looking


def _openings(labels: Labels) -> list[list[str]]:
    """The nine prepared questions in the language of the page, to be pressed."""
    return [[question.instruction] for question in prepared(Language(labels.html))]


def compare_tab(context: DemoContext) -> None:
    """Build the tab that puts the same questions to several models."""
    # 1. The fields.
    names = list(context.engines)
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            asked = context.add(
                gr.Textbox,
                {
                    "label": lambda labels: labels.questions.format(MOST_QUESTIONS),
                    "placeholder": "questions_hint",
                },
                lines=4,
                max_length=MOST_QUESTIONS * LONGEST_QUESTION,
                elem_id="compare-questions",
            )
        with gr.Column(scale=2, min_width=300):
            models = context.add(
                gr.CheckboxGroup, {"label": "models"}, choices=names, value=names[:2], elem_id="compare-models"
            )
            samples = context.add(
                gr.Slider,
                {"label": "samples", "info": "samples_hint"},
                minimum=1,
                maximum=MOST_SAMPLES,
                value=1,
                step=1,
                elem_id="compare-samples",
            )
            with context.add(gr.Accordion, {"label": "more"}, open=False):
                settings = context.add(gr.Radio, {"label": "settings", "choices": "settings_choices"}, value="greedy")
                persona = persona_field(context)
    with gr.Row():
        run = context.add(gr.Button, {"value": "run_compare"}, variant="primary", elem_id="compare-run")
        stop = context.add(gr.Button, {"value": "stop"}, elem_id="compare-stop")
    shown = gr.HTML(elem_id="compare-shown")

    # 2. A run, whose snapshots gradio shows as they are yielded.
    def compare(
        text: str | None,
        chosen: list[str],
        samples: int,
        settings: str,
        persona: str | None,
        ui_language: str,
        request: gr.Request,
    ) -> Iterator[str]:
        labels = demo_labels(ui_language)
        wanted: list[str] = []
        answers: dict[tuple[int, str], list[Answer]] = {}
        rounds: dict[str, list[SampleRound]] = {}
        try:
            # 1. Check the fields.
            wanted = parse_questions(text, labels)
            system = check_length(labels.persona, persona, LONGEST_PERSONA, labels)
            engines = {name: context.engine(name) for name in chosen}
            if not engines:
                raise UserInputError(labels.choose_one)
            decoder = replace(PRESETS[settings], max_new_tokens=ANSWER_TOKENS)
            times = min(max(int(samples), 1), MOST_SAMPLES)
            stopping = context.visitors.begin(request.session_hash or "")
            asks = [Question(instruction=one, system=system) for one in wanted]
            yield render("comparison", wanted, chosen, answers, labels)

            # 2. One model after the other; each answer is shown as it is complete.
            for name, engine in engines.items():

                def work(engine: Engine, show: Callable[[Answers], None], name: str = name) -> None:
                    for sample in range(1, times + 1):

                        def stands(place: int, answer: Answer) -> None:
                            answers.setdefault((place, name), []).append(answer)
                            show({key: list(kept) for key, kept in answers.items()})

                        started = time.perf_counter()
                        seeded = replace(decoder, seed=decoder.seed + sample - 1)
                        given = ask(engine, asks, decoder=seeded, on_answer=stands)
                        rounds.setdefault(name, []).append(
                            SampleRound(
                                sample=sample,
                                answers=len(given),
                                tokens=sum(answer.tokens for answer in given),
                                seconds=time.perf_counter() - started,
                            )
                        )

                running = BackgroundStream(name, engine, work, stopping)
                for so_far in running:
                    yield render("comparison", wanted, chosen, so_far, labels)
                if running.was_stopped:
                    unfinished = render("comparison", wanted, chosen, answers, labels, True)
                    yield render("notice", labels.stopped) + unfinished
                    return
            # 3. The measures, below the answers.
            compared = Comparison(
                lists=("demo",),
                decoder_name=settings,
                decoder=decoder,
                samples=times,
                versions={},
                models=tuple(ModelRun(name=name, rounds=tuple(rounds[name])) for name in chosen),
                questions=tuple(
                    ComparisonQuestion(id=str(place), group="demo", question=question)
                    for place, question in enumerate(asks)
                ),
                answers=tuple(
                    SampledAnswer(model=name, question=str(place), sample=sample, answer=answer)
                    for (place, name), kept in answers.items()
                    for sample, answer in enumerate(kept, 1)
                ),
            )
            finished = render("comparison", wanted, chosen, answers, labels, True)
            yield finished + render_figures(compared, labels.html)
        except Exception as error:  # noqa: BLE001 - it goes to the log, the visitor reads a sentence
            failure = render("notice", error_message(error, labels), "error")
            yield failure + (render("comparison", wanted, chosen, answers, labels, True) if answers else "")

    # 3. Events.
    fields = [asked, models, samples, settings, persona, context.ui_language]
    run.click(compare, fields, shown, **MODEL_EVENT)
    stop.click(context.stop, queue=False, api_visibility="private")


RECORDS_PER_PAGE = 6


class RecordPage(NamedTuple):
    """A page of the records that fit."""

    groups: Sequence[TextGroup | TranslationGroup]
    first: int
    """place of the first among all that fit, from 0"""
    total: int


def find_records(
    groups: Sequence[TextGroup | TranslationGroup],
    category: str,
    languages: Sequence[str],
    search: str | None,
    page: int,
) -> RecordPage:
    """Find the records of a category (``""``: any) that have all these languages and contain the search text.

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
    first = min(max(page, 0), max(0, len(fit) - 1) // RECORDS_PER_PAGE) * RECORDS_PER_PAGE
    return RecordPage(fit[first : first + RECORDS_PER_PAGE], first, len(fit))


def browse_tab(context: DemoContext, groups: Sequence[TextGroup | TranslationGroup]) -> None:
    """Build the tab that pages through the records."""
    # 1. The fields.
    with gr.Row():
        category = context.add(
            gr.Dropdown, {"label": "category", "choices": _categories}, value="", elem_id="browse-category"
        )
        languages = context.add(
            gr.CheckboxGroup,
            {"label": "shown_languages", "choices": _languages},
            value=["ja", "en"],
            elem_id="browse-languages",
        )
        search = context.add(
            gr.Textbox,
            {"label": "search", "placeholder": "search_hint"},
            max_length=LONGEST_SEARCH,
            elem_id="browse-search",
        )
    page = gr.State(0)
    shown = gr.HTML(elem_id="browse-shown")
    with gr.Row():
        earlier = context.add(gr.Button, {"value": "earlier"}, elem_id="browse-earlier")
        where = gr.HTML(elem_id="browse-where")
        later = context.add(gr.Button, {"value": "later"}, elem_id="browse-later")

    # 2. A page of the records that fit; a change of the fields begins at the first.
    def look(
        category: str, languages: list[str], search: str | None, page: int, ui_language: str
    ) -> tuple[str, str, int]:
        labels = demo_labels(ui_language)
        found = find_records(groups, category, languages, search, page)
        until = found.first + len(found.groups)
        place = labels.found.format(found.total, min(found.first + 1, until), until)
        return (
            render("groups", found.groups, languages, labels),
            render("notice", place),
            found.first // RECORDS_PER_PAGE,
        )

    # 3. Events.
    asks = [category, languages, search, page, context.ui_language]
    shows = [shown, where, page]
    quick: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": 8}
    for changed in (category.change, languages.change, search.change):
        changed(lambda a, b, c, _, ui: look(a, b, c, 0, ui), asks, shows, trigger_mode="always_last", **quick)
    earlier.click(lambda a, b, c, at, ui: look(a, b, c, at - 1, ui), asks, shows, **quick)
    later.click(lambda a, b, c, at, ui: look(a, b, c, at + 1, ui), asks, shows, **quick)
    context.ui_language.change(look, asks, shows, **quick)
    context.page.load(look, asks, shows, **quick)


def _categories(labels: Labels) -> list[tuple[str, str]]:
    return [(labels.every_category, ""), *((name, name) for name in CATEGORIES)]


def _languages(labels: Labels) -> list[tuple[str, str]]:
    return [(labels.languages[name], name) for name in LANGUAGES]


def _searched(group: TextGroup | TranslationGroup, languages: Sequence[str]) -> str:
    texts = [text for language, text in group.texts().items() if language.value in languages]
    words_in_it = [value for text in texts for value in text.model_dump().values()]
    return "\n".join([group.id, group.topic, *words_in_it]).casefold()
