from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import LocalizedText, QuestionChain
from bonsai.recipes.inference.labels import SUMMARY_EN, SUMMARY_JA, load_labels
from bonsai.recipes.inference.perspectives import PERSPECTIVES, PLAIN
from bonsai.recipes.inference.summary import chain_to_markdown, page, step_report, summarize, write_summaries
from bonsai.recipes.inference.tree_svg import WIDTH, layout_tree, wrap_text
from tests.recipes.inference.chromium import chromium, needs_chromium
from tests.recipes.inference.summary.made import OPEN, REFUSED, answer, candidate, gauge

EVIL = (
    "</title></script><script>document.title='stolen'</script><img src=x onerror=\"document.title='stolen'\"> & \" ' ｱ"
)


def planted(chain: QuestionChain) -> QuestionChain:
    """The chain with text in every field that would break out of a careless page."""
    steps = []
    for step in chain.steps:
        evil = answer(
            chain.language, EVIL, f"{EVIL}\n# heading", model=EVIL, second_pass_because=LocalizedText(en=EVIL, ja=EVIL)
        )
        considered = tuple(
            one.model_copy(
                update={"question": f"{EVIL}{number}", "perspective": EVIL, "refused_because": EVIL if number else None}
            )
            for number, one in enumerate(step.candidates)
        )
        steps.append(
            step.model_copy(update={"question": EVIL, "perspective": EVIL, "answer": evil, "candidates": considered})
        )
    return chain.model_copy(update={"id": f"../{EVIL}", "theme": EVIL, "steps": tuple(steps), "ended_because": EVIL})


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_summary_says_what_was_asked_why_and_what_was_learnt() -> None:
    chain = gauge(Language.EN, depth=4, asked=4)
    summary = summarize(chain)
    assert [one.question for one in summary.learnt] == [step.question for step in chain.steps]
    assert summary.learnt[0].because == ""
    assert summary.learnt[1].because == SUMMARY_EN.perspective("exception").because
    for one, step in zip(summary.learnt, chain.steps, strict=True):
        assert one.sentences
        assert all(sentence in step.answer.answer for sentence in one.sentences)
    assert summary.ended == "All 4 steps that were asked for are done."
    assert summary.refused == 4 * 5


def test_a_question_that_passed_and_was_not_asked_remains_open_once() -> None:
    summary = summarize(gauge(Language.JA))
    assert [(left.question, left.after) for left in summary.still_open] == [(OPEN[Language.JA], 1)]


def test_a_question_that_a_later_step_asks_is_not_open() -> None:
    chain = gauge(Language.EN, asked=3)
    first = chain.steps[0]
    early = candidate(chain.steps[2].question, "why")
    steps = (first.model_copy(update={"candidates": (*first.candidates, early)}), *chain.steps[1:])
    assert chain.steps[2].question not in {
        left.question for left in summarize(chain.model_copy(update={"steps": steps})).still_open
    }


def test_the_end_is_told_in_the_words_the_chain_keeps() -> None:
    chain = gauge(Language.JA, asked=2).model_copy(update={"ended_because": "候補をすべて退けました。"})
    assert summarize(chain).ended == "候補をすべて退けました。"
    assert "候補をすべて退けました。" in chain_to_markdown(chain)
    assert summarize(gauge(Language.JA, asked=2)).ended == "まだ途中です（5段のうち2段）。"


def test_every_perspective_is_told_in_words_in_both_languages() -> None:
    keys = {one.key for one in (*PERSPECTIVES, PLAIN)}
    assert SUMMARY_JA.perspectives.keys() == SUMMARY_EN.perspectives.keys() == keys


def test_labels_are_in_the_chains_language() -> None:
    assert "## 学んだこと" in chain_to_markdown(gauge(Language.JA))
    assert "## What was learnt" in chain_to_markdown(gauge(Language.EN))
    assert load_labels(Language.ZH) is SUMMARY_EN


