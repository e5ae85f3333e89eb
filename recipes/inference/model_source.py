"""Resolve what a person calls a model: a recipe, folder, Hub repo, GGUF file, address or provider.

The clients find out too, each request for itself, after some twenty seconds of trying again.

Nothing is loaded here; of a repo on the Hub only the few lines are fetched that tell an adapter from a model.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants, get_session, hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.inference._providers import PROVIDERS

from bonsai.hub.http_client import httpx
from bonsai.hub.target import with_namespace
from bonsai.recipes.inference.generation import GenerationError
from bonsai.recipes.training.recipe import load_recipe, recipe_names

SECONDS = 10.0


def hub_is_reachable() -> bool:
    """Whether a Hub answers at all."""
    try:
        get_session().head(HfApi().endpoint, timeout=SECONDS)
    except (httpx.HTTPError, OfflineModeIsEnabled):
        return False
    return True


def cached_file(repo: str, name: str, revision: str | None) -> Path | None:
    """A file of a repo that was fetched before; None: it was not."""
    try:
        found = try_to_load_from_cache(repo, name, revision=revision or constants.DEFAULT_REVISION)
    except HFValidationError:  # a folder that is gone
        return None
    return Path(found) if isinstance(found, str) else None


OFFERED = 3
LISTED = 10
NEAR = 0.65
"""least likeness by `difflib`, 0 to 1"""
SEARCHED = 100
"""repos looked at, of the owner and of the Hub's search by turns"""


def model_not_found_error(name: str, among: Path | Iterable[str], said: str) -> GenerationError:
    """The error, with the nearest names offered.

    Args:
        among: the names there are, or ``out``: then recipes, what lies in ``out/adapters``, and the Hub's models.
        said: what is the matter, in words.
    """
    names = known_models(name, among) if isinstance(among, Path) else list(among)
    return GenerationError(f"{said}; {_suggest(name, names)}")


def known_models(name: str, out: Path) -> list[str]:
    """Recipes, adapters grown here, and models on the Hub that may have been meant."""
    grown = [config.parent.name for config in sorted((out / "adapters").glob("*/adapter_config.json"))]
    return [*dict.fromkeys([*recipe_names(), *grown, *_known_on_hub(name)])]


def _known_on_hub(name: str) -> list[str]:
    if not hub_is_reachable():
        return []
    owner, _, own = name.partition("@")[0].rpartition("/")
    api = HfApi()
    try:
        of_owner = [one.id for one in api.list_models(author=owner, limit=SEARCHED)] if owner else []
        return of_owner + [one.id for one in api.list_models(search=own, limit=SEARCHED)]
    except (HfHubHTTPError, httpx.HTTPError):
        return []  # a Hub that cannot be searched only means fewer offers


def _suggest(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=OFFERED, cutoff=NEAR)
    if near:
        return f"did you mean {' or '.join(near)}?"
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"there are {', '.join(names[:LISTED])}{more}" if names else "there is nothing like it"


ADAPTER = "adapter_config.json"
MODEL = "config.json"
GGUF = ".gguf"
AUTO = "auto"
"""the provider that Hugging Face's router chooses"""


@dataclass(frozen=True, kw_only=True)
class AdapterSource:
    """A PEFT adapter and the base it grew on."""

    folder: Path
    base: str
    """a folder or a repo id"""
    base_revision: str | None


@dataclass(frozen=True, kw_only=True)
class HubModelSource:
    """A whole model."""

    place: str
    """a folder or a repo id"""
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class GgufSource:
    """A GGUF model, and a GGUF adapter over it if there is one."""

    path: Path
    lora: Path | None = None


@dataclass(frozen=True, kw_only=True)
class EndpointSource:
    """An OpenAI-compatible server."""

    base_url: str
    model: str | None
    """None: the only one it serves, or the default recipe among several"""


@dataclass(frozen=True, kw_only=True)
class ProviderSource:
    """A model behind Hugging Face Inference Providers."""

    provider: str
    model: str


LocalSource = AdapterSource | HubModelSource | GgufSource
ModelSource = LocalSource | EndpointSource | ProviderSource


def parse_remote_source(
    source: str, base_url: str | None, provider: str | None
) -> EndpointSource | ProviderSource | None:
    """The server or provider that is meant; None: neither is.

    Raises:
        GenerationError: no such address or provider can be.
    """
    if base_url is not None and provider is not None:
        raise GenerationError(f"{source} is to be asked at {base_url} and through {provider}; give one of the two")
    if base_url is not None:
        return EndpointSource(base_url=_checked_address(base_url), model=source or None)
    if source.startswith(("http://", "https://")):
        address, _, model = source.partition("#")
        return EndpointSource(base_url=_checked_address(address), model=model or None)
    head, colon, model = source.partition(":")
    if provider is None and colon and model and (head == AUTO or head in PROVIDERS):
        return ProviderSource(provider=head, model=model)
    if provider is None:
        return None
    if provider != AUTO and provider not in PROVIDERS:
        raise model_not_found_error(provider, [AUTO, *PROVIDERS], f"no Inference Provider is called {provider!r}")
    return ProviderSource(provider=provider, model=source)


