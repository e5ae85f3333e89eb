"""What a person calls a model, and where it is: a recipe, a folder, a repo on the Hub, a file, an address, a provider.

Nothing is loaded here; of a repo on the Hub only the few lines are fetched that tell an adapter from a model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.inference._providers import PROVIDERS  # the client names them nowhere else

from bonsai.hub.client.session import httpx
from bonsai.recipes.inference.generation.engine import GenerationError
from bonsai.recipes.inference.models.missing import missing

ADAPTER = "adapter_config.json"
MODEL = "config.json"
GGUF = ".gguf"
AUTO = "auto"
"""the provider that Hugging Face's router chooses"""


@dataclass(frozen=True, kw_only=True)
class AdapterAt:
    """A PEFT adapter and the base it grew on."""

    folder: Path
    base: str
    """a folder or a repo id"""
    base_revision: str | None


@dataclass(frozen=True, kw_only=True)
class ModelAt:
    """A whole model."""

    place: str
    """a folder or a repo id"""
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class GgufAt:
    """A GGUF model, and a GGUF adapter over it if there is one."""

    path: Path
    lora: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Address:
    """An OpenAI-compatible server."""

    base_url: str
    model: str | None
    """None: the only one it serves, or the default recipe among several"""


@dataclass(frozen=True, kw_only=True)
class Provided:
    """A model behind Hugging Face Inference Providers."""

    provider: str
    model: str


Here = AdapterAt | ModelAt | GgufAt
Found = Here | Address | Provided


def behind_an_address(source: str, base_url: str | None, provider: str | None) -> Address | Provided | None:
    """The server or provider that is meant; None: neither is.

    Raises:
        GenerationError: no such address or provider can be.
    """
    if base_url is not None and provider is not None:
        raise GenerationError(f"{source} is to be asked at {base_url} and through {provider}; give one of the two")
    if base_url is not None:
        return Address(base_url=_checked_address(base_url), model=source or None)
    if source.startswith(("http://", "https://")):
        address, _, model = source.partition("#")
        return Address(base_url=_checked_address(address), model=model or None)
    head, colon, model = source.partition(":")
    if provider is None and colon and model and (head == AUTO or head in PROVIDERS):
        return Provided(provider=head, model=model)
    if provider is None:
        return None
    if provider != AUTO and provider not in PROVIDERS:
        raise missing(provider, [AUTO, *PROVIDERS], f"no Inference Provider is called {provider!r}")
    return Provided(provider=provider, model=source)


def in_a_folder(path: Path) -> Here | None:
    """What lies there; None: no model.

    Raises:
        GenerationError: an adapter that does not say what it grew on.
    """
    if path.suffix == GGUF and path.is_file():
        return GgufAt(path=path)
    if (path / ADAPTER).is_file():
        return _adapter(path)
    if (path / MODEL).is_file():
        return ModelAt(place=str(path))
    return None


def _adapter(folder: Path) -> AdapterAt:
    try:
        told = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        base, base_revision = told.get("base_model_name_or_path"), told.get("revision")
    except (ValueError, AttributeError) as error:
        raise GenerationError(f"{folder}: its {ADAPTER} cannot be read ({error}); fetch or train it again") from error
    if not base:
        raise GenerationError(f"{folder}: its {ADAPTER} names no base model; write base_model_name_or_path into it")
    return AdapterAt(folder=folder, base=base, base_revision=base_revision)


def _checked_address(address: str) -> str:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise GenerationError(f"{address!r} is no address ({error}); write http://HOST:PORT/v1") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise GenerationError(f"{address!r} is no address; write http://HOST:PORT/v1")
    if url.userinfo:
        raise GenerationError(f"the address of {url.host} carries a password; put the key into OPENAI_API_KEY")
    return address.rstrip("/") + ("/v1" if url.path in ("", "/") else "")
