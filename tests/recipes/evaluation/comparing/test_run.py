"""A comparison run for real, on random models of a few thousand weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bonsai.builder.errors import EvaluationError
from bonsai.builder.prompt import RESPONSE_MARKER
from bonsai.recipes.evaluation.comparison.compare import ANSWERS, ComparisonConfig, compare
from bonsai.recipes.evaluation.comparison.record import Comparison
from bonsai.recipes.inference.generation import BLOG_POST, GenerationError
from tests.recipes.evaluation.comparing.conftest import Tiny
from tests.recipes.evaluation.comparing.made import listed
from tests.recipes.inference.models.openai_server import Body, Fault, OpenAIServer, question, serving

PLAN = ComparisonConfig(
    lists=("rivers",),
    questions=tuple(listed(number) for number in (1, 2, 3)),
    samples=2,
    decoder_name="post",
    decoder=replace(BLOG_POST, max_new_tokens=6, temperature=1.0),
)
AT_LENGTH = replace(PLAN, decoder=BLOG_POST)
THOUGHT = f"It is the longest.\n\n{RESPONSE_MARKER}The Shinano."


class Heard:
    """What the person at the keyboard is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def __call__(self, model: str, done: int, total: int) -> None:
        self.lines.append((model, done, total))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Comparison]:
    def run(
        *sources: str, plan: ComparisonConfig = PLAN, told: Callable[[str, int, int], None] | None = None
    ) -> Comparison:
        return compare(sources, plan, folder=tmp_path, out=tmp_path / "out", on_progress=told or Heard())

    return run


def said(comparison: Comparison) -> dict[tuple[str, str, int], str]:
    return {
        (one.model, one.question, one.sample): one.answer.reasoning + "|" + one.answer.answer
        for one in comparison.answers
    }


def test_each_model_answers_each_question_as_often_as_wanted_and_each_time_anew(
    tiny: Tiny, run: Callable[..., Comparison]
) -> None:
    heard = Heard()
    found = run(tiny.base, tiny.adapter, told=heard)
    texts = said(found)
    assert len(texts) == 2 * 3 * 2
    assert [side.name for side in found.models] == [tiny.base, tiny.adapter]
    assert [(side.device, side.failed_because) for side in found.models] == [("CPU", None)] * 2
    assert texts[tiny.base, "q1", 1] != texts[tiny.base, "q1", 2]
    assert texts[tiny.base, "q1", 1] != texts[tiny.adapter, "q1", 1]
    assert heard.lines[0] == (tiny.base, 0, 6)
    assert heard.lines[-1] == (tiny.adapter, 6, 6)
    assert [done.sample for done in found.models[0].rounds] == [1, 2]
    assert found.models[0].rounds[0].seconds > 0


def test_an_interrupted_run_goes_on_where_it_stopped_and_comes_to_the_same(
    tiny: Tiny, run: Callable[..., Comparison], tmp_path: Path
) -> None:
    whole = run(tiny.base, tiny.adapter)
    for file in (tmp_path / ANSWERS).iterdir():
        file.unlink()

    def impatient(model: str, done: int, total: int) -> None:
        if (model, done) == (tiny.adapter, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny.base, tiny.adapter, told=impatient)
    half = max((tmp_path / ANSWERS).glob("*.jsonl"), key=lambda file: file.stat().st_mtime_ns)
    half.write_bytes(half.read_bytes() + b'{"key": "a killed process left th')
    heard = Heard()
    again = run(tiny.base, tiny.adapter, told=heard)
    assert said(again) == said(whole)
    assert (tiny.base, 6, 6) in heard.lines
    assert heard.lines[1] == (tiny.adapter, 2, 6)


def test_another_decoder_or_question_is_asked_for_anew(tiny: Tiny, run: Callable[..., Comparison]) -> None:
    run(tiny.base)
    heard = Heard()
    run(tiny.base, plan=replace(PLAN, decoder=replace(PLAN.decoder, temperature=0.9)), told=heard)
    assert heard.lines[0] == (tiny.base, 0, 6)
    heard = Heard()
    run(tiny.base, plan=replace(PLAN, questions=(*PLAN.questions, listed(4))), told=heard)
    assert heard.lines[0] == (tiny.base, 6, 8)


def test_a_model_that_fails_does_not_take_the_others_answers_along(tiny: Tiny, run: Callable[..., Comparison]) -> None:
    found = run(tiny.broken, tiny.base)
    failed, fine = found.models
    assert failed.failed_because is not None
    assert "cannot be loaded" in failed.failed_because
    assert fine.failed_because is None
    assert {one.model for one in found.answers} == {tiny.base}


def test_who_stands_behind_an_address_is_asked_anew_once_a_run_is_complete(run: Callable[..., Comparison]) -> None:
    with serving(OpenAIServer(says=lambda body: THOUGHT, models=("small", "large"))) as server:
        names = [f"{server.base_url}#small", f"{server.base_url}#large"]
        found = run(*names, plan=AT_LENGTH)
        asked = len(server.bodies)
        run(*names, plan=AT_LENGTH)
        assert len(server.bodies) == 2 * asked
    assert {one.answer.answer for one in found.answers} == {"The Shinano."}
    assert [(side.device, side.usd_per_hour, side.failed_because) for side in found.models] == [(None, None, None)] * 2
    assert found.models[0].unheeded == ("repetition_penalty",)


def test_answers_that_came_before_an_address_failed_are_kept(run: Callable[..., Comparison]) -> None:
    def refuses(body: Body, number: int) -> Fault | None:
        return Fault(status=400, error="too long") if "number 2" in question(body) and refusing else None

    refusing = True
    with serving(OpenAIServer(says=lambda body: THOUGHT, fault=refuses)) as server:
        (side,) = (found := run(f"{server.base_url}#small", plan=AT_LENGTH)).models
        assert side.failed_because is not None
        assert "too long" in side.failed_because
        before = {(one.question, one.sample) for one in found.answers}
        assert ("q1", 1) in before
        assert ("q2", 1) not in before
        refusing = False
        asked = len(server.bodies)
        again = run(f"{server.base_url}#small", plan=AT_LENGTH)
        assert len(again.answers) == 6
        assert not any("number 1" in question(body) and body["seed"] == 42 for body in server.bodies[asked:])


def test_when_no_model_answers_the_reason_is_the_error(tiny: Tiny, run: Callable[..., Comparison]) -> None:
    with pytest.raises(GenerationError, match=r"broken cannot be loaded"):
        run(tiny.broken)


def test_a_model_that_cannot_be_is_told_before_any_is_asked(
    tiny: Tiny, run: Callable[..., Comparison], tmp_path: Path
) -> None:
    heard = Heard()
    with pytest.raises(GenerationError, match=r"the address of localhost contains a password"):
        run(tiny.base, "http://me:secret@localhost/v1", told=heard)
    assert heard.lines == []
    with pytest.raises(EvaluationError, match=r"given twice"):
        run(tiny.base, tiny.base)
    with pytest.raises(EvaluationError, match=r"no model to compare; give two or more"):
        run()
    assert not (tmp_path / ANSWERS).exists()
