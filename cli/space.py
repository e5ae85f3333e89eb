"""`bonsai publish space`: the demo as a Space of the Hub."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bonsai.builder.bonsai import VERSION
from bonsai.builder.schema import BonsaiError
from bonsai.hub.client.destination import in_namespace
from bonsai.hub.client.push import Pushed, push
from bonsai.recipes.training.registry import load_recipe, recipe_names

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def publish_space(api: HfApi, *, may_move_tag: bool) -> Pushed:
    """Publish the demo over every adapter that is on this Hub already.

    Raises:
        BonsaiError: no adapter is there, or this is not a checkout, whose commit and versions the Space installs.
    """
    from bonsai.recipes.inference.demo.space import space_files
    from bonsai.recipes.training.surroundings import CHECKOUT, SOURCE, source_commit

    constraints, commit = CHECKOUT / "constraints.txt", source_commit()
    if commit is None or not constraints.is_file():
        raise BonsaiError("a Space installs a commit of this project; publish it from a checkout with its history")
    recipes = [load_recipe(name) for name in recipe_names()]
    models = [
        f"{in_namespace(recipe.repo_id)}@{recipe.tag}"
        for recipe in recipes
        if api.revision_exists(in_namespace(recipe.repo_id), recipe.tag)
    ]
    if not models:
        raise BonsaiError("no adapter is published yet, and a Space sees nothing else; run `nox -s publish` first")
    repo_id = in_namespace("qeu/bonsai")
    files = space_files(
        models,
        repo_id=repo_id,
        source=SOURCE,
        revision=commit,
        constraints=constraints.read_text(encoding="utf-8"),
        dataset=repo_id,
    )
    return push(
        api,
        repo_id=repo_id,
        repo_type="space",
        files=files,
        message=f"The demo of BONSAI {VERSION}",
        tag=f"v{VERSION}",
        may_move_tag=may_move_tag,
    )
