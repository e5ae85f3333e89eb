"""The demo as a visitor meets it: the real command in a process of its own, and a browser."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bonsai.builder.schema import Language
from bonsai.recipes.inference.conversation import prepared
from bonsai.recipes.inference.generation import GREEDY
from tests.recipes.inference.chains.scripted import deeper
from tests.recipes.inference.chromium import Tab, chromium, needs_chromium
from tests.recipes.inference.models.openai_server import OURS, Body, Fault, OpenAIServer, serving
from tests.recipes.tiny import write_tiny_llama

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
    pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="gradio is not installed"),
]

COMMAND = """
import sys
from pathlib import Path
from bonsai.cli.demo import demo
demo(sys.argv[2:], out=Path(sys.argv[1]), port=0)
"""
TABS = "[...document.querySelectorAll('button[role=tab]')].filter(e => e.getBoundingClientRect().top > 0)"
EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script> ${alert(3)} {{value}} & why?"
QUESTION = "Why does bad news reach the managers of a company so late?"
LONG_STORY = "Tell me a long story about managers."


def says(body: Body) -> str:
    prompt = "\n".join(one["content"] for one in body["messages"])
    if LONG_STORY in prompt:
        return "They fear blame.\n\n### Response:\n" + " ".join(f"Manager {number} went home." for number in range(999))
    reasoning = f"The question was: {EVIL}" if EVIL in prompt else "Blame falls on whoever speaks first."
    return f"{reasoning}\n\n### Response:\n{deeper(prompt, GREEDY)}"


def fault(body: Body, number: int) -> Fault | None:
    return Fault(status=400, error="secret trouble") if "Break down" in str(body["messages"]) else None


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A page with a tiny random model and a scripted one behind an address."""
    folder = tmp_path_factory.mktemp("demo")
    tiny = write_tiny_llama(folder / "tiny-llama")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with (
        serving(OpenAIServer(says=says, fault=fault, template=OURS, models=("scripted",), pause=0.03)) as server,
        (folder / "log").open("w+") as log,
    ):
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, str(folder), f"{server.base_url}#scripted", str(tiny)],
            cwd=folder,
            env={
                **kept,
                "HF_HOME": str(folder / "hf"),
                "OMP_NUM_THREADS": "1",
                "GRADIO_TEMP_DIR": str(folder / "files"),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while not (found := re.search(r"(http://127\.0\.0\.1:\d+/) +\(Ctrl-C", (folder / "log").read_text())):
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.2)
            yield found[1]
        finally:
            process.terminate()
            process.wait(30)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(browser: Tab, address: str) -> Iterator[Tab]:
    """The page, freshly opened; nothing may have gone wrong in the browser or been asked of another machine."""
    visit(browser, address)
    yield browser
    assert browser.complaints == []
    assert browser.dialogs == []
    elsewhere = {one for one in browser.requested if not one.startswith((address, "data:", "blob:", "about:"))}
    assert elsewhere == set()


def visit(tab: Tab, address: str, *, width: int = 1280) -> None:
    tab.open(address, width=width)
    tab.wait("document.body.innerText.includes('its answers may be wrong')")


def go(tab: Tab, name: str) -> None:
    button = f"{TABS}.find(e => e.innerText.trim() === '{name}')"
    tab.wait(button)
    tab.click(button)
    tab.wait(f"{button}.getAttribute('aria-selected') === 'true'")


def write(tab: Tab, field: str, text: str) -> None:
    tab.click(f"document.querySelector('#{field} textarea, #{field} input')")
    tab.type(text)


def press(tab: Tab, button: str) -> None:
    tab.click(f"document.querySelector('#{button}')")


def text(tab: Tab, place: str) -> str:
    return str(tab.value(f"document.querySelector('#{place}').innerText"))


def until(tab: Tab, place: str, words: str) -> str:
    tab.wait(f"document.querySelector('#{place}').innerText.includes({words!r})")
    return text(tab, place)


def test_a_visitor_asks_and_reads_reasoning_and_answer(tab: Tab) -> None:
    write(tab, "ask-question", QUESTION)
    press(tab, "ask-run")
    until(tab, "ask-shown", "Thinking…")
    shown = until(tab, "ask-shown", "tokens")
    assert "Reasoning\n\nBlame falls on whoever speaks first." in shown
    assert "Answer\n\nPeople fear blame, so bad news travels slowly to the managers." in shown
    assert "scripted · " in shown