def inspect_path(path: Path) -> LocalSource | None:
    """What lies there; None: no model.

    Raises:
        GenerationError: an adapter that does not say what it grew on.
    """
    if path.suffix == GGUF and path.is_file():
        return GgufSource(path=path)
    if (path / ADAPTER).is_file():
        return _adapter(path)
    if (path / MODEL).is_file():
        return HubModelSource(place=str(path))
    return None


def _adapter(folder: Path) -> AdapterSource:
    try:
        told = json.loads((folder / ADAPTER).read_text(encoding="utf-8"))
        base, base_revision = told.get("base_model_name_or_path"), told.get("revision")
    except (ValueError, AttributeError) as error:
        raise GenerationError(f"{folder}: its {ADAPTER} cannot be read ({error}); fetch or train it again") from error
    if not base:
        raise GenerationError(f"{folder}: its {ADAPTER} names no base model; write base_model_name_or_path into it")
    return AdapterSource(folder=folder, base=base, base_revision=base_revision)


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


_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<file>[^@]+\.gguf))?(?:@(?P<revision>.+))?")
_WITH_ADAPTER = re.compile(r"(?P<model>.+\.gguf(?:@[^+]+)?)\+(?P<lora>.+\.gguf(?:@.+)?)")


class _HubId(NamedTuple):
    repo: str
    file: str | None
    revision: str | None


def resolve_model(
    source: str, *, out: Path, base_url: str | None, provider: str | None, lora: str | None
) -> ModelSource:
    """Where the model is; `bonsai.recipes.inference.models.open_model` says what ``source`` may be.

    Raises:
        GenerationError: there is no such model, or it is not what the other arguments take it for.
    """
    if lora is None and (pair := _WITH_ADAPTER.fullmatch(source)) and not Path(source).exists():
        source, lora = pair["model"], pair["lora"]
    found = parse_remote_source(source, base_url, provider) or _resolve_local_or_hub(source, out)
    if lora is None:
        return found
    if not isinstance(found, GgufSource):
        raise GenerationError(f"{source} is no GGUF, and {lora} is an adapter for one; give a .gguf file as the model")
    adapter = _resolve_local_or_hub(lora, out)
    if not isinstance(adapter, GgufSource):
        raise GenerationError(f"{lora} is no GGUF adapter; give the path or OWNER/NAME/FILE.gguf of one")
    return GgufSource(path=found.path, lora=adapter.path)


def _resolve_local_or_hub(source: str, out: Path) -> LocalSource:
    grown = inspect_path(out / "adapters" / source) if Path(source).name == source else None
    return grown or inspect_path(Path(source)) or _on_the_hub(source, out)


def _on_the_hub(source: str, out: Path) -> LocalSource:
    wanted = with_namespace(load_recipe(source).repo_id) if source in recipe_names() else source
    match = _HUB_ID.fullmatch(wanted)
    if match is None:
        raise model_not_found_error(source, out, f"{source!r} is no recipe, folder, address or Hub id")
    asked = _HubId(match["repo"], match["file"], match["revision"])
    if not hub_is_reachable():
        found = _in_the_cache(asked)
        if found is None:
            raise _not_found(source, wanted, out, "in the cache, and no Hub can be reached")
        return found
    try:
        return _resolve_on_hub(asked)
    except GatedRepoError as error:
        raise GenerationError(
            f"{asked.repo} is gated; accept its terms on its page and put a token that may read it into HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise GenerationError(f"{asked.repo} has no revision {asked.revision!r}; give a commit id or a tag") from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise _not_found(source, wanted, out, "on the Hub") from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise GenerationError(f"{source}: the Hub is in trouble ({type(error).__name__}); try again later") from error


def _not_found(source: str, wanted: str, out: Path, where: str) -> GenerationError:
    if source == wanted:
        return model_not_found_error(source, out, f"{source} is neither here nor {where}")
    return GenerationError(
        f"{source} is not trained here ({out / 'adapters' / source} has no adapter), nor is {wanted} {where}; run "
        f"`nox -s train -- {source}` first"
    )


def _resolve_on_hub(asked: _HubId) -> LocalSource:
    repo, file, revision = asked
    if file is not None:
        return GgufSource(path=Path(hf_hub_download(repo, file, revision=revision)))
    names = HfApi().list_repo_files(repo, revision=revision)
    ggufs = [name for name in names if name.endswith(GGUF)]
    found: LocalSource | None = None
    if ADAPTER in names:
        found = inspect_path(Path(snapshot_download(repo, revision=revision, allow_patterns="adapter_*")))
    elif MODEL in names:
        found = HubModelSource(place=repo, revision=revision)
    elif len(ggufs) == 1:
        found = GgufSource(path=Path(hf_hub_download(repo, ggufs[0], revision=revision)))
    elif ggufs:
        raise GenerationError(f"{repo} has several GGUF files; give one: {', '.join(f'{repo}/{one}' for one in ggufs)}")
    if found is None:
        raise GenerationError(f"{repo} has neither {ADAPTER} nor {MODEL} nor a GGUF file: no model or adapter to ask")
    return found


def _in_the_cache(asked: _HubId) -> LocalSource | None:
    if asked.file is not None:
        file = cached_file(asked.repo, asked.file, asked.revision)
        return inspect_path(file) if file else None
    for name in (ADAPTER, MODEL):
        if file := cached_file(asked.repo, name, asked.revision):
            return inspect_path(file.parent)
    return None
