"""The figures below the answers on the demo's page."""

from __future__ import annotations

import re

import pytest

from bonsai.builder.schema import Language
from bonsai.recipes.evaluation.comparison.record import Comparison, ModelRun
from bonsai.recipes.evaluation.comparison.report import render_figures
from bonsai.recipes.inference.conversation import Answer
from tests.recipes.evaluation.comparing.made import answer, comparison, round_

SAME = "The Shinano is the longest river of Japan."
ELSE = "Nobody knows what became of the emperor's cat."


def compared(said: dict[str, list[list[str | Answer]]]) -> Comparison:
    """By model, for each question the samples; each took two seconds for 40 tokens."""
    rounds = tuple(round_(sample=sample, tokens=40) for sample in range(1, 1 + len(next(iter(said.values()))[0])))
    return comparison(said, models=tuple(ModelRun(name=name, rounds=rounds) for name in said))


def cells(html: str, measure: str) -> list[str]:
    (row,) = re.findall(rf'data-measure="{measure}".*?</tr>', html, re.DOTALL)
    return [re.sub(r"<small>.*?</small>", "", cell) for cell in re.findall(r'<td class="number">(.*?)</td>', row)]


def test_the_figures_are_those_of_what_was_asked() -> None:
    japanese = answer("信濃川です。信濃川です。信濃川です。信濃川です。", stopped_by="length")
    html = render_figures(
        compared({"steady": [[SAME, SAME], [SAME, SAME]], "loose": [[SAME, ELSE], [japanese, SAME]]}), "en"
    )
    steady, loose = (float(cell) for cell in cells(html, "stability"))
    assert steady == 1 > loose
    assert cells(html, "language") == ["100 %", "75 %"]
    assert cells(html, "eos") == ["100 %", "75 %"]
    assert cells(html, "loop") == ["0 %", "25 %"]
    assert cells(html, "speed") == ["20.0", "20.0"]
    assert float(cells(html, "length")[0]) == len(SAME)
    assert html.count("<rect") == 8, "two for each square of two models by two"
    assert "What was measured" in html
    assert "測定結果" not in html


def test_one_question_asked_once_has_no_stability_and_no_interval() -> None:
    html = render_figures(compared({"one": [[SAME]], "other": [[ELSE]]}), "ja")
    assert 'data-measure="stability"' not in html
    assert "<small>" not in html
    assert "測定結果" in html
    assert "一つの質問からは" in html
    assert "What was measured" not in html


def test_a_single_model_asked_once_is_like_nobody() -> None:
    assert "<svg" not in render_figures(compared({"one": [[SAME]]}), "en")


@pytest.mark.parametrize("tongue", ["ja", "en"])
def test_a_name_brings_no_code_along(tongue: str) -> None:
    evil = "<img src=x onerror=alert(1)>\"'"
    html = render_figures(compared({evil: [[evil]], "other": [[answer(evil, language=Language.JA)]]}), tongue)  # type: ignore[arg-type]
    assert "<img" not in html
