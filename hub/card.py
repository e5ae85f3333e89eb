"""The YAML at the head of a README.md, and what the Hub derives from it: tags, library, task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from bonsai.hub.errors import BadRequestError
from bonsai.hub.names import RepoKind

CARD_LIMIT = 1_000_000
"""Characters of a README.md that are looked at."""
_FRONT_MATTER = re.compile(r"\A\ufeff?\s*---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_PREFIXED = (
    "task_categories",
    "task_ids",
    "language",
    "license",
    "size_categories",
    "multilinguality",
    "annotations_creators",
    "language_creators",
    "source_datasets",
    "base_model",
    "datasets",
)
_SINGULAR = {"datasets": "dataset"}


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key written twice, as the Hub does; YAML itself would quietly keep the last one."""

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


def _date_as_text(_: _StrictLoader, node: yaml.Node) -> str:
    """A date stays the text it was: it has to go out again as JSON."""
    return str(node.value)


_StrictLoader.add_constructor("tag:yaml.org,2002:timestamp", _date_as_text)


def read_metadata(readme: str) -> dict[str, Any]:
    """The metadata of a card; empty if it has none.

    Raises:
        BadRequestError: if it is not a YAML mapping.
    """
    match = _FRONT_MATTER.match(readme[:CARD_LIMIT])
    if not match:
        return {}
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
    """A field that may hold one text or a list of them."""
    return [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]


def derived_tags(metadata: Mapping[str, Any], kind: RepoKind) -> list[str]:
    """The tags the Hub shows and filters by."""
    return list(dict.fromkeys(_tags(metadata, kind)))


def _tags(metadata: Mapping[str, Any], kind: RepoKind) -> Iterator[str]:
    if kind is RepoKind.MODEL:
        yield from texts(metadata.get("library_name"))
        yield from texts(metadata.get("pipeline_tag"))
        yield from texts(metadata.get("language"))
    yield from texts(metadata.get("tags"))
    for field in _PREFIXED:
        if not (kind is RepoKind.MODEL and field == "language"):
            yield from (f"{_SINGULAR.get(field, field)}:{value}" for value in texts(metadata.get(field)))
    relation = metadata.get("base_model_relation")
    if isinstance(relation, str):
        yield from (f"base_model:{relation}:{base}" for base in texts(metadata.get("base_model")))
    yield "region:us"
