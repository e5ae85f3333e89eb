"""A base in a folder of this machine, and what stands once a run has ended, whatever its extras run into."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from rich.console import Console

from bonsai.builder.errors import ReleaseError
from bonsai.recipes.inference.model_source import AdapterSource, inspect_path
from bonsai.recipes.training.checkpoints import InterruptHandler, TrainingInterruptedError, find_latest_valid_checkpoint
from bonsai.recipes.training.gguf import base_commit
from bonsai.recipes.training.recipe import Recipe, RecipeError
from bonsai.recipes.training.release import adapter_release, folder_base
from bonsai.recipes.training.run_record import RunRecord, read_record
from bonsai.recipes.training.train import train
from tests.recipes.tiny import write_tiny_llama

WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("bases") / "my-base")


def recipe_on(base: Path, **changed: Any) -> Recipe:
    settings: dict[str, Any] = {
        "repo_id": "qeu/bonsai-twig", "base_model": str(base), "base_model_license": "mit",
        "dataset_revision": "v0.1.0", "categories": ("classification",), "languages": ("en",), "r": 4,
        "max_steps": 2, "max_length": 4096, "max_eval_samples": 2, "needs_gpu": False,
    }  # fmt: skip
    return Recipe(**{**settings, **changed})


class Stream(io.StringIO):
    """A terminal that fails with this error as soon as Japanese is printed on it: that is, with the diagnosis."""

    def __init__(self, error: BaseException | None = None) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        if self._error is not None and any("ぁ" <= character <= "ん" for character in text):
            raise self._error
        return super().write(text)


def run(recipe: Recipe, place: Path, dataset: Path, stream: Stream, **changed: Any) -> RunRecord:
    console = Console(file=stream, width=200)
    return train(
        "twig", recipe, dataset=dataset, out=place / "adapters" / "twig", checkpoints=place / "checkpoints" / "twig",
        console=console, stopping=InterruptHandler(), **changed,
    )  # fmt: skip


def test_a_base_in_a_folder_is_trained_asked_and_not_published(base: Path, dataset: Path, tmp_path: Path) -> None:
    recipe = recipe_on(base)
    record = run(recipe, tmp_path, dataset, Stream())
    adapter = tmp_path / "adapters" / "twig"
    assert record.base_model == str(base)
    assert record.base_model_commit == base_commit(str(base), "")
    assert inspect_path(adapter) == AdapterSource(folder=adapter, base=str(base), base_revision=None)
    with pytest.raises(ReleaseError, match=f"the folder {base} of this machine.*`hf upload OWNER/NAME {base}`"):
        adapter_release(HfApi(endpoint="http://127.0.0.1:9"), recipe, adapter, "qeu/bonsai-twig")


def test_folder_base_names_the_hub_id_in_its_config(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "_name_or_path": "some/model"}))
    said = [*folder_base(_Record(str(copy))), *folder_base(_Record("microsoft/phi-2"))]  # type: ignore[arg-type]
    assert [line.count("its config.json names some/model") for line in said] == [1]


@dataclasses.dataclass(frozen=True)
class _Record:
    base_model: str
    adapter_repo: str = "qeu/bonsai-twig"


def test_base_commit_hashes_a_folder_without_its_bookkeeping(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / ".cache" / "copy")
    commit = base_commit(str(base), "")
    (copy / "README.md").write_text("a card")
    (copy / ".cache" / "huggingface").mkdir(parents=True)
    (copy / ".cache" / "huggingface" / "stamp").write_text("now")
    assert base_commit(str(copy), commit) == commit
    (copy / "generation_config.json").write_text("{}")
    with pytest.raises(RecipeError, match=f"holds other files than the recipe pins.*base_model_revision is {commit}"):
        base_commit(str(copy), commit)
    with pytest.raises(RecipeError, match=r"holds no config.json; give a folder"):
        base_commit(str(tmp_path), "")


@pytest.mark.parametrize(("target", "hint"), [("q_prj", "did you mean q_proj"), ("fc1", "its linear layers are down_")])
def test_a_target_that_the_base_lacks_is_refused(
    target: str, hint: str, base: Path, dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=f"target_modules has '{target}', which .*{hint}"):
        run(recipe_on(base, target_modules=("v_proj", target)), tmp_path, dataset, Stream())
    assert not (tmp_path / "adapters" / "twig").exists()


def test_train_refuses_an_unknown_architecture_in_a_sentence(base: Path, dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "model_type": "nonesuch"}))
    with pytest.raises(RecipeError, match=r"copy: cannot be trained here, .*nonesuch.*; choose another base"):
        run(recipe_on(copy), tmp_path, dataset, Stream())


def test_an_adapter_is_in_place_whatever_its_extras_run_into(base: Path, dataset: Path, tmp_path: Path) -> None:
    stream = Stream(UnicodeEncodeError("cp932", "", 0, 1, "illegal multibyte sequence"))
    (tmp_path / "no-folder").write_text("where llama.cpp's converter should be kept")
    run(recipe_on(base), tmp_path, dataset, stream, llama_cpp=tmp_path / "no-folder")
    adapter = tmp_path / "adapters" / "twig"
    assert (adapter / WEIGHTS).is_file()
    assert [point.step for point in read_record(adapter).losses] == [1, 2]
    assert (adapter / "training" / "loss.png").is_file()
    for missing in ("the diagnosis is missing (UnicodeEncodeError", "the GGUF adapter is missing (FileExistsError"):
        assert stream.getvalue().count(missing) == 1
    assert not (tmp_path / "checkpoints" / "twig").exists()


def test_train_stopped_at_an_extra_writes_the_rest_on_resume(base: Path, dataset: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapters" / "twig"
    with pytest.raises(
        TrainingInterruptedError, match=f"stopped at the diagnosis; the adapter is complete in {adapter}, and .*--res"
    ):
        run(recipe_on(base), tmp_path, dataset, Stream(KeyboardInterrupt()))
    weights = (adapter / WEIGHTS).read_bytes()
    assert find_latest_valid_checkpoint(tmp_path / "checkpoints" / "twig") is not None
    stream = Stream()
    run(recipe_on(base), tmp_path, dataset, stream, resume=True)
    assert "resuming from step 2" in stream.getvalue()
    assert (adapter / WEIGHTS).read_bytes() == weights
    assert (adapter / "training" / "diagnosis.json").is_file()
