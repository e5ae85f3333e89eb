"""A runtime that lost its whole disk goes on from the checkpoint on the Hub."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from rich.console import Console
from safetensors.torch import save_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.training.checkpoints import RunProgress, find_latest_valid_checkpoint, write_manifest
from bonsai.recipes.training.hub_checkpoints import (
    HubCheckpointCallback,
    branch_aside,
    checkpoints_repo,
    download_latest_checkpoint,
    push_checkpoint,
)
from bonsai.recipes.training.recipe import RecipeError
from bonsai.recipes.training.train import find_start
from tests.conftest import Run
from tests.recipes.stopping import stopped_by_sigterm

_numbers = count(1)


@pytest.fixture
def api(far_hub: HubAddress) -> HfApi:
    return HfApi(endpoint=far_hub.endpoint, token=far_hub.token)


@pytest.fixture
def repo_id() -> str:
    return checkpoints_repo(f"qeu/resumed-{next(_numbers)}")


class Bomb:
    """What a pickle can do."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch bomb-went-off",)


def checkpoint(folder: Path, step: int, state: object = None) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"a": torch.full((4,), float(step))}, path / "adapter_model.safetensors")
    torch.save({"step": step, "exp_avg": torch.ones(2)} if state is None else state, path / "optimizer.pt")
    torch.save(Bomb(), path / "training_args.bin")
    write_manifest(path, RunProgress(identity="run", validation_loss_before=3.0, seconds=float(step)))
    return path


def folders(api: HfApi, repo_id: str) -> set[str]:
    return {path.partition("/")[0] for path in api.list_repo_files(repo_id) if "/" in path}