def test_the_tiny_model_on_this_machine_answers_too_and_its_folder_is_nobodys_business(tab: Tab) -> None:
    tab.click("document.querySelector('#ask-more button, #ask-more .label-wrap')")
    field = "document.querySelector('#ask-model input')"
    tab.wait(f"{field}?.offsetParent")
    tab.click(field)
    choice = "[...document.querySelectorAll('[role=option]')].find(e => e.innerText.includes('tiny-llama'))"
    tab.wait(choice)
    tab.click(choice)
    write(tab, "ask-question", "Why?")
    press(tab, "ask-run")
    shown = until(tab, "ask-shown", "tiny-llama · ")
    assert "/tiny-llama" not in shown


def test_what_looks_like_code_is_shown_and_does_not_run(tab: Tab) -> None:
    write(tab, "ask-question", EVIL)
    press(tab, "ask-run")
    assert EVIL in until(tab, "ask-shown", "tokens")


def test_a_visitor_is_led_deeper_and_the_summary_grows_beside(tab: Tab, tmp_path: Path) -> None:
    go(tab, "QtQ")
    write(tab, "qtq-question", QUESTION)
    press(tab, "qtq-run")
    steps = "document.querySelectorAll('#qtq-steps li').length"
    frame = "document.querySelector('#qtq-summary iframe')"
    seen = tab.wait(f"{steps} && [{steps}, {frame}.srcdoc.length]")
    tab.wait("document.querySelector('#qtq-page')?.offsetParent", seconds=120)  # four steps, a second apiece or ten
    after = tab.value(f"[{steps}, {frame}.srcdoc.length]")
    assert seen[0] < after[0] == 4
    assert seen[1] < after[1]
    assert "Step 4" in text(tab, "qtq-steps")
    assert "What was learnt" in tab.value(f"{frame}.srcdoc")
    assert tab.value(f"{frame}.getAttribute('sandbox')") == ""
    tab.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    press(tab, "qtq-page")
    latest = time.monotonic() + 20
    while not (files := [*tmp_path.glob("*.html")]):
        assert time.monotonic() < latest
        time.sleep(0.1)
    saved = files[0].read_text(encoding="utf-8")
    assert saved.startswith("<!doctype html>")
    assert QUESTION in saved


def test_the_nine_prepared_questions_are_there_to_be_pressed_in_the_language_of_the_page(tab: Tab) -> None:
    go(tab, "QtQ")
    assert until(tab, "qtq-to-come", "With each step") == "With each step the summary grows here."
    offered = "[...document.querySelectorAll('#qtq-prepared button, #qtq-prepared tbody tr')].filter(e => e.innerText)"
    expected = [question.instruction for question in prepared(Language.EN)]
    tab.wait(f"{offered}.length === 9")
    assert tab.value(f"{offered}[8].innerText.trim()").startswith(expected[8][:20])
    tab.click(f"{offered}[8]")
    tab.wait(f"document.querySelector('#qtq-question textarea').value === {json.dumps(expected[8])}")


def test_stop_ends_an_answer_on_its_way(tab: Tab) -> None:
    write(tab, "ask-question", LONG_STORY)
    press(tab, "ask-run")
    until(tab, "ask-shown", "Manager 3 ")
    press(tab, "ask-stop")
    assert "Manager 300 " not in until(tab, "ask-shown", "Stopped.")


def test_two_models_stand_side_by_side(tab: Tab) -> None:
    go(tab, "Compare")
    write(tab, "compare-questions", f"{QUESTION}\nWho tells the managers?")
    press(tab, "compare-run")
    tab.wait("document.querySelectorAll('#compare-shown .bonsai-card').length === 4")
    tab.wait("!document.querySelector('#compare-shown').innerText.includes('Thinking')")
    shown = text(tab, "compare-shown")
    assert shown.count("scripted · ") == shown.count("tiny-llama · ") == 2


