"""A recipe trains on the dataset it pins: from the build if that is it, else from the Hub's release."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import HfApi

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress, run_hub
from bonsai.recipes.training.pinned_dataset import built_version
from tests.conftest import Run
from tests.recipes.tiny import write_tiny_llama

WEIGHTS = "out/adapters/again/adapter_model.safetensors"


def add_recipe(folder: Path, name: str = "again", revision: str = "v0.1.0") -> None:
    """The test's own recipe, pinned to a version of the dataset, where the command finds it."""
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / f"{name}.py").write_text(
        "import dataclasses\nfrom bonsai.recipes.tiny import RECIPE as TINY\n"
        f'RECIPE = dataclasses.replace(TINY, repo_id="qeu/bonsai-{name}", dataset_revision="{revision}")\n',
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubAddress]:
    with run_hub(tmp_path_factory.mktemp("again"), users={"qeu": "again-token"}) as address:
        yield address


def versioned(source: Path, target: Path, version: str, *, old: bool = False, rows: int | None = None) -> Path:
    """A build as another version: with the columns of before 0.2.0, or with fewer rows."""
    shutil.copytree(source, target)
    for path in target.rglob("*.parquet"):
        table = datasets.Dataset.from_parquet(str(path))
        if old and "history" in table.column_names:
            table = table.remove_columns("history").rename_columns({"license": "licence", "warnings": "doubts"})
        table.select(range(min(rows or len(table), len(table)))).to_parquet(path)
    croissant = json.loads((target / "croissant.json").read_text(encoding="utf-8"))
    (target / "croissant.json").write_text(json.dumps({**croissant, "version": version}), encoding="utf-8")
    return target


def publish(api: HfApi, name: str, kind: str, folder: Path, tag: str) -> None:
    publish_files(api, repo_id=name, repo_type=kind, files=folder_files(folder), message=tag, tag=tag)


@pytest.fixture(scope="module")
def first(dataset: Path, hub: HubAddress, bonsai: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which `again` was trained for two steps on v0.1.0, which is then succeeded by v0.2.0."""
    place = tmp_path_factory.mktemp("first")
    api = HfApi(endpoint=hub.endpoint, token=hub.token)
    publish(api, "qeu/tiny-llama", "model", write_tiny_llama(tmp_path_factory.mktemp("base") / "tiny"), "v1.0")
    old = versioned(dataset, place / "out" / "dataset", "0.1.0", old=True)
    publish(api, "qeu/bonsai", "dataset", old, "v0.1.0")
    add_recipe(place)
    bonsai("train", "again", "--max-steps", "2", cwd=place, **hub.environment())
    publish(api, "qeu/bonsai", "dataset", versioned(dataset, place / "new", "0.2.0", rows=40), "v0.2.0")
    return place


def card_command(card: str) -> list[str]:
    """The arguments of `bonsai` in the line of a card that trains its adapter again."""
    line = next(line for line in card.splitlines() if "nox -s train -- " in line)
    return shlex.split(line.rpartition("nox -s train -- ")[2])


@pytest.mark.slow
@pytest.mark.parametrize("place", ["an empty folder", "a build of v0.2.0"])
def test_an_adapter_is_trained_again_from_its_card_to_the_same_bytes(
    place: str, first: Path, hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    card = (first / "out" / "adapters" / "again" / "README.md").read_text(encoding="utf-8")
    if place == "a build of v0.2.0":
        shutil.copytree(first / "new", tmp_path / "out" / "dataset")
    add_recipe(tmp_path)
    bonsai("train", *card_command(card), cwd=tmp_path, **hub.environment())
    assert (tmp_path / WEIGHTS).read_bytes() == (first / WEIGHTS).read_bytes()
    records = [
        json.loads((folder / "out/adapters/again/training/run.json").read_text(encoding="utf-8"))
        for folder in (first, tmp_path)
    ]
    assert records[0]["dataset_content_hash"] == records[1]["dataset_content_hash"]
    assert records[1]["dataset_repo"] == "qeu/bonsai"


@pytest.mark.slow
def test_what_was_fetched_is_found_without_a_hub(first: Path, hub: HubAddress, bonsai: Run, tmp_path: Path) -> None:
    add_recipe(tmp_path)
    bonsai("train", "again", "--max-steps", "2", cwd=tmp_path, **hub.environment())
    shutil.rmtree(tmp_path / "out")
    bonsai("train", "again", "--max-steps", "2", cwd=tmp_path, **{**hub.environment(), "HF_HUB_OFFLINE": "1"})
    assert (tmp_path / WEIGHTS).read_bytes() == (first / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_a_version_that_nobody_has_is_refused_in_a_sentence(
    first: Path, hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    add_recipe(tmp_path, "mine", "v0.3.0")
    shutil.copytree(first / "new", tmp_path / "out" / "dataset")
    done = bonsai("train", "mine", "--max-steps", "2", cwd=tmp_path, check=False, **hub.environment())
    assert done.returncode == 1
    told = re.sub(r"\s+", " ", done.stderr)
    assert "qeu/bonsai-mine is pinned to dataset v0.3.0, but" in told
    assert "is v0.2.0, and qeu/bonsai v0.3.0 can't be fetched from" in told
    assert "Traceback" not in told


def test_a_builds_version_is_read_from_what_it_publishes(dataset: Path, tmp_path: Path) -> None:
    from bonsai.builder.bonsai import VERSION

    assert built_version(dataset) == f"v{VERSION}"
    assert built_version(tmp_path) is None
    (tmp_path / "croissant.json").write_text("[]")
    assert built_version(tmp_path) is None
