"""The trained adapter on disk: as PEFT has it, and for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from rich.console import Console
from rich.text import Text

from bonsai.recipes.training.gguf_adapter import GgufError, convert
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.record import RunRecord
from bonsai.recipes.training.trainer import Prepared


def save_adapter(prepared: Prepared, base_model: str, recipe: Recipe, folder: Path) -> None:
    """Adapter and tokenizer, as PEFT saves them."""
    model: Any = prepared.model
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model  # a Hub id: vLLM and llama.cpp look the base up by it
    config.revision = recipe.base_model_revision
    model.save_pretrained(folder)
    prepared.tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's stub; the card is rendered when the adapter is published


def add_gguf(adapter: Path, base_model: str, commit: str, llama_cpp: Path, record: RunRecord, console: Console) -> None:
    """A GGUF is a courtesy: without one the adapter is whole, and the person is told why."""
    config = Path(hf_hub_download(base_model, "config.json", revision=commit))
    try:
        with console.status("the adapter as GGUF; llama.cpp's converter is fetched once, 77 MB"):
            convert(adapter, config, llama_cpp, name=record.adapter_repo.rpartition("/")[2])
    except GgufError as error:
        console.print(Text(f"no GGUF adapter: {error}"))
