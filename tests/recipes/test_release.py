"""From the build to strangers who load it: the commands themselves, against a Hub that stands for the real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, hf_hub_download

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress
from bonsai.model_card.card import is_edited, python_snippets
from tests.conftest import TINY_RECIPE, Run
from tests.recipes.tiny import write_tiny_llama


def own_recipe(folder: Path, name: str) -> Path:
    """The file of a recipe that the command finds when it works in this folder."""
    (folder / "recipes").mkdir(exist_ok=True)
    return folder / "recipes" / f"{name}.py"


@pytest.fixture(scope="module")
def workplace(
    dataset: Path, far_hub: HubAddress, tiny_base: str, bonsai: Run, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A working directory with the dataset built and the recipe `tiny` trained."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(dataset, place / "out" / "dataset")
    bonsai("train", "tiny", "--no-gguf", cwd=place, **far_hub.environment())
    shutil.copy(place / "out" / "adapters" / "tiny" / "README.md", place / "before.md")
    return place


@pytest.fixture(scope="module")
def published(workplace: Path, far_hub: HubAddress, bonsai: Run) -> str:
    """What `bonsai publish` said."""
    return bonsai("publish", cwd=workplace, **far_hub.environment()).stdout


def test_training_keeps_its_record_its_losses_and_a_picture(workplace: Path) -> None:
    adapter = workplace / "out" / "adapters" / "tiny"
    record = json.loads((adapter / "training" / "run.json").read_text())
    assert len(record["losses"]) == 12
    assert record["validation_loss_after"] < record["validation_loss_before"]
    assert len((adapter / "training" / "loss.csv").read_text().splitlines()) == 13
    assert (adapter / "training" / "loss.png").read_bytes().startswith(b"\x89PNG")
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("qeu/tiny-llama", "v1.0")


def test_training_twice_with_one_seed_gives_the_same_bytes(
    workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(workplace / "out" / "dataset", tmp_path / "out" / "dataset")
    bonsai("train", "tiny", "--no-gguf", "--no-evaluate", cwd=tmp_path, **far_hub.environment())
    name = "out/adapters/tiny/adapter_model.safetensors"
    assert (workplace / name).read_bytes() == (tmp_path / name).read_bytes()


def test_write_card_gives_the_published_card_after_publishing(
    published: str, workplace: Path, far_hub: HubAddress, tmp_path: Path
) -> None:
    before = (workplace / "before.md").read_text(encoding="utf-8")
    after = (workplace / "out" / "adapters" / "tiny" / "README.md").read_text(encoding="utf-8")
    promise = "its commit is looked up when this adapter is published"
    assert promise in before
    assert "Not evaluated yet" not in before
    there = hf_hub_download("qeu/bonsai-tiny", "README.md", endpoint=far_hub.endpoint, cache_dir=tmp_path)
    assert after == Path(there).read_text(encoding="utf-8")
    commit = str(HfApi(endpoint=far_hub.endpoint).repo_info("qeu/bonsai", repo_type="dataset").sha)
    known = before.replace(promise, f"commit `{commit}`").replace("qeu/bonsai/tree/v0.1.0", f"qeu/bonsai/tree/{commit}")
    assert _unstamped(known.replace("revision: v0.1.0", f"revision: {commit}")) == _unstamped(after)


def test_a_card_edited_by_hand_is_replaced_and_that_is_told(
    published: str, workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(workplace / "out", tmp_path / "out")
    path = tmp_path / "out" / "adapters" / "tiny" / "README.md"
    card = path.read_text(encoding="utf-8")
    path.write_text(card.replace("## Licence", "Mine.\n\n## Licence"), encoding="utf-8")
    told = bonsai("publish", "tiny", cwd=tmp_path, **far_hub.environment()).stdout
    assert "README.md: was edited by hand; it is overwritten from the run's record" in told
    assert "unchanged, no commit made" in told
    assert path.read_text(encoding="utf-8") == card
    assert "was edited by hand" not in published


def _unstamped(card: str) -> str:
    return card.rpartition("<!--")[0]


def test_a_card_of_an_adapter_not_yet_evaluated_says_so(far_hub: HubAddress, workplace: Path, bonsai: Run) -> None:
    place = workplace / "short"
    shutil.copytree(workplace / "out" / "dataset", place / "out" / "dataset")
    bonsai("train", "tiny", "--max-steps", "1", cwd=place, **far_hub.environment())
    card = (place / "out" / "adapters" / "tiny" / "README.md").read_text(encoding="utf-8")
    assert "**Not evaluated yet**: `bonsai evaluate tiny`" in card
    assert "by the dataset's column `generator`: large language model" in card
    assert is_edited(card) is False


def test_published_tokenizer_pads_left_with_generation_config(workplace: Path) -> None:
    adapter = workplace / "out" / "adapters" / "tiny"
    assert json.loads((adapter / "tokenizer_config.json").read_text())["padding_side"] == "left"
    settings = json.loads((adapter / "generation_config.json").read_text())
    assert settings["repetition_penalty"] == 1.0
    assert (settings["no_repeat_ngram_size"], settings["do_sample"]) == (12, False)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"base_model": "qeu/tiny-lama"}, "qeu/tiny-lama (revision 'v1.0') is not on http"),
        ({"base_model_revision": "v9.9"}, "qeu/tiny-llama has no revision 'v9.9' on http"),
        (
            {"repo_id": "me/bonsai-tiny"},
            "its repo_id is me/bonsai-tiny, and HF_TOKEN is qeu's, who may not write there",
        ),
    ],
)
def test_a_recipe_that_leads_nowhere_is_refused_before_training(
    changes: dict[str, str], told: str, workplace: Path, far_hub: HubAddress, bonsai: Run
) -> None:
    own_recipe(workplace, "astray").write_text(
        "import dataclasses\nfrom bonsai.recipes.tiny import RECIPE\n"
        f"RECIPE = dataclasses.replace(RECIPE, **{changes!r})\n"
    )
    done = bonsai("train", "astray", cwd=workplace, check=False, **far_hub.environment())
    assert done.returncode == 1
    assert told in done.stderr
    assert "try again" not in done.stderr
    assert "Traceback" not in done.stderr


def test_train_refuses_another_namespace_without_a_token(workplace: Path, bonsai: Run) -> None:
    own_recipe(workplace, "astray").write_text(
        "import dataclasses\nfrom bonsai.recipes.tiny import RECIPE\n"
        'RECIPE = dataclasses.replace(RECIPE, repo_id="me/bonsai-tiny")\n'
    )
    done = bonsai("train", "astray", cwd=workplace, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "its repo_id is me/bonsai-tiny, and without HF_TOKEN it goes to the Hub of this machine" in done.stderr


def test_an_adapter_that_answers_nothing_is_not_released(
    published: str, workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    base = write_tiny_llama(tmp_path / "mute")
    model = AutoModelForCausalLM.from_pretrained(base)
    model.lm_head.weight.data.zero_()  # the likeliest token is always the first, and that ends the answer
    model.save_pretrained(base)
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    publish_files(api, repo_id="qeu/mute", repo_type="model", files=folder_files(base), message="mute", tag="v1.0")
    own_recipe(tmp_path, "mute").write_text(
        "import dataclasses\nfrom bonsai.recipes.tiny import RECIPE\n"
        'RECIPE = dataclasses.replace(RECIPE, repo_id="qeu/bonsai-mute", base_model="qeu/mute", max_steps=2)\n'
    )
    shutil.copytree(workplace / "out" / "dataset", tmp_path / "out" / "dataset")
    bonsai("train", "mute", "--no-gguf", cwd=tmp_path, **far_hub.environment())
    done = bonsai("publish", "mute", cwd=tmp_path, check=False, **far_hub.environment())
    assert done.returncode == 1
    assert "qeu/bonsai-mute: the card's snippet loads the adapter and it answers nothing at all" in done.stderr
    assert api.list_repo_refs("qeu/bonsai-mute").tags == []


def test_publishing_says_where_and_runs_the_cards_snippet(published: str, far_hub: HubAddress) -> None:
    assert f"publishing dataset, tiny to the Hub ({far_hub.endpoint})" in published
    assert 'load_dataset("qeu/bonsai")' in published
    assert "the card's snippet loaded qeu/bonsai-tiny" in published


def test_publishing_again_makes_no_commit(published: str, workplace: Path, far_hub: HubAddress, bonsai: Run) -> None:
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    before = [api.repo_info("qeu/bonsai", repo_type="dataset").sha, api.repo_info("qeu/bonsai-tiny").sha]
    again = bonsai("publish", cwd=workplace, **far_hub.environment()).stdout
    assert again.count("unchanged, no commit made") == 2
    assert [api.repo_info("qeu/bonsai", repo_type="dataset").sha, api.repo_info("qeu/bonsai-tiny").sha] == before


def test_a_release_is_one_commit_and_a_tag_on_it(published: str, far_hub: HubAddress) -> None:
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    for repo_id, repo_type in (("qeu/bonsai", "dataset"), ("qeu/bonsai-tiny", "model")):
        titles = [c.title for c in api.list_repo_commits(repo_id, repo_type=repo_type)]
        assert len(titles) == 2, titles  # the Hub's own first commit, and ours
        (tag,) = api.list_repo_refs(repo_id, repo_type=repo_type).tags
        assert tag.target_commit == api.repo_info(repo_id, repo_type=repo_type).sha


def test_published_card_names_the_dataset_commit(published: str, far_hub: HubAddress, tmp_path: Path) -> None:
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    card = Path(
        hf_hub_download("qeu/bonsai-tiny", "README.md", endpoint=far_hub.endpoint, cache_dir=tmp_path)
    ).read_text(encoding="utf-8")
    assert str(api.repo_info("qeu/bonsai", repo_type="dataset").sha) in card
    assert str(api.repo_info("qeu/tiny-llama").sha) in card
    assert "More Information Needed" not in card
    assert "{{" not in card
    assert far_hub.token not in card


def test_card_snippet_for_transformers_runs_from_the_hub(published: str, far_hub: HubAddress, tmp_path: Path) -> None:
    home = {"HF_HOME": str(tmp_path / "hf-home"), "OMP_NUM_THREADS": "1"}
    card = Path(hf_hub_download("qeu/bonsai-tiny", "README.md", endpoint=far_hub.endpoint, cache_dir=tmp_path))
    _, pipeline, _ = python_snippets(card.read_text(encoding="utf-8"))
    assert "pipeline(" in pipeline
    done = subprocess.run(
        [sys.executable, "-c", pipeline],
        env={**os.environ, **far_hub.environment(), **home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 1  # a random model may well answer with spaces


def test_publish_creates_a_space_over_the_published_adapters(
    published: str, workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    refused = bonsai("publish", "space", cwd=workplace, check=False, **far_hub.environment())
    assert "a Space installs a commit of this project; publish it from a checkout" in refused.stderr
    own_recipe(workplace, "astray").unlink(missing_ok=True)  # left by the tests of recipes that lead nowhere
    own_recipe(workplace, "tiny").write_text(TINY_RECIPE)
    told = subprocess.run(
        [sys.executable, "-m", "bonsai.cli.main", "publish", "space"],
        cwd=workplace,
        env={**os.environ, **far_hub.environment(), "HF_HOME": str(workplace / "hf-home"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "qeu/bonsai v0.1.0 at" in told
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    there = set(api.list_repo_files("qeu/bonsai", repo_type="space"))
    assert {"README.md", "app.py", "requirements.txt"} <= there
    app = hf_hub_download("qeu/bonsai", "app.py", repo_type="space", endpoint=far_hub.endpoint, cache_dir=tmp_path)
    assert "serve(['qeu/bonsai-tiny@v0.1.0']" in Path(app).read_text(encoding="utf-8")


def test_a_published_version_is_not_overwritten(
    published: str, workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(workplace / "out", tmp_path / "out")
    card = tmp_path / "out" / "dataset" / "README.md"
    card.write_text(card.read_text(encoding="utf-8") + "\nchanged\n", encoding="utf-8")
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    before = api.repo_info("qeu/bonsai", repo_type="dataset").sha
    done = bonsai("publish", "dataset", cwd=tmp_path, check=False, **far_hub.environment())
    assert done.returncode == 1
    assert "qeu/bonsai: v0.1.0 is already published with other content; raise the version" in done.stderr
    assert "Traceback" not in done.stderr
    assert api.repo_info("qeu/bonsai", repo_type="dataset").sha == before


def test_an_adapter_of_other_records_is_refused(
    published: str, workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(workplace / "out", tmp_path / "out")
    path = tmp_path / "out" / "adapters" / "tiny" / "training" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dataset_content_hash": "0" * 64}))
    done = bonsai("publish", "tiny", cwd=tmp_path, check=False, **far_hub.environment())
    assert done.returncode == 1
    assert "was trained on other records than qeu/bonsai v0.1.0 holds; run `nox -s train -- tiny` again" in done.stderr


def test_publish_refuses_an_adapter_without_its_evaluation(
    workplace: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(workplace / "out", tmp_path / "out")
    adapter = tmp_path / "out" / "adapters" / "tiny"
    (adapter / "state.pt").write_bytes(b"x")
    (adapter / "adapter_model.safetensors").write_bytes((adapter / "adapter_model.safetensors").read_bytes() + b" ")
    older = bonsai("publish", cwd=tmp_path, check=False, **far_hub.environment())
    assert "tiny, evaluation: the evaluation is of other weights than these; run `bonsai evaluate tiny`" in older.stderr
    shutil.rmtree(adapter / "evaluation")
    missing = bonsai("publish", cwd=tmp_path, check=False, **far_hub.environment())
    assert "dataset, tiny is not published, for " in missing.stderr
    assert "tiny, evaluation: it was not evaluated; run `bonsai evaluate tiny`" in missing.stderr
    assert "tiny, weights: state.pt" in missing.stderr


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"HF_TOKEN": "wrong"}, "the Hub refused the token"),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9 cannot be reached"),
        ({"BONSAI_NAMESPACE": "a/b"}, "give the user or organisation alone"),
        ({"BONSAI_NAMESPACE": "stranger"}, "built for another repo than stranger/bonsai"),
    ],
)
def test_trouble_with_the_hub_is_a_sentence(
    changed: dict[str, str], told: str, published: str, workplace: Path, far_hub: HubAddress, bonsai: Run
) -> None:
    done = bonsai("publish", "dataset", cwd=workplace, check=False, **{**far_hub.environment(), **changed})
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_publish_without_a_token_uses_the_local_hub(workplace: Path, bonsai: Run, tmp_path: Path) -> None:
    shutil.copytree(workplace / "out" / "dataset", tmp_path / "out" / "dataset")
    done = bonsai("publish", cwd=tmp_path)
    assert "publishing dataset to the local Hub on this machine" in done.stdout
    assert "nox -s hub" in done.stdout


def test_a_recipe_that_needs_a_gpu_says_so(workplace: Path, bonsai: Run) -> None:
    done = bonsai("train", "nothing_of_the_kind", cwd=workplace, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no recipe is called 'nothing_of_the_kind'" in done.stderr


def test_training_without_a_build_or_a_hub_says_what_to_run(bonsai: Run, tmp_path: Path) -> None:
    done = bonsai("train", "tiny", "--no-gguf", cwd=tmp_path, check=False, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "no dataset is built here; run `nox -s build` first" in done.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.safetensors"))
