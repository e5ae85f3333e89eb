"""Resolve the name of a model: a recipe, folder, Hub repo, GGUF file, address or provider.

No weights are loaded here; of a Hub repo only the files are fetched that tell an adapter from a model.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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

ADAPTER = "adapter_config.json"
MODEL = "config.json"
GGUF = ".gguf"
AUTO = "auto"
"""the provider that Hugging Face's router chooses"""
HUB_TIMEOUT = 10.0
"""seconds"""
SUGGESTIONS = 3
LISTED = 10
"""names listed if none is similar"""
MIN_SIMILARITY = 0.65
"""of a suggestion, by `difflib`, 0 to 1"""
SEARCH_LIMIT = 100
"""repos looked at, of the owner and of the Hub's search each"""

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<file>[^@]+\.gguf))?(?:@(?P<revision>.+))?")
_WITH_ADAPTER = re.compile(r"(?P<model>.+\.gguf(?:@[^+]+)?)\+(?P<lora>.+\.gguf(?:@.+)?)")


def hub_is_reachable() -> bool:
    """Return whether the Hub answers at all; its client finds out only after twenty seconds of retries a request."""
    try:
        get_session().head(HfApi().endpoint, timeout=HUB_TIMEOUT)
    except (httpx.HTTPError, OfflineModeIsEnabled):
        return False
    return True


def cached_file(repo: str, name: str, revision: str | None) -> Path | None:
    """Return a file of a repo from the cache; None if it is not there."""
    try:
        found = try_to_load_from_cache(repo, name, revision=revision or constants.DEFAULT_REVISION)
    except HFValidationError:  # a folder that no longer exists
        return None
    return Path(found) if isinstance(found, str) else None


def model_not_found_error(name: str, among: Path | Iterable[str], message: str) -> GenerationError:
    """Build the error for an unknown name, with similar names as suggestions.

    Args:
        among: the existing names, or ``out``: then those of `known_models`.
        message: what is wrong, without the suggestions.
    """
    names = known_models(name, among) if isinstance(among, Path) else list(among)
    similar = difflib.get_close_matches(name, names, n=SUGGESTIONS, cutoff=MIN_SIMILARITY)
    if similar:
        return GenerationError(f"{message}; did you mean {' or '.join(similar)}?")
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    hint = f"there are {', '.join(names[:LISTED])}{more}" if names else "there is nothing like it"
    return GenerationError(f"{message}; {hint}")


def known_models(name: str, out: Path) -> list[str]:
    """List recipes, adapters in ``out/adapters``, and models on the Hub that resemble ``name``."""
    trained = [config.parent.name for config in sorted((out / "adapters").glob(f"*/{ADAPTER}"))]
    on_hub: list[str] = []
    if hub_is_reachable():
        owner, _, repo = name.partition("@")[0].rpartition("/")
        api = HfApi()
        with contextlib.suppress(HfHubHTTPError, httpx.HTTPError):  # a failed search only means fewer suggestions
            by_owner = [model.id for model in api.list_models(author=owner, limit=SEARCH_LIMIT)] if owner else []
            on_hub = by_owner + [model.id for model in api.list_models(search=repo, limit=SEARCH_LIMIT)]
    return [*dict.fromkeys([*recipe_names(), *trained, *on_hub])]


@dataclass(frozen=True, kw_only=True)
class AdapterSource:
    """A PEFT adapter and the base model it was trained on."""

    folder: Path
    base: str
    """a folder or a repo id"""
    base_revision: str | None


@dataclass(frozen=True, kw_only=True)
class HubModelSource:
    """A transformers model."""

    place: str
    """a folder or a repo id"""
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class GgufSource:
    """A GGUF model, optionally with a GGUF adapter."""

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
    """Parse the name of a model behind a server or provider; None if it is neither.

    Raises:
        GenerationError: the address is invalid, or there is no such provider.
    """
    if base_url is not None and provider is not None:
        raise GenerationError(
            f"{source} cannot be asked both at {base_url} and through {provider}; give one of the two"
        )
    if base_url is not None:
        return EndpointSource(base_url=_check_address(base_url), model=source or None)
    if source.startswith(("http://", "https://")):
        address, _, model = source.partition("#")
        return EndpointSource(base_url=_check_address(address), model=model or None)
    head, colon, model = source.partition(":")
    if provider is None and colon and model and (head == AUTO or head in PROVIDERS):
        return ProviderSource(provider=head, model=model)
    if provider is None:
        return None
    if provider != AUTO and provider not in PROVIDERS:
        raise model_not_found_error(provider, [AUTO, *PROVIDERS], f"no Inference Provider is called {provider!r}")
    return ProviderSource(provider=provider, model=source)


