"""Models behind an address, asked by the real client of a real server that has its faults."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bonsai.builder.prompt import parse_response
from bonsai.hub.retry import RetryPolicy
from bonsai.recipes.inference.endpoint_engine import EndpointEngine
from bonsai.recipes.inference.generation import BLOG_POST, GREEDY, Completion, GenerationError, GenerationSettings
from bonsai.recipes.inference.model_source import EndpointSource
from tests.recipes.inference.models.openai_server import CHATML, OURS, Body, Fault, OpenAIServer, question, serving

QUICK: dict[str, Any] = {"retry": RetryPolicy(tries=3, first_wait=0.01, total=60.0), "silence": 0.5}
PROMPTS = [f"### Instruction:\n{name}\n\n### Reasoning:\n" for name in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_hub_alone")
    with serving(OpenAIServer(says=lambda body: f"{question(body)}!")) as one:
        yield one


def engine_at(server: OpenAIServer, model: str | None = "small", **settings: Any) -> EndpointEngine:
    return EndpointEngine.connect(EndpointSource(base_url=server.base_url, model=model), **{**QUICK, **settings})


def texts(generations: list[Completion]) -> list[str]:
    return [generation.text for generation in generations]


def test_answers_come_in_the_order_of_the_prompts_a_few_at_a_time(server: OpenAIServer) -> None:
    server.pause = 0.02
    told: dict[int, Completion] = {}
    engine = engine_at(server, parallel=3)
    generations = engine.generate(PROMPTS, GREEDY, on_answer=lambda place, one: told.update({place: one}))
    assert texts(generations) == ["one!", "two!", "three!", "four!", "five!", "six!"]
    assert [told[place] for place in range(6)] == generations
    assert server.most_at_once == 3
    assert engine.name == f"small @ {server.base_url.split('/')[2]}"


def test_an_answer_tells_what_ended_it_and_how_many_tokens_it_took(server: OpenAIServer) -> None:
    server.says = lambda body: "Rises.\n### Instruction:\nNext?"
    engine = engine_at(server)
    whole, stopped, cut = (
        engine.generate(PROMPTS[:1], decoder)[0]
        for decoder in (GenerationSettings(stop_strings=("§",)), GREEDY, GenerationSettings(max_new_tokens=4))
    )
    assert (whole.text, whole.tokens, whole.stopped_by) == ("Rises.\n### Instruction:\nNext?", 30, "eos")
    assert (stopped.text, stopped.stopped_by) == ("Rises.\n", "stop_string")
    assert (cut.text, cut.tokens, cut.stopped_by) == ("Rise", 5, "length")


def test_who_watches_sees_the_answer_grow_and_may_end_it(server: OpenAIServer) -> None:
    seen: list[tuple[int, str]] = []

    def watch(place: int, text: str) -> bool:
        seen.append((place, text))
        return len(text) == 3

    answer = engine_at(server).generate(PROMPTS[2:3], GREEDY, watch=watch)[0]
    assert seen == [(0, "t"), (0, "th"), (0, "thr")]
    assert (answer.text, answer.stopped_by) == ("thr", "watch")


def test_a_fault_in_who_watches_is_raised_as_it_is(server: OpenAIServer) -> None:
    def watch(place: int, text: str) -> bool:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        engine_at(server).generate(PROMPTS, GREEDY, watch=watch)


@pytest.mark.parametrize(
    "fault",
    [Fault(status=503), Fault(status=502), Fault(breaks_after=2), Fault(breaks_after=0), Fault(silent=1.0)],
    ids=["503", "502", "breaks off", "breaks at once", "silent"],
)
def test_what_passes_is_got_over(server: OpenAIServer, fault: Fault) -> None:
    server.fault = lambda body, number: fault if number == 1 else None
    assert texts(engine_at(server).generate(PROMPTS[:2], GREEDY)) == ["one!", "two!"]
    assert len(server.bodies) == 4


def test_a_pause_that_the_server_asks_for_is_kept(server: OpenAIServer) -> None:
    server.fault = lambda body, number: Fault(status=429, headers={"Retry-After": "1"}) if number == 1 else None
    started = time.monotonic()
    assert texts(engine_at(server).generate(PROMPTS[:1], GREEDY)) == ["one!"]
    assert time.monotonic() - started >= 1
    server.fault = lambda body, number: Fault(status=429, headers={"Retry-After": "3600"})
    with pytest.raises(GenerationError, match=r"answered 429 .*, and asked for a pause of 3600 s \(tried once\)"):
        engine_at(server).generate(PROMPTS[1:2], GREEDY)


def test_what_came_is_kept_and_the_error_says_how_much(server: OpenAIServer) -> None:
    server.fault = lambda body, number: Fault(status=500, error="out of memory") if question(body) == "four" else None
    told: dict[int, str] = {}
    with pytest.raises(
        GenerationError,
        match=r"^small @ 127\.0\.0\.1:\d+: 3 of 6 answers came; the server answered 500 \(Internal Server Error\): "
        r"out of memory \(tried 3 times\)$",
    ):
        engine_at(server, parallel=1).generate(
            PROMPTS, GREEDY, on_answer=lambda place, one: told.update({place: one.text})
        )
    assert told == {0: "one!", 1: "two!", 2: "three!"}
    assert not any(question(body) == "five" for body in server.bodies), "a server that is down is not asked on"


def test_a_prompt_that_is_refused_does_not_keep_the_others_from_being_asked(server: OpenAIServer) -> None:
    too_long = {"message": "maximum context length is 4096 tokens", "code": 400}
    server.fault = lambda body, number: Fault(status=400, error=too_long) if question(body) == "two" else None
    told: list[str] = []
    with pytest.raises(GenerationError, match=r"5 of 6 answers came; .*: maximum context length is 4096 tokens$"):
        engine_at(server).generate(PROMPTS, GREEDY, on_answer=lambda place, one: told.append(one.text))
    assert sorted(told) == ["five!", "four!", "one!", "six!", "three!"]
    assert sum(question(body) == "two" for body in server.bodies) == 1


def test_ctrl_c_does_not_wait_for_a_silent_server(server: OpenAIServer) -> None:
    server.fault = lambda body, number: None if question(body) == "one" else Fault(silent=1.5)

    def interrupt(place: int, one: Completion) -> None:
        raise KeyboardInterrupt

    engine = engine_at(server, parallel=2, silence=10)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPTS, GREEDY, on_answer=interrupt)
    assert time.monotonic() - started < 1.2
    time.sleep(1.6)
    assert len(server.bodies) <= 3, "nothing more is asked"


def test_a_server_that_is_not_there_is_a_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        at = EndpointSource(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", model="small")
        with pytest.raises(GenerationError, match=r"/v1: the server cannot be reached; .*\(tried 2 times\)"):
            EndpointEngine.connect(at, **QUICK)


def test_the_nearest_model_is_offered_and_a_single_one_needs_no_name(server: OpenAIServer) -> None:
    with pytest.raises(GenerationError, match=r"serves no model called 'smal'; did you mean small\?"):
        engine_at(server, "smal")
    assert engine_at(server, "small:groq").name.startswith("small:groq @ ")
    assert engine_at(server, None).name.startswith("small @ ")
    server.models = ("small", "large")
    with pytest.raises(GenerationError, match=r"name the model, .*/v1#MODEL or --model MODEL; it serves small, large"):
        engine_at(server, None)


def test_the_key_is_that_of_the_address_and_the_hubs_token_stays_home(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_at(server).generate(PROMPTS[:1], GREEDY)
    assert set(server.keys) == {"Bearer none"}
    server.key = "sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    with pytest.raises(GenerationError, match=r"refused the key \(401\); set OPENAI_API_KEY") as refused:
        engine_at(server)
    assert "sk-" not in str(refused.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    engine_at(server).generate(PROMPTS[:1], GREEDY)
    assert server.keys[-1] == "Bearer sk-secret"


def test_a_server_with_our_template_gets_the_very_prompt(server: OpenAIServer) -> None:
    server.template = OURS
    engine = engine_at(server)
    two_step = "あなたは良心的な科学者です。\n\n" + PROMPTS[0] + "Because.\n\n### Response:\n"
    engine.generate([two_step, PROMPTS[1]], BLOG_POST)
    assert {server.rendered(body) for body in server.bodies} == {two_step, PROMPTS[1]}
    assert {body["repetition_penalty"] for body in server.bodies} == {1.15}
    assert engine.unsupported_settings(BLOG_POST) == ()


@pytest.mark.parametrize("template", [None, CHATML], ids=["unknown", "vLLM"])
def test_any_other_model_answers_in_our_parts(server: OpenAIServer, template: str | None) -> None:
    server.template = template

    def says(body: Body) -> str:
        asked = body["messages"][0]["content"]
        return "### Reasoning:\nGas.\n\n### Response:\nIt rises." if "two parts" in asked else "It rises."

    server.says = says
    engine = engine_at(server)
    grown: list[str] = []
    one_pass = engine.generate(PROMPTS[:1], BLOG_POST, watch=lambda place, text: bool(grown.append(text)))[0].text
    assert parse_response(one_pass) == ("Gas.", "It rises.")
    assert not any("Reasoning" in text for text in grown)
    second_pass = engine.generate([PROMPTS[0] + "Gas.\n\n### Response:\n"], BLOG_POST)[0].text
    assert second_pass == "It rises."
    assert engine.unsupported_settings(BLOG_POST) == (() if template else ("repetition_penalty",))


def test_a_setting_that_a_model_refuses_is_left_out_and_told(server: OpenAIServer) -> None:
    def refuse(body: Body, number: int) -> Fault | None:
        for name in ("max_tokens", "temperature"):
            if name in body:
                told = {"message": f"Unsupported parameter: '{name}'", "param": name, "code": "unsupported_parameter"}
                return Fault(status=400, error=told)
        return None

    server.fault = refuse
    engine = engine_at(server)
    assert texts(engine.generate(PROMPTS[:1], GREEDY)) == ["one!"]
    assert server.bodies[-1]["max_completion_tokens"] == 256
    assert engine.unsupported_settings(GREEDY) == ("temperature",)
    engine.generate(PROMPTS[1:2], GREEDY)
    assert len(server.bodies) == 4, "it is not tried again with each prompt"


def test_an_address_of_something_else_is_a_sentence(server: OpenAIServer) -> None:
    engine = engine_at(server)
    server.says = lambda body: ""
    assert engine.generate(PROMPTS[:1], GREEDY)[0].text == ""
    elsewhere = EndpointEngine.connect(EndpointSource(base_url=server.base_url + "/nothing", model="small"), **QUICK)
    with pytest.raises(GenerationError, match=r"0 of 1 answers came; the server answered 404 \(Not Found\)"):
        elsewhere.generate(PROMPTS[:1], GREEDY)
