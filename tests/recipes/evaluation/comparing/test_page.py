from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bonsai.recipes.evaluation.comparison.record import Comparison, ModelRun
from bonsai.recipes.evaluation.comparison.report import blind_page, page
from bonsai.recipes.evaluation.comparison.results import diff_comparisons, results
from bonsai.recipes.evaluation.comparison.voting import blind_questions, ranking
from tests.recipes.evaluation.comparing.made import answer, comparison, listed
from tests.recipes.inference.chromium import chromium, needs_chromium

EVIL = "</p><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\"> '盆栽\" &"
PLAIN = comparison(
    {
        "out/adapters/seedling": [["It is Mount Fuji.", "Mount Fuji it is."], ["Two answers.", "Two replies."]],
        "qeu/base": [["Mount Fuji.", "A mountain, a mountain, a mountain, a mountain."], ["Two.", "Zwei."]],
    }
)


class Page(HTMLParser):
    """Elements with their attributes, and the text a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.style = ""
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.style += data
        else:
            self.text += f" {' '.join(data.split())}"

    def count(self, tag: str, name: str) -> int:
        return sum(one == tag and name in (told.get("class") or "").split() for one, told in self.elements)


def evil() -> Comparison:
    """Everything that somebody else may have written is an attack."""
    question = listed(1, text=EVIL, group=EVIL)
    said = {f"{name}{EVIL}": [[answer(EVIL, reasoning=EVIL), EVIL]] for name in ("a", "b")}
    made = comparison(said, [question], lists=(EVIL,))
    sides = tuple(
        ModelRun(name=side.name, rounds=side.rounds, device=EVIL, failed_because=EVIL) for side in made.models
    )
    return made.model_copy(update={"models": sides})


def all_of(made: Comparison) -> str:
    names = [side.name for side in made.models]
    ranked = ranking([((names[0],), (names[1],))], names)
    return page(results(made), changes=diff_comparisons(made, made, location=EVIL), ranked=ranked, votes=1)


def test_answers_stand_side_by_side_below_their_question_with_their_reasoning() -> None:
    shown = Page(page(results(PLAIN)))
    assert shown.count("div", "side") == 4
    for text in ("Which river is number 1?", "It is Mount Fuji.", "Rivers have lengths.", "Zwei.", "seedling"):
        assert text in shown.text
    assert shown.text.index("Which river is number 1?") < shown.text.index("Mount Fuji it is.")


def test_what_went_wrong_is_said_beside_the_answer() -> None:
    loop = answer("A mountain. " * 9, stopped_by="length", passes=2, second_pass_because="it was missing")
    shown = Page(page(results(comparison({"a": [[loop]], "b": [["信濃川です。"]]})))).text
    for remark in ("repeats itself", "cut off", "Reasoning in a second pass", "not in its language", "繰り返し"):
        assert remark in shown


def test_the_heat_map_has_a_square_for_every_two_models() -> None:
    shown = Page(page(results(PLAIN)))
    assert shown.count("rect", "warm") == 4
    assert shown.count("rect", "own") == 2
    alone = Page(page(results(comparison({"a": [["A river."]]}))))
    assert alone.count("rect", "warm") == 0


def test_a_model_that_failed_is_told_with_its_reason() -> None:
    sides = (ModelRun(name="a"), ModelRun(name="b", failed_because="b cannot be reached"))
    shown = Page(page(results(comparison({"a": [["One."]], "b": []}, models=sides)))).text
    assert "b cannot be reached" in shown
    assert "not asked to the end" in shown


@pytest.mark.parametrize("kind", ["open", "blind"])
def test_text_of_a_model_never_becomes_markup(kind: str) -> None:
    made = evil()
    shown = Page(all_of(made) if kind == "open" else blind_page(list(blind_questions(made)), EVIL))
    assert not {"script", "img"} & {tag for tag, _ in shown.elements}
    assert not any(name.startswith("on") or name in ("style", "href", "src") for _, a in shown.elements for name in a)
    assert shown.text.count("document.title='taken'") >= 4


def test_the_page_allows_its_own_style_and_nothing_else() -> None:
    shown = Page(page(results(PLAIN)))
    (policy,) = [told["content"] or "" for tag, told in shown.elements if tag == "meta" and "http-equiv" in told]
    digest = base64.b64encode(hashlib.sha256(shown.style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'")
    assert "http" not in shown.style
    assert "prefers-color-scheme: dark" in shown.style


def test_the_blind_page_tells_no_name_and_no_figure() -> None:
    text = blind_page(list(blind_questions(PLAIN)), "out/compare")
    assert not re.search(r"seedling|qeu/base|scripted", text)
    shown = Page(text).text
    assert "It is Mount Fuji." in shown
    assert "bonsai compare --vote out/compare" in shown
    assert not re.search(r"\d tokens|alike", shown)


@needs_chromium
@pytest.mark.slow
def test_a_browser_runs_nothing_that_a_model_wrote_and_a_phone_shows_all_of_it(tmp_path: Path) -> None:
    four = comparison({f"owner/a-model-with-a-long-name-{n}": [["One.", "Two."]] * 3 for n in range(4)})
    pages = {
        "evil.html": all_of(evil()),
        "blind.html": blind_page(list(blind_questions(evil())), EVIL),
        "four.html": page(results(four)),
    }
    with chromium(tmp_path / "profile") as tab:
        for name, text in pages.items():
            (tmp_path / name).write_text(text, encoding="utf-8")
            for width in (1280, 390):
                tab.open((tmp_path / name).as_uri(), width=width)
                assert tab.value("document.documentElement.scrollWidth") <= width, f"{name} at {width}"
                assert tab.value("document.title") != "taken"
                assert tab.value("document.querySelectorAll('script, img').length") == 0
        tab.click("document.querySelector('.side summary')")
        tab.wait("document.querySelector('.side details').open")
        assert tab.complaints == tab.dialogs == []
        assert {address.rpartition("/")[2] for address in tab.requested} == set(pages)
