"""Validate the YAML metadata of cards as the Hub does.

Rules and wording follow huggingface.co/docs/hub/datasets-cards and /model-cards; what is only a warning on the Hub is a
warning here. A card with `license: nonsense` in its front matter gives one error:

    "license" with value "nonsense" is not valid. It must be one of the Hub's identifiers, or "other"
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from bonsai.hub.errors import BadRequestError
from bonsai.hub.server.names import RepoKind

CARD_LIMIT = 1_000_000
"""Characters of a README.md that are parsed."""
_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_PREFIXED_FIELDS = """
task_categories task_ids language license size_categories multilinguality annotations_creators language_creators
source_datasets base_model datasets
"""
_SINGULAR = {"datasets": "dataset"}


class _StrictLoader(yaml.SafeLoader):
    """Refuse a duplicate key, as the Hub does; PyYAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicated mapping key {key!r}", key_node.start_mark
                )
            if isinstance(key, str | int):
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


# A date stays a text, because the metadata goes out again as JSON.
_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", lambda _, node: str(node.value))


def read_metadata(readme: str) -> dict[str, Any]:
    """Parse the metadata of a card; empty if it has none.

    Raises:
        BadRequestError: if it is not a YAML mapping.
    """
    match = _FRONT_MATTER.match(readme[:CARD_LIMIT])
    if not match:
        return {}
    # Aliases can make a small card expand to gigabytes ("billion laughs").
    if "&" in match[1] and re.search(r"(^|[\s\[{,:-])\*\w", match[1]):
        raise BadRequestError("the metadata uses YAML aliases ('*name'); write the values out")
    try:
        metadata = yaml.load(match[1], Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadRequestError(f"the metadata is not valid YAML: {' '.join(str(error).split())}") from None
    if metadata is None:
        return {}
    if not isinstance(metadata, dict) or not all(isinstance(key, str) for key in metadata):
        raise BadRequestError("the metadata must be a mapping of names to values")
    return metadata


def texts(value: object) -> list[str]:
    """Return the texts of a field that may hold one text or a list."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def derived_tags(metadata: Mapping[str, Any], kind: RepoKind) -> list[str]:
    """Return the tags that the Hub shows and filters by, such as `license:mit`."""
    tags = []
    if kind is RepoKind.MODEL:
        for field in ("library_name", "pipeline_tag", "language"):
            tags += texts(metadata.get(field))
    tags += texts(metadata.get("tags"))
    for field in _PREFIXED_FIELDS.split():
        if not (kind is RepoKind.MODEL and field == "language"):
            tags += [f"{_SINGULAR.get(field, field)}:{value}" for value in texts(metadata.get(field))]
    relation = metadata.get("base_model_relation")
    if isinstance(relation, str):
        tags += [f"base_model:{relation}:{base}" for base in texts(metadata.get("base_model"))]
    return list(dict.fromkeys([*tags, "region:us"]))


_RULES = tomllib.loads(files(__package__).joinpath("rules.toml").read_text(encoding="utf-8"))
LICENSES, SIZE_CATEGORIES, TASKS = (frozenset(_RULES[name]) for name in ("licenses", "size_categories", "tasks"))
BASE_MODEL_RELATIONS = ("adapter", "finetune", "merge", "newversion", "quantized")
NOT_A_LANGUAGE = ("code", "multilingual")
"""Special values of `language`."""

_LANGUAGE = re.compile(r"[a-z]{2,3}")
_MODEL_ID = re.compile(r"([\w-][\w.-]*/)?[\w-][\w.-]*")
_SPLIT = re.compile(r"\w+(\.\w+)*")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`errors` keep a card out of the Hub, `warnings` do not."""

    errors: list[str]
    warnings: list[str]


def check_card(readme: str, kind: RepoKind) -> Verdict:
    """Check the metadata at the head of a README.md."""
    try:
        metadata = read_metadata(readme)
    except BadRequestError as error:
        return Verdict(errors=[error.message], warnings=[])
    if not metadata:
        return Verdict(errors=[], warnings=["empty or missing yaml metadata in repo card"])
    kind_errors = _dataset_errors if kind is RepoKind.DATASET else _model_errors
    warnings = [
        f'The {field} "{name}" is not in the official list'
        for field in ("pipeline_tag", "task_categories")
        for name in texts(metadata.get(field))
        if name not in TASKS
    ]
    if "licence" in metadata:
        warnings.append('The key is spelled "license" on the Hub; "licence" is not read')
    return Verdict(errors=[*_common_errors(metadata), *kind_errors(metadata)], warnings=warnings)


def _common_errors(metadata: dict[str, Any]) -> Iterator[str]:
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


def _model_errors(metadata: dict[str, Any]) -> Iterator[str]:
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


def _dataset_errors(metadata: dict[str, Any]) -> Iterator[str]:
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
        yield from _config_errors(metadata["configs"])
    if "dataset_info" in metadata:
        infos = metadata["dataset_info"]
        if isinstance(infos, list):
            for number, info in enumerate(infos):
                yield from _dataset_info_errors(f"dataset_info[{number}]", info)
        else:
            yield from _dataset_info_errors("dataset_info", infos)


def _config_errors(configs: Any) -> Iterator[str]:
    if not isinstance(configs, list) or not all(isinstance(config, dict) for config in configs):
        yield '"configs" must be an array of objects'
        return
    names = [config.get("config_name") for config in configs]
    for number, config in enumerate(configs):
        if not isinstance(config.get("config_name"), str) or not config["config_name"]:
            yield f'"configs[{number}].config_name" is required and must be a string'
        if not isinstance(config.get("default", False), bool):
            yield f'"configs[{number}].default" must be a boolean'
        location, files = f"configs[{number}].data_files", config.get("data_files", [])
        for entry in files if isinstance(files, list) else [files]:
            if isinstance(entry, dict):
                if not isinstance(entry.get("split"), str) or not _SPLIT.fullmatch(entry["split"]):
                    yield f'"{location}[].split" must be a name of letters, digits and "_"'
                paths = entry.get("path")
                if not paths or len(texts(paths)) != (len(paths) if isinstance(paths, list) else 1):
                    yield f'"{location}[].path" must be a string or an array of strings'
            elif not isinstance(entry, str):
                yield f'"{location}" must be a string, an array of strings or an array of {{split, path}}'
    if len(set(map(str, names))) < len(names):
        yield '"configs[].config_name" must be unique'
    if sum(config.get("default") is True for config in configs) > 1:
        yield '"configs" must have at most one default'


def _dataset_info_errors(location: str, info: Any) -> Iterator[str]:
    if not isinstance(info, dict):
        yield f'"{location}" must be an object or an array of objects'
        return
    if not isinstance(info.get("config_name"), str | None):
        yield f'"{location}.config_name" must be a string'
    for field in ("features", "splits"):
        entries = info.get(field, [])
        if not isinstance(entries, list | dict if field == "features" else list):
            yield f'"{location}.{field}" must be an array'
        elif isinstance(entries, list) and not all(
            isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
        ):
            yield f'"{location}.{field}[].name" must be a string'
    splits = info.get("splits", [])
    counts = [split.get(key) for split in splits if isinstance(split, dict) for key in ("num_bytes", "num_examples")]
    counts += [info.get("download_size"), info.get("dataset_size")]
    if not all(count is None or (isinstance(count, int | float) and not isinstance(count, bool)) for count in counts):
        yield f'"{location}" sizes and counts must be numbers'


def _text_or_list(field: str, value: Any, *, list_only: bool = False) -> Iterator[str]:
    if isinstance(value, list):
        if len(texts(value)) != len(value):
            yield f'"{field}" must be an array of strings'
    elif list_only or not isinstance(value, str):
        yield f'"{field}" must be {"an array" if list_only else "a string or an array of strings"}'
