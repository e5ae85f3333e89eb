"""Looking for a model: behind an address, among what was trained here, in a folder, on the Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bonsai.hub.client.destination import in_namespace
from bonsai.hub.client.session import httpx
from bonsai.recipes.inference.generation.engine import GenerationError
from bonsai.recipes.inference.models.missing import missing
from bonsai.recipes.inference.models.offline import cached, reachable
from bonsai.recipes.inference.models.source import (
    ADAPTER,
    GGUF,
    MODEL,
    Found,
    GgufAt,
    Here,
    ModelAt,
    behind_an_address,
    in_a_folder,
)
from bonsai.recipes.training.registry import load_recipe, recipe_names

_HUB_ID = re.compile(r"(?P<repo>[\w.-]+(?:/[\w.-]+)?)(?:/(?P<file>[^@]+\.gguf))?(?:@(?P<revision>.+))?")
_WITH_ADAPTER = re.compile(r"(?P<model>.+\.gguf(?:@[^+]+)?)\+(?P<lora>.+\.gguf(?:@.+)?)")


class _HubId(NamedTuple):
    repo: str
    file: str | None
    revision: str | None


def find(source: str, *, out: Path, base_url: str | None, provider: str | None, lora: str | None) -> Found:
    """Where the model is; `bonsai.recipes.inference.models.opening.open_model` says what ``source`` may be.

    Raises:
        GenerationError: there is no such model, or it is not what the other arguments take it for.
    """
    if lora is None and (pair := _WITH_ADAPTER.fullmatch(source)) and not Path(source).exists():
        source, lora = pair["model"], pair["lora"]
    found = behind_an_address(source, base_url, provider) or _here_or_on_the_hub(source, out)
    if lora is None:
        return found
    if not isinstance(found, GgufAt):
        raise GenerationError(f"{source} is no GGUF, and {lora} is an adapter for one; give a .gguf file as the model")
    adapter = _here_or_on_the_hub(lora, out)
    if not isinstance(adapter, GgufAt):
        raise GenerationError(f"{lora} is no GGUF adapter; give the path or OWNER/NAME/FILE.gguf of one")
    return GgufAt(path=found.path, lora=adapter.path)


def _here_or_on_the_hub(source: str, out: Path) -> Here:
    grown = in_a_folder(out / "adapters" / source) if Path(source).name == source else None
    return grown or in_a_folder(Path(source)) or _on_the_hub(source, out)


def _on_the_hub(source: str, out: Path) -> Here:
    wanted = in_namespace(load_recipe(source).repo_id) if source in recipe_names() else source
    match = _HUB_ID.fullmatch(wanted)
    if match is None:
        raise missing(source, out, f"{source!r} is no recipe, folder, address or Hub id")
    asked = _HubId(match["repo"], match["file"], match["revision"])
    if not reachable():
        found = _in_the_cache(asked)
        if found is None:
            raise _nowhere(source, wanted, out, "in the cache, and no Hub can be reached")
        return found
    try:
        return _looked_up(asked)
    except GatedRepoError as error:
        raise GenerationError(
            f"{asked.repo} is gated; accept its terms on its page and put a token that may read it into HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise GenerationError(f"{asked.repo} has no revision {asked.revision!r}; give a commit id or a tag") from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise _nowhere(source, wanted, out, "on the Hub") from error
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise GenerationError(f"{source}: the Hub is in trouble ({type(error).__name__}); try again later") from error


def _nowhere(source: str, wanted: str, out: Path, where: str) -> GenerationError:
    if source == wanted:
        return missing(source, out, f"{source} is neither here nor {where}")
    return GenerationError(
        f"{source} is not trained here ({out / 'adapters' / source} has no adapter), nor is {wanted} {where}; run "
        f"`nox -s train -- {source}` first"
    )


def _looked_up(asked: _HubId) -> Here:
    repo, file, revision = asked
    if file is not None:
        return GgufAt(path=Path(hf_hub_download(repo, file, revision=revision)))
    names = HfApi().list_repo_files(repo, revision=revision)
    ggufs = [name for name in names if name.endswith(GGUF)]
    found: Here | None = None
    if ADAPTER in names:
        found = in_a_folder(Path(snapshot_download(repo, revision=revision, allow_patterns="adapter_*")))
    elif MODEL in names:
        found = ModelAt(place=repo, revision=revision)
    elif len(ggufs) == 1:
        found = GgufAt(path=Path(hf_hub_download(repo, ggufs[0], revision=revision)))
    elif ggufs:
        raise GenerationError(f"{repo} has several GGUF files; give one: {', '.join(f'{repo}/{one}' for one in ggufs)}")
    if found is None:
        raise GenerationError(f"{repo} has neither {ADAPTER} nor {MODEL} nor a GGUF file: no model or adapter to ask")
    return found


def _in_the_cache(asked: _HubId) -> Here | None:
    if asked.file is not None:
        file = cached(asked.repo, asked.file, asked.revision)
        return in_a_folder(file) if file else None
    for name in (ADAPTER, MODEL):
        if file := cached(asked.repo, name, asked.revision):
            return in_a_folder(file.parent)
    return None
