"""`bonsai plan` as a person and a program see it, over the real records."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bonsai.cli.plan import plan
from bonsai.recipes.training.recipe import RecipeError


@pytest.fixture(scope="module")
def out(dataset: Path) -> Path:
    return dataset.parent


def said(out: Path, name: str | None, base: str | None = None, *, gpus: int = 1, as_json: bool = False) -> str:
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        plan(name, base=base, gpus=gpus, out=out, as_json=as_json)
    return written.getvalue()


def test_a_recipes_plan_shows_memory_by_part_gpus_and_a_verdict(out: Path) -> None:
    text = said(out, "phi2_category")
    for expected in (
        "2.78 billion weights in NF4, r=16", "base in NF4", "optimizer (AdamW)", "kept activations", "logits and loss",
        "GPUメモリの内訳", "│ T4 ", "│ L4 ", "│ H100 ", "an NVIDIA H100 80GB HBM3 on 2026-", "T4 0.40",
    ):  # fmt: skip
        assert expected in text
    assert "phi2_category fits: it takes" in text
    assert "(an estimate)." in text


def test_json_says_the_same_and_adds_up(out: Path) -> None:
    made = json.loads(said(out, "phi2_category", as_json=True))
    assert sum(made["peak_by_part_gib"].values()) == pytest.approx(made["peak_gib"])
    assert made["runs_on_a_t4"] is True
    assert made["token_counts_are_the_base_models_own"] is True
    assert 0.95 < made["packing_efficiency"] <= 1
    assert made["steps"] * 2 >= made["micro_steps"] > made["steps"]
    assert made["tokens_in_the_run"] == pytest.approx(3 * made["tokens"], rel=0.02)
    assert [one["gpu"] for one in made["gpus"]] == ["T4", "L4", "A100 80 GB", "H100"]


def test_two_gpus_share_the_micro_steps_of_a_step(out: Path) -> None:
    alone, two = (json.loads(said(out, "phi2_category", gpus=gpus, as_json=True)) for gpus in (1, 2))
    assert two["steps"] == pytest.approx(alone["steps"], abs=3)
    assert two["micro_steps"] == pytest.approx(alone["micro_steps"] / 2, abs=3)
    assert two["tokens_in_the_run"] == pytest.approx(alone["tokens_in_the_run"], rel=0.02)
    for one, both in zip(alone["gpus"], two["gpus"], strict=True):
        assert 1.5 < one["minutes"]["high"] / both["minutes"]["high"] < 2
        assert both["usd"]["high"] > one["usd"]["high"]
    text = said(out, "phi2_category", gpus=2)
    for expected in ("│ 2 × T4", "accelerate launch --num_processes 2", "FSDP in its place", "on 2 of them"):
        assert expected in text


def test_the_seedlings_plan_is_for_a_cpu(out: Path) -> None:
    assert "seedling needs no GPU: about" in said(out, "seedling")


def test_phi_3_small_is_planned_by_its_id_and_told_what_stands_in_the_way(out: Path) -> None:
    made = json.loads(said(out, None, "microsoft/Phi-3-small-8k-instruct", as_json=True))
    assert made["runs_on_a_t4"] is False
    assert 11 < made["peak_gib"] < 14
    for obstacle in ("trust_remote_code", "Triton", "FlashAttention-2", "tiktoken", "bfloat16"):
        assert obstacle in made["verdict"]


def test_counts_with_a_stand_in_vocabulary_say_so(out: Path) -> None:
    assert "GPT-2's vocabulary, which stands in" in said(out, "phi3_mini")
    assert "stands in" not in said(out, "phi2_category")


@pytest.mark.parametrize(
    ("name", "base", "match"),
    [
        (None, None, "name a recipe"),
        ("phi2_categry", None, "did you mean phi2_category"),
        (None, "somebody/else", "somebody/else: nothing is known"),
    ],
)
def test_what_can_not_be_planned_is_said_in_a_sentence(
    out: Path, name: str | None, base: str | None, match: str
) -> None:
    with pytest.raises(RecipeError, match=match):
        said(out, name, base)


def test_without_a_dataset_the_plan_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nox -s build"):
        said(tmp_path, "phi2_category")


def test_a_plan_needs_neither_torch_nor_a_network(out: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bonsai.cli.plan import plan\n"
        f"plan('phi2_qtq', out=Path({str(out)!r}))\n"
        "sys.exit(sorted({'torch', 'transformers', 'trl'} & set(sys.modules)) or 0)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