@pytest.mark.parametrize(
    ("language", "told", "untold"), [(Language.JA, "欠けています", "missing"), (Language.EN, "missing", "欠けています")]
)
def test_why_an_answer_was_asked_again_is_told_in_the_pages_language(
    language: Language, told: str, untold: str
) -> None:
    chain = gauge(language, asked=1)
    why = LocalizedText(en="it is missing", ja="欠けています")
    asked_twice = answer(language, "Reasoning", "Answer", passes=2, second_pass_because=why, retried_because=why)
    steps = (chain.steps[0].model_copy(update={"answer": asked_twice}),)
    chain = chain.model_copy(update={"steps": steps})
    for text in (page([chain]), chain_to_markdown(chain), step_report(chain)):
        assert text.count(told) >= 2
        assert untold not in text


def test_an_interim_report_tells_the_latest_step_alone() -> None:
    chain = gauge(Language.EN, asked=3)
    told = step_report(chain)
    assert told.startswith("## Step 3: ")
    assert chain.steps[2].answer.answer in told
    assert "To learn the cause behind the answer." in told
    assert "refused: it asks question 1 again" in told
    assert chain.steps[0].answer.answer not in told
    assert step_report(chain.model_copy(update={"steps": ()})) == ""


def test_no_text_becomes_markdown_of_its_own() -> None:
    told = chain_to_markdown(planted(gauge(Language.EN)))
    assert "<" not in told
    assert "\n> # heading" not in told
    assert not re.search(r"(?<!\\)\[", told)


def test_no_text_becomes_an_element_or_an_attribute_of_the_page() -> None:
    chain = gauge(Language.EN)
    honest = Elements(page([chain])).found
    stolen = Elements(page([planted(chain)])).found
    assert {tag for tag, _ in stolen} <= {tag for tag, _ in honest}
    assert not {"script", "img", "iframe", "object", "link"} & {tag for tag, _ in stolen}
    names = {name for _, attributes in stolen for name in attributes}
    assert not [name for name in names if name.startswith("on") or name in {"style", "src"}]
    assert all((attributes["href"] or "").startswith("#") for _, attributes in stolen if "href" in attributes)


def test_the_page_shows_every_candidate_with_its_reason_and_links_that_lead_somewhere() -> None:
    chains = [gauge(Language.JA), gauge(Language.EN)]
    text = page(chains)
    found = Elements(text).found
    names = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(names) == len(set(names))
    targets = {(attributes["href"] or "")[1:] for _, attributes in found if "href" in attributes}
    assert targets - set(names) == {"c1-", "c2-"}  # nowhere: they close a note and leave the page where it is
    assert text.count("it asks question 1 again") == 3 * sum(
        one.refused_because is not None for chain in chains for step in chain.steps for one in step.candidates
    )
    assert text.count(REFUSED[Language.EN]) >= 5


def test_the_tree_stays_within_its_frame_and_nothing_overlaps() -> None:
    crowded = gauge(Language.JA)
    many = tuple(candidate(f"{number}番目の{REFUSED[Language.JA]}", "why", "長い") for number in range(30))
    crowded = crowded.model_copy(
        update={"steps": tuple(s.model_copy(update={"candidates": many}) for s in crowded.steps)}
    )
    for chain in (gauge(Language.EN), crowded, crowded.model_copy(update={"steps": ()})):
        drawn = layout_tree(chain)
        assert all(0 < twig.x <= WIDTH - 12 and twig.y < drawn.height for twig in drawn.twigs)
        places = {(twig.x, twig.y) for twig in drawn.twigs}
        assert len(places) == len(drawn.twigs)
        lines = sorted(line.y for node in drawn.nodes for line in (node.label, *node.lines))
        assert all(later - sooner >= 12 for sooner, later in pairwise(lines))