def inspect_path(path: Path) -> LocalSource | None:
    """Return the model or adapter at a path; None if there is none.

    Raises:
        GenerationError: an adapter that does not name its base model.
    """
    if path.suffix == GGUF and path.is_file():
        return GgufSource(path=path)
    if (path / ADAPTER).is_file():
        try:
            config = json.loads((path / ADAPTER).read_text(encoding="utf-8"))
            base, base_revision = config.get("base_model_name_or_path"), config.get("revision")
        except (ValueError, AttributeError) as error:
            raise GenerationError(f"{path}: its {ADAPTER} cannot be read ({error}); fetch or train it again") from error
        if not base:
            raise GenerationError(f"{path}: its {ADAPTER} names no base model; write base_model_name_or_path into it")
        return AdapterSource(folder=path, base=base, base_revision=base_revision)
    return HubModelSource(place=str(path)) if (path / MODEL).is_file() else None


def _check_address(address: str) -> str:
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise GenerationError(f"{address!r} is not a valid address ({error}); write http://HOST:PORT/v1") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise GenerationError(f"{address!r} is not a valid address; write http://HOST:PORT/v1")
    if url.userinfo:
        raise GenerationError(f"the address of {url.host} contains a password; put the key into OPENAI_API_KEY")
    return address.rstrip("/") + ("/v1" if url.path in ("", "/") else "")


def resolve_model(
    source: str, *, out: Path, base_url: str | None, provider: str | None, lora: str | None
) -> ModelSource:
    """Find the model; see `bonsai.recipes.inference.models.open_model` for what ``source`` may be.

    Raises:
        GenerationError: there is no such model, or the arguments do not fit it.
    """
    if lora is None and (pair := _WITH_ADAPTER.fullmatch(source)) and not Path(source).exists():
        source, lora = pair["model"], pair["lora"]
    found = parse_remote_source(source, base_url, provider) or _resolve_local_or_hub(source, out)
    if lora is None:
        return found
    if not isinstance(found, GgufSource):
        raise GenerationError(
            f"{source} is not a GGUF file, but {lora} is an adapter for one; give a .gguf file as the model"
        )
    adapter = _resolve_local_or_hub(lora, out)
    if not isinstance(adapter, GgufSource):
        raise GenerationError(f"{lora} is not a GGUF adapter; give the path or OWNER/NAME/FILE.gguf of one")
    return GgufSource(path=found.path, lora=adapter.path)


def _resolve_local_or_hub(source: str, out: Path) -> LocalSource:
    # 1. An adapter trained here, or a path.
    trained = inspect_path(out / "adapters" / source) if Path(source).name == source else None
    if local := trained or inspect_path(Path(source)):
        return local

    # 2. A recipe's repo, or a Hub id.
    wanted = with_namespace(load_recipe(source).repo_id) if source in recipe_names() else source
    match = _HUB_ID.fullmatch(wanted)
    if match is None:
        there = _what_is_at(source)
        raise model_not_found_error(source, out, there or f"{source!r} is not a recipe, folder, address or Hub id")
    repo, file, revision = match["repo"], match["file"], match["revision"]

    # 3. Without a Hub: the cache.
    if not hub_is_reachable():
        for name in (file,) if file else (ADAPTER, MODEL):
            cached = cached_file(repo, name, revision)
            if cached and (found := inspect_path(cached if file else cached.parent)):
                return found
        raise _not_found(source, wanted, out, "in the cache, and no Hub can be reached")

    # 4. On the Hub.
    try:
        return _resolve_on_hub(repo, file, revision)
    except GatedRepoError as error:
        raise GenerationError(
            f"{repo} is gated; accept its terms on its page and put a token that may read it into HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise GenerationError(f"{repo} has no revision {revision!r}; give a commit id or a tag") from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise _not_found(source, wanted, out, "on the Hub") from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise GenerationError(f"{source}: the Hub failed ({type(error).__name__}); try again later") from error


def _what_is_at(source: str) -> str | None:
    """Describe the file or folder of this name, which is no model; None if there is nothing."""
    if Path(source).is_dir():
        return f"{source} is a folder with neither {ADAPTER} nor {MODEL}: it holds no adapter and no model"
    return f"{source} is a file, but not a {GGUF} file" if Path(source).exists() else None


def _not_found(source: str, wanted: str, out: Path, where: str) -> GenerationError:
    if source == wanted:
        there = _what_is_at(source)
        message = f"{there}; nor is a model of that name {where}" if there else f"{source} is neither here nor {where}"
        return model_not_found_error(source, out, message)
    return GenerationError(
        f"{source} is not trained here ({out / 'adapters' / source} has no adapter), nor is {wanted} {where}; run "
        f"`nox -s train -- {source}` first"
    )


def _resolve_on_hub(repo: str, file: str | None, revision: str | None) -> LocalSource:
    """Tell what a Hub repo holds, and fetch an adapter or a GGUF file."""
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
        raise GenerationError(
            f"{repo} has neither {ADAPTER} nor {MODEL} nor a GGUF file: it is neither a model nor an adapter"
        )
    return found
