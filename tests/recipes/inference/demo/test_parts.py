"""What stands behind the page, without a browser."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence

import pytest
import yaml

from bonsai.builder.errors import AskingError, BonsaiError, DemoError, UserInputError
from bonsai.recipes.demo.background import (
    LONGEST_QUESTION,
    MOST_QUESTIONS,
    ActiveRuns,
    BackgroundStream,
    check_question,
    error_message,
    parse_questions,
)
from bonsai.recipes.demo.server import check_host
from bonsai.recipes.demo.space import PINNED, space_files
from bonsai.recipes.inference.conversation import LocalizedText
from bonsai.recipes.inference.generation import GREEDY, Engine, GenerationRequest, OnCompletion
from bonsai.recipes.inference.labels import DEMO_EN, DEMO_JA, Labels
from tests.recipes.evaluation.comparing.made import answer


class Endless(Engine):
    """An engine that writes on until its watcher raises."""

    name = "/home/somebody/model"

    def complete(self, requests: Sequence[GenerationRequest], on_completion: OnCompletion) -> None:
        (request,) = requests
        assert request.should_stop is not None
        text = ""
        while not request.should_stop(text):
            text += "on and "
            time.sleep(0.01)


def test_stopped_work_ends_between_two_tokens_and_is_no_error() -> None:
    visitors = ActiveRuns()
    running = BackgroundStream[str](
        "endless", Endless(), lambda engine, show: engine.generate([""], GREEDY) and None, visitors.begin("one")
    )
    threading.Timer(0.3, visitors.stop, ["one"]).start()
    assert list(running) == []
    assert running.was_stopped


def test_a_new_run_of_a_visitor_stops_the_one_before_and_nobody_elses() -> None:
    visitors = ActiveRuns()
    first, other = visitors.begin("one"), visitors.begin("two")
    second = visitors.begin("one")
    assert (first.is_set(), second.is_set(), other.is_set()) == (True, False, False)
    visitors.stop_all()
    assert second.is_set()
    assert other.is_set()


def test_the_newest_snapshot_is_shown_last_and_failures_come_out() -> None:
    def work(engine: Engine, show: Callable[[str], None]) -> None:
        assert engine.name == "a name for visitors"
        for number in range(50):
            show(f"{number}")
        raise AskingError("a sentence")

    shown: list[str] = []
    with pytest.raises(AskingError, match="a sentence"):
        shown.extend(BackgroundStream("a name for visitors", Endless(), work, threading.Event()))
    running = BackgroundStream("a name for visitors", Endless(), lambda engine, show: show("last"), threading.Event())
    assert list(running) == ["last"]


def test_an_error_of_ours_is_told_and_any_other_gets_a_number(caplog: pytest.LogCaptureFixture) -> None:
    assert error_message(BonsaiError("the question is empty"), DEMO_EN) == "the question is empty"
    try:
        raise ZeroDivisionError("a secret path")
    except ZeroDivisionError as error:
        sentence = error_message(error, DEMO_JA)
    assert "secret" not in sentence
    number = re.search(r"[0-9a-f]{6}", sentence)
    assert number is not None
    assert f"record {number.group()}" in caplog.text
    assert "a secret path" in caplog.text


@pytest.mark.parametrize("text", [None, "", "  \n"])
def test_an_empty_question_is_none(text: str | None) -> None:
    with pytest.raises(UserInputError, match="質問を書いてください"):
        check_question(text, DEMO_JA)
    with pytest.raises(UserInputError, match="Write a question"):
        parse_questions(text, DEMO_EN)


def test_questions_are_limited_in_length_and_number() -> None:
    assert parse_questions(" one \n\n two", DEMO_EN) == ["one", "two"]
    with pytest.raises(UserInputError, match=f"“Question” has 501 characters; the limit is {LONGEST_QUESTION}"):
        parse_questions("x" * 501, DEMO_EN)
    with pytest.raises(UserInputError, match=f"質問が6あります。{MOST_QUESTIONS}つまで"):
        parse_questions("\n".join("abcdef"), DEMO_JA)


@pytest.mark.parametrize(("labels", "told"), [(DEMO_EN, "It repeats itself."), (DEMO_JA, "同じ所を回りました。")])
def test_an_answer_of_two_passes_says_why(labels: Labels, told: str) -> None:
    pytest.importorskip("gradio")
    from bonsai.recipes.demo.components import render

    why = LocalizedText(en="It repeats itself.", ja="同じ所を回りました。")
    for reason in ("second_pass_because", "retried_because"):
        assert told in render("complete", answer("信濃川です。", **{reason: why}), labels)


def test_no_text_becomes_html() -> None:
    pytest.importorskip("gradio")
    from bonsai.recipes.demo.components import render

    evil = "<img src=x onerror=alert(1)>\"'"
    for html in (
        render("notice", evil, "error"),
        render("growing", evil, evil, evil, DEMO_EN),
        render("framed", f"<!doctype html>{evil}", evil),
        render("comparison", [evil], [evil], {}, DEMO_EN),
    ):
        assert "<img" not in html
        assert 'onerror=alert(1)>"' not in html


def test_others_may_come_only_under_a_name() -> None:
    check_host("127.0.0.1", [])
    check_host("0.0.0.0", ["demo.example"])
    with pytest.raises(DemoError, match=r"0\.0\.0\.0 is open to other machines; say under which names"):
        check_host("0.0.0.0", [])


CONSTRAINTS = "# a comment\n" + "".join(f"{name}==1.2.3\n" for name in PINNED) + "pytest==9\n"


def space(*models: str, constraints: str = CONSTRAINTS) -> dict[str, bytes]:
    return space_files(
        models,
        repo_id="qeu/bonsai-demo",
        source="https://github.com/qeu/bonsai",
        revision="v0.1.0",
        constraints=constraints,
        dataset="qeu/bonsai",
    )


def test_a_space_installs_pinned_versions_and_serves_the_models() -> None:
    files = space("qeu/bonsai-phi2-qtq@v0.1.0", "microsoft/phi-2")
    assert files.keys() == {"README.md", "app.py", "requirements.txt"}
    head = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert head["sdk"] == "gradio"
    assert head["sdk_version"] == "1.2.3"
    assert head["models"] == ["qeu/bonsai-phi2-qtq", "microsoft/phi-2"]
    assert len(head["short_description"]) <= 60
    requirements = files["requirements.txt"].decode().splitlines()
    assert requirements[0] == "qeu-bonsai[train,demo] @ git+https://github.com/qeu/bonsai@v0.1.0"
    assert "torch==1.2.3" in requirements
    assert "pytest==9" not in requirements
    app = files["app.py"].decode()
    compile(app, "app.py", "exec")
    assert "['qeu/bonsai-phi2-qtq@v0.1.0', 'microsoft/phi-2']" in app
    pytest.importorskip("gradio")
    imports = [line for line in app.splitlines() if line.startswith("from ")]
    exec("\n".join(imports), found := {})
    assert app.count("serve(") == 1
    assert "serve" in found


@pytest.mark.parametrize(
    ("models", "constraints", "told"),
    [
        ((), CONSTRAINTS, "needs a model"),
        (("seedling",), CONSTRAINTS, "'seedling' is not a repo on the Hub"),
        (('qeu/x"]);import os',), CONSTRAINTS, "is not a repo on the Hub"),
        (("qeu/x",), "torch==2\n", "the constraints pin no version of accelerate"),
    ],
)
def test_a_space_that_could_not_run_is_not_made(models: tuple[str, ...], constraints: str, told: str) -> None:
    with pytest.raises(DemoError, match=re.escape(told)):
        space(*models, constraints=constraints)
