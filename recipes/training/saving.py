"""The trained adapter on disk: as PEFT has it, and for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from rich.console import Console
from rich.text import Text
from transformers import GenerationConfig

from bonsai.model_card.snippets import generation
from bonsai.recipes.training.gguf_adapter import GgufError, convert
from bonsai.recipes.training.recipe import Recipe, base_folder
from bonsai.recipes.training.record import RunRecord
from bonsai.recipes.training.trainer import Prepared


def save_adapter(prepared: Prepared, base_model: str, recipe: Recipe, folder: Path) -> None:
    """Save adapter and tokenizer as PEFT does, and the settings under which the adapter answers in its form.

    The tokenizer pads on the left: padded on the right, all but the longest prompt of a batch are continued behind
    padding.
    """
    model: Any = prepared.model
    config = model.peft_config["default"]
    config.base_model_name_or_path = base_model  # a Hub id, by which vLLM and llama.cpp look it up, or a folder
    config.revision = recipe.base_model_revision or None
    model.save_pretrained(folder)
    prepared.tokenizer.padding_side = "left"
    prepared.tokenizer.init_kwargs["padding_side"] = "left"  # what save_pretrained writes: the attribute alone is lost
    prepared.tokenizer.save_pretrained(folder)
    ends = model.generation_config.eos_token_id
    ends = [*(ends if isinstance(ends, list) else [ends]), prepared.tokenizer.eos_token_id]
    GenerationConfig(  # type: ignore[no-untyped-call]
        **generation(recipe.languages),
        bos_token_id=prepared.tokenizer.bos_token_id,
        eos_token_id=list(dict.fromkeys(end for end in ends if end is not None)),
        pad_token_id=prepared.tokenizer.pad_token_id,
    ).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's stub; `write_card` writes ours when the folder is whole


def add_gguf(adapter: Path, base_model: str, commit: str, llama_cpp: Path, record: RunRecord, console: Console) -> None:
    """A GGUF is a courtesy: without one the adapter is whole, and the person is told why."""
    folder = base_folder(base_model)
    config = folder / "config.json" if folder else Path(hf_hub_download(base_model, "config.json", revision=commit))
    try:
        with console.status("the adapter as GGUF; llama.cpp's converter is fetched once, 77 MB"):
            convert(adapter, config, llama_cpp, name=record.adapter_repo.rpartition("/")[2])
    except GgufError as error:
        console.print(Text(f"no GGUF adapter: {error}"))
