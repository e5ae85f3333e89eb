"""Bases built otherwise than Llama, tiny and random: from a person's own recipe to a stranger who loads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, hf_hub_download
from transformers import Gemma2Config, PretrainedConfig, StableLmConfig

from bonsai.hub.publish import publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.server.serve import HubAddress
from bonsai.model_card.card import python_snippets
from tests.conftest import TINY_RECIPE, Run
from tests.recipes.tiny import write_tiny

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
BASES: dict[str, PretrainedConfig] = {
    # soft caps on scores and logits, a window of which the other layer knows nothing, norms around each half of a layer
    "gemma2": Gemma2Config(**SMALL, head_dim=16, sliding_window=64, query_pre_attn_scalar=16),
    # a quarter of each head rotates; LayerNorm and biases; in one form both halves of a layer read the same input
    "stablelm": StableLmConfig(**SMALL, use_qkv_bias=True),
    "stablelm2": StableLmConfig(**SMALL, qk_layernorm=True, use_parallel_residual=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_a_base_is_trained_asked_published_and_loaded(
    name: str, dataset: Path, far_hub: HubAddress, bonsai: Run, tmp_path: Path
) -> None:
    base = write_tiny(tmp_path / "base", BASES[name])
    api = HfApi(endpoint=far_hub.endpoint, token=far_hub.token)
    publish_files(api, repo_id=f"qeu/tiny-{name}", repo_type="model", files=folder_files(base), message="x", tag="v1.0")
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    (tmp_path / "recipes").mkdir()
    recipe = TINY_RECIPE.replace("qeu/bonsai-tiny", f"qeu/bonsai-{name}").replace("tiny-llama", f"tiny-{name}")
    (tmp_path / "recipes" / f"my_{name}.py").write_text(recipe.replace("packing=False", "packing=True"))
    hub = far_hub.environment()
    bonsai("train", f"my_{name}", "--max-steps", "2", "--gguf", cwd=tmp_path, **hub)
    adapter = tmp_path / "out" / "adapters" / f"my_{name}"
    record = json.loads((adapter / "training" / "run.json").read_text())
    assert len(record["losses"]) == 2
    assert (adapter / f"bonsai-{name}-f16.gguf").is_file()
    bonsai("evaluate", f"my_{name}", "--limit", "1", cwd=tmp_path, **hub)
    told = bonsai("publish", "dataset", f"my_{name}", cwd=tmp_path, **hub).stdout
    assert f"the card's snippet loaded qeu/bonsai-{name}" in told
    card = Path(hf_hub_download(f"qeu/bonsai-{name}", "README.md", endpoint=far_hub.endpoint, cache_dir=tmp_path))
    for snippet in python_snippets(card.read_text(encoding="utf-8")):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", snippet],
            cwd=tmp_path,
            env={**os.environ, **hub, "HF_HOME": str(tmp_path / "stranger")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout
    asked = bonsai("ask", "Why?", "--model", f"my_{name}", "--max-new-tokens", "8", cwd=tmp_path, **hub)
    assert f"my_{name}" in asked.stdout
