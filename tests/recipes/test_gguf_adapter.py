"""The GGUF adapter: made by llama.cpp's converter, loaded and asked by llama.cpp itself."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from bonsai.recipes.seedling import RECIPE
from bonsai.recipes.training.gguf import (
    SCRIPT,
    SOURCE,
    GgufError,
    convert_lora_to_gguf,
    dequantize_gguf,
    packaged_gguf,
    unpack_converter,
)

PROMPT = "### Instruction:\nWhy does bread dough rise?\n\n### Reasoning:\n"
TOKENS = 8


def asked(model: Any, tokenizer: Any) -> str:
    inputs = tokenizer(PROMPT, return_tensors="pt")
    answer = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False)
    return str(tokenizer.decode(answer[0, inputs["input_ids"].shape[1] :]))


def asked_by_llama_cpp(base: Path, adapter: Path | None) -> str:
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path = str(base)
    settings.n_ctx, settings.n_parallel, settings.cpuparams.n_threads = 256, 1, 1
    settings.warmup = False
    if adapter is not None:
        settings.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(adapter), 1.0)]
    server = xllamacpp.Server(settings)
    told = server.handle_completions({"prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0})
    return str(told["choices"][0]["text"])


@pytest.mark.slow
def test_gguf_adapter_answers_in_llama_cpp_as_in_peft(tmp_path: Path) -> None:
    gguf, folder = packaged_gguf(RECIPE), tmp_path / "base"
    dequantize_gguf(RECIPE, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    base: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    bare = asked(base, tokenizer)
    config = folder / "config.json"
    torch.manual_seed(0)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.2)
    adapted = asked(model.eval(), tokenizer)
    assert adapted != bare
    model.save_pretrained(tmp_path / "adapter")

    made = convert_lora_to_gguf(tmp_path / "adapter", config, tmp_path / "cache", name="bonsai-test")
    assert made.name == "bonsai-test-f16.gguf"
    assert asked_by_llama_cpp(gguf, None) == bare
    assert asked_by_llama_cpp(gguf, made) == adapted
    first = made.read_bytes()
    assert (
        convert_lora_to_gguf(tmp_path / "adapter", config, tmp_path / "cache", name="bonsai-test").read_bytes() == first
    )


def test_an_architecture_llama_cpp_does_not_know_is_a_sentence(tmp_path: Path) -> None:
    script = tmp_path / "cache" / SOURCE.replace("==", "-") / SCRIPT
    script.parent.mkdir(parents=True)
    script.write_text("raise SystemExit('Model FooForCausalLM is not supported')")
    with pytest.raises(GgufError, match="converter failed \\(Model FooForCausalLM is not supported\\)"):
        convert_lora_to_gguf(tmp_path / "adapter", tmp_path / "config.json", tmp_path / "cache", name="x")


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE])
def test_an_archive_cannot_write_outside_its_folder(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("x/vendor/llama.cpp/conversion/../../evil.py")
        member.type = kind
        member.linkname = "/etc/passwd"
        archive.addfile(member, io.BytesIO(b""))
    with pytest.raises(tarfile.FilterError):
        unpack_converter(tmp_path / "source.tar.gz", tmp_path / "a" / "folder")
    assert list(tmp_path.rglob("evil.py")) == []