@pytest.mark.parametrize(
    ("language", "width", "told"), [("English", 1280, "right language"), ("日本語", 390, "言語が正しい")]
)
def test_below_the_answers_stands_what_was_measured_of_them(
    tab: Tab, address: str, language: str, width: int, told: str
) -> None:
    visit(tab, address, width=width)
    go(tab, "Compare")
    tab.click(f"[...document.querySelectorAll('#tongue label')].find(e => e.innerText.includes('{language}'))")
    write(tab, "compare-questions", f"{QUESTION}\nWho tells the managers?")
    samples = "document.querySelector('#compare-samples input[type=number]')"
    tab.click(samples)
    tab.value(f"{samples}.value = '2'; {samples}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    press(tab, "compare-run")
    assert told in tab.wait("document.querySelector('#compare-shown .bonsai-figures')?.innerText")
    figure = "[...document.querySelectorAll('#compare-shown [data-measure={}] td')].map(e => parseFloat(e.innerText))"
    assert tab.value(figure.format("stability"))[0] == 1, "the scripted model says the same each time"
    assert tab.value(figure.format("reasoning"))[0] == 100
    assert min(tab.value(figure.format("speed"))) > 0
    assert tab.value("document.querySelectorAll('#compare-shown svg rect.warm').length") == 4
    assert tab.value("document.documentElement.scrollWidth") <= width


def test_what_was_answered_stays_when_the_next_model_fails(tab: Tab) -> None:
    go(tab, "Compare")
    tab.click("[...document.querySelectorAll('#compare-models label')].find(e => e.innerText.includes('tiny-llama'))")
    write(tab, "compare-questions", f"{QUESTION}\nBreak down?")
    press(tab, "compare-run")
    assert "secret trouble" in tab.wait("document.querySelector('#compare-shown [role=alert]')?.innerText")
    shown = text(tab, "compare-shown")
    assert "Blame falls on whoever speaks first." in shown
    assert "No answer." in shown


def test_a_reader_browses_parallel_texts(tab: Tab) -> None:
    go(tab, "Browse")
    until(tab, "browse-shown", "open_qa-0001")
    assert tab.value("document.querySelectorAll('#browse-shown .bonsai-card:first-child .bonsai-parallel').length") == 2
    press(tab, "browse-later")
    until(tab, "browse-shown", "open_qa-0007")
    tab.click("[...document.querySelectorAll('#browse-languages label')].find(e => e.innerText.includes('Chinese'))")
    tab.wait("document.querySelectorAll('#browse-shown .bonsai-parallel[lang=zh]').length === 6")
    write(tab, "browse-search", "味噌")
    tab.wait("[...document.querySelectorAll('#browse-shown article')].every(e => e.innerText.includes('味噌'))")
    tab.click("document.querySelector('#browse-category input')")
    choice = "[...document.querySelectorAll('[role=option]')].find(e => e.innerText.includes('translation'))"
    tab.wait(choice)
    tab.click(choice)
    tab.wait("!document.querySelector('#browse-shown').innerText.includes('open_qa-')")


def test_the_page_speaks_japanese_and_english(tab: Tab) -> None:
    write(tab, "ask-question", "kept")
    tab.click("[...document.querySelectorAll('#tongue label')].find(e => e.innerText.includes('日本語'))")
    tab.wait("document.body.innerText.includes('答えは間違うことがあります')")
    assert tab.value("document.querySelector('#ask-run').innerText") == "尋ねる"
    assert tab.value("document.querySelector('#ask-question textarea').value") == "kept"
    go(tab, "読む")
    until(tab, "browse-shown", "出所")
    tab.click("[...document.querySelectorAll('#tongue label')].find(e => e.innerText.includes('English'))")
    go(tab, "Compare")


@pytest.mark.parametrize("name", ["Ask", "QtQ", "Compare", "Browse"])
def test_nothing_is_wider_than_a_phone(tab: Tab, address: str, name: str) -> None:
    visit(tab, address, width=390)
    go(tab, name)
    tab.wait("document.documentElement.scrollWidth <= 390", seconds=5)
    if name == "Ask":
        write(tab, "ask-question", QUESTION)
        press(tab, "ask-run")
        until(tab, "ask-shown", "tokens")
        assert tab.value("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize(
    ("question", "told"), [("", "Write a question."), ("Break down", "secret trouble"), ("too long", "500")]
)
def test_what_goes_wrong_is_a_sentence_and_never_a_stack_trace(tab: Tab, question: str, told: str) -> None:
    if question == "too long":  # past the field's own limit, as a program would send it
        field = "document.querySelector('#ask-question textarea')"
        tab.value(f"{field}.value = 'why '.repeat(500); {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")
    elif question:
        write(tab, "ask-question", question)
    press(tab, "ask-run")
    shown = tab.wait("document.querySelector('#ask-shown [role=alert]')?.innerText")
    assert told in shown
    assert "Traceback" not in tab.value("document.body.innerText")


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {}, 200),
        ("GET", {"Host": "evil.example"}, 421),
        ("GET", {"Host": "["}, 421),
        ("POST", {"Origin": "http://evil.example", "Content-Length": "2"}, 403),
        ("POST", {"Origin": "null", "Content-Length": "2"}, 403),
        ("POST", {"Content-Length": "9999999"}, 413),
        ("POST", {"Transfer-Encoding": "chunked"}, 411),
    ],
)
def test_only_the_page_itself_may_ask(address: str, method: str, headers: dict[str, str], status: int) -> None:
    where = urlsplit(address).netloc
    with contextlib.closing(http.client.HTTPConnection(where, timeout=30)) as connection:
        connection.putrequest(method, "/", skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        assert answer.status == status
        if status == 200:
            assert "default-src 'self'" in (answer.getheader("Content-Security-Policy") or "")
