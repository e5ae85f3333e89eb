"""The tests' tiny recipe, trained by the real code in a process of its own, to be forked, killed or left without room.

The clients read their environment when they are imported: set it, then import this module.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
from huggingface_hub import HfApi
from rich.console import Console

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.recipes.training.checkpoints import InterruptHandler
from bonsai.recipes.training.train import train
from tests.conftest import TINY_RECIPE
from tests.recipes.tiny import write_tiny_llama

Training = Callable[[Path], object]
"""trains into ``adapter`` of a folder, going on from a checkpoint in its ``checkpoints`` if one is there"""


def tiny_training(base: Path, dataset: Path, *, steps: int, checkpoint_seconds: float) -> Training:
    """Put a random base on the Hub of the environment and be quiet; each training takes one thread."""
    warnings.simplefilter("ignore")
    for name in ("bitsandbytes", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    files = folder_files(write_tiny_llama(base))
    publish_files(HfApi(), repo_id="qeu/tiny-llama", repo_type="model", files=files, message="tiny", tag="v1.0")
    known: dict[str, Any] = {}
    exec(TINY_RECIPE, known)

    def training(place: Path) -> object:
        return train(
            "tiny",
            known["RECIPE"],
            dataset=dataset,
            out=place / "adapter",
            checkpoints=place / "checkpoints",
            console=Console(quiet=True),
            max_steps=steps,
            resume=True,
            checkpoint_seconds=checkpoint_seconds,
            stopping=InterruptHandler(),
        )

    return training