@pytest.mark.parametrize("text", ["", "無" * 500, "word " * 100, "x" * 400, "、。」" * 40, "ab無 cd。ef" * 30])
def test_wrapped_text_keeps_its_width_and_its_beginning(text: str) -> None:
    lines = wrap_text(text, 20, 3)
    assert 1 <= len(lines) <= 3
    assert all(len(line) <= 46 for line in lines)
    plain = "".join(lines).removesuffix("…").replace(" ", "")
    assert text.replace(" ", "").startswith(plain)


def test_the_files_hold_all_chains_and_replace_earlier_ones(tmp_path: Path) -> None:
    chains = [gauge(Language.JA), gauge(Language.EN), gauge(Language.EN)]
    write_summaries(chains[:1], tmp_path / "deep" / "summary")
    written = write_summaries(chains, tmp_path / "deep" / "summary")
    assert [path.name for path in written.markdown] == ["gauge-ja.md", "gauge-en.md", "gauge-en-3.md"]
    kept = json.loads(written.json.read_text(encoding="utf-8"))
    assert [QuestionChain.model_validate(entry["chain"]) for entry in kept["chains"]] == chains
    assert kept["chains"][0]["summary"]["learnt"][1]["perspective"] == "exception"
    assert sorted(path.name for path in written.page.parent.iterdir()) == [
        "gauge-en-3.md", "gauge-en.md", "gauge-ja.md", "summary.html", "summary.json",
    ]  # fmt: skip


def test_a_chain_cannot_choose_where_its_file_lies_nor_break_the_encoding(tmp_path: Path) -> None:
    chain = planted(gauge(Language.EN)).model_copy(update={"theme": "half a pair \ud83c"})
    written = write_summaries([chain, chain.model_copy(update={"id": "///"})], tmp_path / "here")
    assert {path.parent for path in written.markdown} == {tmp_path / "here"}
    assert "half a pair ?" in written.page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_made_leaves_the_earlier_one(tmp_path: Path) -> None:
    write_summaries([gauge(Language.EN)], tmp_path)
    before = (tmp_path / "summary.html").read_bytes()
    (tmp_path / "summary.json").unlink()
    (tmp_path / "summary.json").mkdir()
    with pytest.raises(OSError, match=r"summary\.json"):
        write_summaries([gauge(Language.JA)], tmp_path)
    assert (tmp_path / "summary.html").read_bytes() == before
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@needs_chromium
def test_a_reader_in_a_browser_touches_a_refused_question_and_reads_why(tmp_path: Path) -> None:
    chains = [gauge(Language.JA), planted(gauge(Language.EN))]
    written = write_summaries(chains, tmp_path)
    with chromium(tmp_path / "profile") as tab:
        for width in (1280, 390):
            tab.open(written.page.as_uri(), width=width)
            assert tab.value("document.documentElement.scrollWidth") == width
            assert tab.value("document.title") == "まとめ"
            cut = "document.querySelector('#c1-tree .cut .reach')"
            tab.click(cut)
            note = tab.wait("document.querySelector('.note:target')?.innerText")
            assert REFUSED[Language.JA] in note
            assert "it asks question 1 again" in note
            assert tab.value(f"{cut}.getBoundingClientRect().y > 0") is True  # still where it was touched
            place = tab.value("scrollY")
            tab.click("document.querySelector('.note:target .close')")
            tab.wait("document.querySelector('.note:target') === null")
            assert tab.value("scrollY") == place
            tab.click("document.querySelector('#c1-tree .node circle')")
            assert chains[0].steps[0].answer.answer in tab.wait("document.querySelector('.step:target')?.innerText")
            texts = "[...document.querySelectorAll('#c1-tree text')].map(e => e.getBBox())"
            longest = f"Math.max(...{texts}.map(b => b.x + b.width))"
            assert tab.value(longest) <= WIDTH
        assert tab.complaints == []
        assert tab.dialogs == []
        assert {address.partition(":")[0] for address in tab.requested} == {"file"}