def test_a_checkpoint_comes_back_as_it_was_without_the_pickle(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    made = checkpoint(tmp_path / "lost", 7)
    push_checkpoint(api, made, repo_id)
    weights = (made / "adapter_model.safetensors").read_bytes()
    shutil.rmtree(tmp_path / "lost")
    found = download_latest_checkpoint(api, repo_id, tmp_path / "new")
    assert found is not None
    assert found == find_latest_valid_checkpoint(tmp_path / "new")
    assert (found.step, found.progress.seconds) == (7, 7.0)
    assert (found.path / "adapter_model.safetensors").read_bytes() == weights
    assert not (found.path / "training_args.bin").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["checkpoint-7"]


def test_fresh_run_keeps_earlier_hub_checkpoints_on_a_branch(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    assert branch_aside(api, repo_id) is None
    push_checkpoint(api, checkpoint(tmp_path / "old", 50), repo_id)
    said = io.StringIO()
    keeper = HubCheckpointCallback(api, repo_id, Console(file=said, width=300), keep_aside=True)
    arguments = TrainingArguments(output_dir=str(tmp_path / "new"), use_cpu=True)
    for step in (1, 2, 3):  # the third tidies the repo's history
        checkpoint(tmp_path / "new", step)
        keeper.on_save(arguments, TrainerState(global_step=step), TrainerControl())
        keeper.on_train_end(arguments, TrainerState(), TrainerControl())
    assert folders(api, repo_id) == {"checkpoint-2", "checkpoint-3"}
    (branch,) = [one.name for one in api.list_repo_refs(repo_id).branches if one.name != "main"]
    assert said.getvalue().count(f"they are kept on its branch {branch}") == 1
    api.snapshot_download(repo_id, revision=branch, local_dir=tmp_path / "back")
    found = find_latest_valid_checkpoint(tmp_path / "back")
    assert found is not None
    assert found.step == 50


def test_only_a_few_branches_of_earlier_runs_are_kept(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    push_checkpoint(api, checkpoint(tmp_path, 7), repo_id)
    head = str(api.repo_info(repo_id).sha)
    for name in ("step900-20240507-000000", "step1-20240507-000001", "mine"):
        api.create_branch(repo_id, branch=name, revision=head)
    made = branch_aside(api, repo_id)
    names = {one.name for one in api.list_repo_refs(repo_id).branches}
    assert names == {"main", "mine", "step1-20240507-000001", made}


def test_the_repo_is_private_and_keeps_two(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    for step in (10, 20, 30):
        push_checkpoint(api, checkpoint(tmp_path, step), repo_id)
    assert api.repo_info(repo_id).private
    assert folders(api, repo_id) == {"checkpoint-20", "checkpoint-30"}
    assert len(api.list_repo_commits(repo_id)) == 1, "the history would hold what was tidied away"


def test_a_new_run_takes_the_place_of_an_abandoned_one(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    push_checkpoint(api, checkpoint(tmp_path / "old", 500), repo_id)
    push_checkpoint(api, checkpoint(tmp_path / "new", 5), repo_id)
    found = download_latest_checkpoint(api, repo_id, tmp_path / "fetched")
    assert found is not None
    assert found.step == 5


def test_pushing_the_same_checkpoint_again_makes_no_commit(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    made = checkpoint(tmp_path, 3)
    assert push_checkpoint(api, made, repo_id) == push_checkpoint(api, made, repo_id)


@pytest.mark.parametrize("damage", ["changed", "missing", "more than the manifest names"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(damage: str, api: HfApi, repo_id: str, tmp_path: Path) -> None:
    for step in (1, 2):
        push_checkpoint(api, checkpoint(tmp_path, step), repo_id)
    match damage:
        case "changed":
            api.upload_file(path_or_fileobj=b"x", path_in_repo="checkpoint-2/optimizer.pt", repo_id=repo_id)
        case "missing":
            api.delete_file("checkpoint-2/bonsai.json", repo_id)
        case _:
            api.upload_file(path_or_fileobj=b"x", path_in_repo="checkpoint-2/adapter_model.bin", repo_id=repo_id)
    told: list[str] = []
    found = download_latest_checkpoint(api, repo_id, tmp_path / "fetched", tell=told.append)
    assert found is not None
    assert found.step == 1
    assert told == [f"checkpoint-2 in {repo_id} is incomplete; looking at the one before"]


def test_state_that_would_run_code_is_refused(
    api: HfApi, repo_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    push_checkpoint(api, checkpoint(tmp_path, 4, state=Bomb()), repo_id)
    with pytest.raises(RecipeError, match=r"optimizer\.pt of checkpoint-4 does not load as plain state"):
        download_latest_checkpoint(api, repo_id, tmp_path / "fetched")
    assert not (tmp_path / "bomb-went-off").exists()
    assert list((tmp_path / "fetched").iterdir()) == []


def test_state_on_this_disk_that_would_run_code_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint(tmp_path / "checkpoints", 4, state=Bomb())
    with pytest.raises(RecipeError, match=r"optimizer\.pt of checkpoint-4 does not load as plain state"):
        find_start("tiny", tmp_path / "checkpoints", "run", Console(file=io.StringIO()), resume=True)
    assert not (tmp_path / "bomb-went-off").exists()


def test_a_public_repo_gets_no_checkpoint(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    api.create_repo(repo_id)
    with pytest.raises(RecipeError, match="is public; a checkpoint is not for readers"):
        push_checkpoint(api, checkpoint(tmp_path, 1), repo_id)


def test_a_checkpoint_that_is_not_sealed_stays_at_home(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    made = checkpoint(tmp_path, 1)
    (made / "bonsai.json").unlink()
    with pytest.raises(RecipeError, match="not a sealed checkpoint"):
        push_checkpoint(api, made, repo_id)


def test_download_latest_checkpoint_returns_none_without_one(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    assert download_latest_checkpoint(api, repo_id, tmp_path) is None


def saved(callback: HubCheckpointCallback, folder: Path, step: int) -> None:
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[])
    callback.on_save(arguments, TrainerState(global_step=step), TrainerControl())


def ended(callback: HubCheckpointCallback, folder: Path) -> None:
    arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[])
    callback.on_train_end(arguments, TrainerState(), TrainerControl())


def test_training_pushes_its_last_checkpoint_before_it_ends(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    callback = HubCheckpointCallback(api, repo_id, Console(file=io.StringIO()))
    for step in (1, 2, 3, 4):
        checkpoint(tmp_path, step)
        saved(callback, tmp_path, step)
    ended(callback, tmp_path)
    assert "checkpoint-4" in folders(api, repo_id)


def test_training_goes_on_when_the_hub_refuses_its_checkpoint(api: HfApi, repo_id: str, tmp_path: Path) -> None:
    said = io.StringIO()
    callback = HubCheckpointCallback(
        HfApi(endpoint=api.endpoint, token="wrong"), repo_id, Console(file=said, width=300)
    )
    checkpoint(tmp_path, 1)
    saved(callback, tmp_path, 1)
    ended(callback, tmp_path)
    assert "checkpoint-1 is on this disk only: the Hub refused the token (401)" in said.getvalue()


@pytest.mark.slow
def test_a_run_whose_disk_is_gone_goes_on_to_the_same_bytes(
    dataset: Path,
    far_hub: HubAddress,
    tiny_base: str,
    bonsai: Run,
    recipes_folder: Path,
    api: HfApi,
    repo_id: str,
    tmp_path: Path,
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for place in (whole, cut):
        shutil.copytree(dataset, place / "out" / "dataset")
    arguments = ["train", "tiny", "--max-steps", "60"]
    bonsai(*arguments, cwd=whole, **far_hub.environment())
    stopped_by_sigterm(arguments, at="6/60", cwd=cut, recipes=recipes_folder, hub=far_hub)
    stopped = find_latest_valid_checkpoint(cut / "out" / "checkpoints" / "tiny")
    assert stopped is not None
    push_checkpoint(api, stopped.path, repo_id)
    shutil.rmtree(cut)

    shutil.copytree(dataset, cut / "out" / "dataset")
    found = download_latest_checkpoint(api, repo_id, cut / "out" / "checkpoints" / "tiny")
    assert found is not None
    assert found.step == stopped.step
    told = bonsai(*arguments, "--resume", cwd=cut, **far_hub.environment()).stdout
    assert f"resuming from step {found.step}" in told
    adapter = "out/adapters/tiny/adapter_model.safetensors"
    assert (cut / adapter).read_bytes() == (whole / adapter).read_bytes()
    losses = [json.loads((at / "out/adapters/tiny/training/run.json").read_text())["losses"] for at in (whole, cut)]
    assert losses[0] == losses[1]
