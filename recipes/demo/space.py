"""Publish the demo as a Space of the Hub.

https://huggingface.co/docs/hub/spaces-config-reference
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import yaml

from bonsai.builder.bonsai import VERSION
from bonsai.builder.errors import BonsaiError, DemoError
from bonsai.hub.publish import PublishResult, publish_files
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import load_recipe, recipe_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HOST = "0.0.0.0"
PORT = 7860
"""where a Space is expected to listen"""
PYTHON = "3.11"
PINNED = (
    "accelerate", "bitsandbytes", "datasets", "gradio", "huggingface_hub", "peft", "pillow", "pydantic", "starlette",
    "torch", "transformers", "uvicorn",
)  # fmt: skip
"""what the page and the models depend on; a Space installs exactly these versions"""


def space_files(
    models: Sequence[str], *, repo_id: str, source: str, revision: str, constraints: str, dataset: str
) -> dict[str, bytes]:
    """Write README.md, app.py and requirements.txt of the Space, by path.

    Args:
        models: repos on the Hub, the first is asked unless a visitor chooses another.
        repo_id: of the Space; its owner and name are part of the address it is reached under.
        source: a git URL that this project can be installed from.
        revision: of the project there, a tag or commit.
        constraints: text of ``constraints.txt``; the versions in ``PINNED`` are taken from it.
        dataset: repo of the dataset that is shown.

    Raises:
        DemoError: no model is named, one is not a repo on the Hub, or a version is missing.
    """
    if not models:
        raise DemoError("a Space needs a model; name a repo on the Hub")
    for model in models:
        if not re.fullmatch(r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?", model):
            raise DemoError(
                f"{model!r} is not a repo on the Hub, and a Space can load nothing else; publish it and name OWNER/NAME"
            )
    pins = dict(line.split("==", 1) for line in constraints.splitlines() if re.match(r"[\w.-]+==", line))
    if missing := [name for name in PINNED if name not in pins]:
        raise DemoError(f"the constraints pin no version of {', '.join(missing)}; add it")
    requirements = [
        f"qeu-bonsai[train,demo] @ git+{source}@{revision}",
        *(f"{name}=={pins[name]}" for name in PINNED),
    ]
    app = (
        '"""The BONSAI demo; the page itself comes with the package."""\n\n'
        "import os\n\n"
        "from bonsai.recipes.demo.server import serve\n\n"
        f"serve({list(models)!r}, host={HOST!r}, port={PORT}, "
        'names=[os.environ["SPACE_HOST"]], behind_proxy=True)\n'
    )
    return {
        "README.md": _readme(models, repo_id, source, dataset, pins["gradio"]).encode(),
        "app.py": app.encode(),
        "requirements.txt": ("\n".join(requirements) + "\n").encode(),
    }


def _readme(models: Sequence[str], repo_id: str, source: str, dataset: str, gradio: str) -> str:
    head = {
        "title": "BONSAI 盆栽",
        "emoji": "🌳",
        "colorFrom": "green",
        "colorTo": "yellow",
        "sdk": "gradio",
        "sdk_version": gradio,
        "python_version": PYTHON,
        "app_file": "app.py",
        "license": "mit",
        "short_description": "Ask a small model, and go deeper",  # the Hub takes 60 characters
        "models": [model.partition("@")[0] for model in models],
        "datasets": [dataset],
    }
    return (
        f"---\n{yaml.safe_dump(head, allow_unicode=True, sort_keys=False)}---\n\n"
        "# BONSAI 盆栽\n\n"
        "A small Japanese/English/Chinese dataset, written by one language model and read by another, and the adapters "
        "grown from it: ask, be led deeper, compare, and read the records side by side.\n\n"
        "言語モデルが書き、別の言語モデルが読み直した小さなデータセットと、そこから育ったアダプターです。尋ね、問いを深め、くらべ、記録を並べて読めます。\n\n"
        f"The page of [{repo_id}](https://huggingface.co/spaces/{repo_id}) is `bonsai demo` of {source}.\n"
    )


def publish_space(api: HfApi, *, may_move_tag: bool) -> PublishResult:
    """Publish the demo with every adapter that is on this Hub already.

    Raises:
        BonsaiError: no adapter is there, or this is not a checkout, whose commit and versions the Space installs.
    """
    from bonsai.recipes.training.run_record import CHECKOUT, SOURCE, git_commit

    constraints, commit = CHECKOUT / "constraints.txt", git_commit()
    if commit is None or not constraints.is_file():
        raise BonsaiError("a Space installs a commit of this project; publish it from a checkout with its history")
    recipes = [load_recipe(name) for name in recipe_names()]
    models = [
        f"{with_namespace(recipe.repo_id)}@{recipe.tag}"
        for recipe in recipes
        if api.revision_exists(with_namespace(recipe.repo_id), recipe.tag)
    ]
    if not models:
        raise BonsaiError("no adapter is published yet, and a Space can load nothing else; run `nox -s publish` first")
    repo_id = with_namespace("qeu/bonsai")
    files = space_files(
        models,
        repo_id=repo_id,
        source=SOURCE,
        revision=commit,
        constraints=constraints.read_text(encoding="utf-8"),
        dataset=repo_id,
    )
    return publish_files(
        api,
        repo_id=repo_id,
        repo_type="space",
        files=files,
        message=f"The demo of BONSAI {VERSION}",
        tag=f"v{VERSION}",
        may_move_tag=may_move_tag,
    )
