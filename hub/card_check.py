"""What the Hub checks in a card before it takes it: `POST /api/validate-yaml`.

The rules and their wording follow huggingface.co/docs/hub/datasets-cards and /model-cards; what the Hub only warns
about is a warning here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bonsai.hub.card import read_metadata, texts
from bonsai.hub.card_vocabulary import BASE_MODEL_RELATIONS, LICENSES, NOT_A_LANGUAGE, SIZE_CATEGORIES, TASKS
from bonsai.hub.errors import BadRequestError
from bonsai.hub.names import RepoKind

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_MODEL_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")
_SPLIT = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`errors` keep a card out of the Hub, `warnings` do not."""

    errors: list[str]
    warnings: list[str]


def check_card(readme: str, kind: RepoKind) -> Verdict:
    """Checks the metadata at the head of a README.md."""
    try:
        metadata = read_metadata(readme)
    except BadRequestError as error:
        return Verdict(errors=[error.message], warnings=[])
    if not metadata:
        return Verdict(errors=[], warnings=["empty or missing yaml metadata in repo card"])
    errors = [*_common(metadata), *(_dataset(metadata) if kind is RepoKind.DATASET else _model(metadata))]
    return Verdict(errors=errors, warnings=list(_warnings(metadata)))


def _common(metadata: dict[str, Any]) -> Iterator[str]:
    for name in texts(metadata.get("license")):
        if name not in LICENSES:
            yield f'"license" with value "{name}" is not valid. It must be one of the Hub\'s identifiers, or "other"'
    if "license" in metadata:
        yield from _text_or_list("license", metadata["license"])
    for field in ("language", "tags", "datasets", "metrics"):
        if field in metadata:
            yield from _text_or_list(field, metadata[field], list_only=field == "tags")
    for name in texts(metadata.get("language")):
        if not _LANGUAGE.fullmatch(name) and name not in NOT_A_LANGUAGE:
            yield (
                f'"language" with value "{name}" is not valid. It must be an ISO 639-1, 639-2 or 639-3 code'
                ' (two/three letters), or a special value like "code", "multilingual"'
            )
    if any(len(tag) > 100 for tag in texts(metadata.get("tags"))):
        yield '"tags" must be at most 100 characters each'


def _model(metadata: dict[str, Any]) -> Iterator[str]:
    for field in ("library_name", "pipeline_tag"):
        if not isinstance(metadata.get(field), str | None):
            yield f'"{field}" must be a string'
    if "base_model" in metadata:
        yield from _text_or_list("base_model", metadata["base_model"])
        for name in texts(metadata["base_model"]):
            if not _MODEL_ID.fullmatch(name):
                yield f'"base_model" with value "{name}" is not valid. Use a model id from https://hf.co/models.'
    if metadata.get("base_model_relation", "adapter") not in BASE_MODEL_RELATIONS:
        yield f'"base_model_relation" must be one of [{", ".join(BASE_MODEL_RELATIONS)}]'
    index = metadata.get("model-index", [])
    if not isinstance(index, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in index
    ):
        yield '"model-index" must be an array of models with a "name"'
    elif not all(isinstance(entry.get("results"), list) for entry in index):
        yield '"model-index[].results" must be an array'


def _dataset(metadata: dict[str, Any]) -> Iterator[str]:
    for field in ("task_categories", "task_ids", "size_categories", "source_datasets", "annotations_creators"):
        if field in metadata:
            yield from _text_or_list(field, metadata[field])
    for name in texts(metadata.get("size_categories")):
        if name not in SIZE_CATEGORIES:
            sizes = ", ".join(sorted(SIZE_CATEGORIES))
            yield f'"size_categories" with value "{name}" is not valid. It must be one of {sizes}'
    if not isinstance(metadata.get("pretty_name"), str | None):
        yield '"pretty_name" must be a string'
    if "configs" in metadata:
        yield from _configs(metadata["configs"])
    if "dataset_info" in metadata:
        infos = metadata["dataset_info"]
        for number, info in enumerate(infos if isinstance(infos, list) else [infos]):
            yield from _dataset_info(f"dataset_info[{number}]" if isinstance(infos, list) else "dataset_info", info)


def _configs(configs: Any) -> Iterator[str]:
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        yield '"configs" must be an array of objects'
        return
    names = [config.get("config_name") for config in configs]
    for number, config in enumerate(configs):
        if not isinstance(config.get("config_name"), str) or not config["config_name"]:
            yield f'"configs[{number}].config_name" is required and must be a string'
        if not isinstance(config.get("default", False), bool):
            yield f'"configs[{number}].default" must be a boolean'
        yield from _data_files(f"configs[{number}].data_files", config.get("data_files", []))
    if len(set(map(str, names))) < len(names):
        yield '"configs[].config_name" must be unique'
    if sum(config.get("default") is True for config in configs) > 1:
        yield '"configs" must have at most one default'


def _data_files(place: str, files: Any) -> Iterator[str]:
    for entry in files if isinstance(files, list) else [files]:
        if isinstance(entry, dict):
            if not isinstance(entry.get("split"), str) or not _SPLIT.fullmatch(entry["split"]):
                yield f'"{place}[].split" must be a name of letters, digits and "_"'
            if not entry.get("path") or len(texts(entry["path"])) != len(
                entry["path"] if isinstance(entry["path"], list) else [1]
            ):
                yield f'"{place}[].path" must be a string or an array of strings'
        elif not isinstance(entry, str):
            yield f'"{place}" must be a string, an array of strings or an array of {{split, path}}'


def _dataset_info(place: str, info: Any) -> Iterator[str]:
    if not isinstance(info, dict):
        yield f'"{place}" must be an object or an array of objects'
        return
    if not isinstance(info.get("config_name"), str | None):
        yield f'"{place}.config_name" must be a string'
    for field in ("features", "splits"):
        entries = info.get(field, [])
        if not isinstance(entries, list | dict if field == "features" else list):
            yield f'"{place}.{field}" must be an array'
        elif isinstance(entries, list) and not all(
            isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
        ):
            yield f'"{place}.{field}[].name" must be a string'
    splits = info.get("splits", [])
    counts = [split.get(key) for split in splits if isinstance(split, dict) for key in ("num_bytes", "num_examples")]
    counts += [info.get("download_size"), info.get("dataset_size")]
    if not all(count is None or (isinstance(count, int | float) and not isinstance(count, bool)) for count in counts):
        yield f'"{place}" sizes and counts must be numbers'


def _warnings(metadata: dict[str, Any]) -> Iterator[str]:
    for field in ("pipeline_tag", "task_categories"):
        for name in texts(metadata.get(field)):
            if name not in TASKS:
                yield f'The {field} "{name}" is not in the official list'
    if "licence" in metadata:
        yield 'The key is spelled "license" on the Hub; "licence" is not read'


def _text_or_list(field: str, value: Any, *, list_only: bool = False) -> Iterator[str]:
    if isinstance(value, list):
        if len(texts(value)) != len(value):
            yield f'"{field}" must be an array of strings'
    elif list_only or not isinstance(value, str):
        yield f'"{field}" must be {"an array" if list_only else "a string or an array of strings"}'
