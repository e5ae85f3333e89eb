"""`bonsai evaluate` on a tiny adapter, and the tasks it writes run by the lm-evaluation-harness itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from bonsai.builder.prompt import RESPONSE_MARKER, parse_response
from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.evaluation.items import read_items
from bonsai.recipes.evaluation.lm_eval import ANSWER, write_tasks
from bonsai.recipes.evaluation.results import read_evaluation
from bonsai.recipes.seedling import RECIPE
from tests.recipes.tiny import write_tiny_llama

COMMAND = """
import json, sys
from pathlib import Path
import bonsai.recipes
bonsai.recipes.__path__ = [*bonsai.recipes.__path__, sys.argv[1]]
from rich.console import Console
from bonsai.builder.errors import BonsaiError
from bonsai.cli.evaluate import evaluate
for options in json.loads(sys.argv[2]):
    try:
        fine = evaluate(
            "tiny", out=Path("out"), console=Console(width=150, highlight=False), **{"limit": 2, **options}
        )
        print("fine" if fine else "worse")
    except BonsaiError as error:
        print("error:", error)
    print("=====")
"""
"""several commands in one process: importing torch takes longer than a tiny model's answers"""


@pytest.fixture(scope="module")
def place(dataset: Path, tiny_base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the dataset and an adapter of random weights."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(dataset, place / "out" / "dataset")
    base = write_tiny_llama(place / "base")
    torch.manual_seed(1)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    adapted.save_pretrained(place / "out" / "adapters" / "tiny")
    return place


def evaluate(place: Path, recipes: Path, hub: HubAddress, *options: dict[str, str | bool]) -> list[str]:
    """What each of the commands said."""
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(recipes), json.dumps(options)],
        cwd=place,
        env={**os.environ, **hub.environment(), "HF_HOME": str(place / "hf-home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.split("=====\n")[:-1]


@pytest.fixture(scope="module")
def said(place: Path, recipes_folder: Path, far_hub: HubAddress) -> list[str]:
    """An adapter, its bare base, and two mistakes."""
    return evaluate(place, recipes_folder, far_hub, {}, {"base": True}, {"against": "v9.9.9"}, {"decoder": "lucky"})


@pytest.mark.slow
def test_the_command_writes_every_answer_a_page_and_the_tasks(said: list[str], place: Path) -> None:
    folder = place / "out" / "adapters" / "tiny" / "evaluation"
    made = read_evaluation(folder / "evaluation.json")
    assert {one.item.category for one in made.items if one.item.origin == "test"} == {"classification"}
    assert {one.item.language for one in made.items} == {"en"}
    assert any(one.after and one.after.generation.text != one.before.generation.text for one in made.items)
    assert made.settings.limit == 2
    assert "<h1>" in (folder / "evaluation.html").read_text(encoding="utf-8")
    assert (folder / "lm_eval" / "bonsai_test.yaml").is_file()
    assert "questions in" in said[0]
    assert said[0].endswith("fine\n")
    assert "kept from an earlier run" not in said[0]


@pytest.mark.slow
def test_the_bare_base_is_evaluated_alone_from_the_answers_it_gave_before(said: list[str], place: Path) -> None:
    assert said[1].count("kept from an earlier run") == 1
    made = read_evaluation(place / "out" / "base" / "tiny" / "evaluation" / "evaluation.json")
    assert made.settings.adapter_sha256 is None
    assert all(one.after is None for one in made.items)


@pytest.mark.slow
def test_what_is_not_there_to_compare_or_decode_with_is_named(said: list[str]) -> None:
    assert "v9.9.9 is not a folder, and qeu/bonsai-tiny has no evaluation/evaluation.json at that revision" in said[2]
    assert "no decoder is called 'lucky'; there are greedy, post" in said[3]


@pytest.mark.slow
def test_a_rerun_asks_nothing_twice_and_a_regression_is_told(
    said: list[str], place: Path, recipes_folder: Path, far_hub: HubAddress
) -> None:
    folder = place / "out" / "adapters" / "tiny" / "evaluation"
    better = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    for one in better["items"]:
        one["after"]["scores"]["reasoning"] = 1.0
    (place / "better").mkdir()
    (place / "better" / "evaluation.json").write_text(json.dumps(better), encoding="utf-8")
    kept = {path: path.read_bytes() for path in (place / "out" / "answers").iterdir()}
    same, worse = evaluate(place, recipes_folder, far_hub, {"against": str(folder)}, {"against": "better"})
    assert same.count("kept from an earlier run") == 2
    assert "0 better, 0 worse beyond chance" in same
    assert same.endswith("fine\n")
    assert re.search(r"Reasoning present .*worse", worse)
    assert worse.endswith("worse\n")
    assert {path: path.read_bytes() for path in (place / "out" / "answers").iterdir()} == kept


@pytest.mark.parametrize(
    "text",
    [
        f"Because.\n\n{RESPONSE_MARKER}Bern.\nOn the Aare.",
        f"{RESPONSE_MARKER}Bern.",
        "Bern, without any marker.\nOn the Aare.",
        "",
    ],
)
def test_the_harness_cuts_out_the_same_answer(text: str) -> None:
    found = re.compile(ANSWER).findall(text)[0]
    assert next((part for part in found if part), "") == parse_response(text).answer


HARNESS = os.environ.get("BONSAI_LM_EVAL") or shutil.which("lm_eval")


@pytest.mark.slow
@pytest.mark.skipif(HARNESS is None, reason="lm_eval is not installed, and BONSAI_LM_EVAL names no lm_eval")
def test_the_harness_itself_runs_the_tasks_without_a_network(dataset: Path, tmp_path: Path) -> None:
    base = write_tiny_llama(tmp_path / "base")
    folder = tmp_path / "tasks"
    write_tasks(read_items(RECIPE, dataset, limit=2), folder, base="b", adapter="a", max_new_tokens=8)
    command = f"{HARNESS} run --include_path . --tasks bonsai --model hf --model_args pretrained={base},dtype=float32"
    done = subprocess.run(
        [*command.split(), "--device", "cpu", "--limit", "2", "--output_path", str(tmp_path / "results")],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(next((tmp_path / "results").rglob("*.json")).read_text())["results"]
    assert {"exact_match,response", "chrf,response"} <= set(results["bonsai_test"])
    assert "bonsai_probes" in results
