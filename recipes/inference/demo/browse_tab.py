"""Browse: the dataset as its records stand, with parallel texts side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gradio as gr

from bonsai.builder.schema import CATEGORIES, LANGUAGES, TextGroup, TranslationGroup
from bonsai.recipes.inference.demo import parts
from bonsai.recipes.inference.demo.limits import LONGEST_SEARCH
from bonsai.recipes.inference.demo.tabs import House, Labelled
from bonsai.recipes.inference.demo.words import JA, Words, words

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


def browse_tab(house: House, groups: Sequence[TextGroup | TranslationGroup]) -> list[Labelled]:
    """Fill the tab."""
    with gr.Row():
        category = gr.Dropdown(_categories(JA), value="", label=JA.category, elem_id="browse-category")
        languages = gr.CheckboxGroup(
            _languages(JA), value=["ja", "en"], label=JA.shown_languages, elem_id="browse-languages"
        )
        search = gr.Textbox(
            label=JA.search, placeholder=JA.search_hint, max_length=LONGEST_SEARCH, elem_id="browse-search"
        )
    page = gr.State(0)
    shown = gr.HTML(elem_id="browse-shown")
    with gr.Row():
        earlier = gr.Button(JA.earlier, elem_id="browse-earlier")
        where = gr.HTML(elem_id="browse-where")
        later = gr.Button(JA.later, elem_id="browse-later")

    def look(category: str, languages: list[str], search: str | None, page: int, tongue: str) -> tuple[str, str, int]:
        said = words(tongue)
        found = chosen(groups, category, languages, search, page)
        until = found.first + len(found.groups)
        place = said.found.format(found.total, min(found.first + 1, until), until)
        return parts.groups(found.groups, languages, said), parts.notice(place), found.first // A_PAGE

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
        Labelled(category, lambda said: gr.update(label=said.category, choices=_categories(said))),
        Labelled(languages, lambda said: gr.update(label=said.shown_languages, choices=_languages(said))),
        Labelled(search, lambda said: gr.update(label=said.search, placeholder=said.search_hint)),
        Labelled(earlier, lambda said: gr.update(value=said.earlier)),
        Labelled(later, lambda said: gr.update(value=said.later)),
    ]


def _categories(said: Words) -> list[tuple[str, str]]:
    return [(said.every_category, ""), *((name, name) for name in CATEGORIES)]


def _languages(said: Words) -> list[tuple[str, str]]:
    return [(said.languages[name], name) for name in LANGUAGES]


def _searched(group: TextGroup | TranslationGroup, languages: Sequence[str]) -> str:
    texts = [text for language, text in group.texts().items() if language.value in languages]
    words_in_it = [value for text in texts for value in text.model_dump().values()]
    return "\n".join([group.id, group.topic, *words_in_it]).casefold()
