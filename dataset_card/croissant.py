"""croissant.json: the dataset described for machines, in the shape the Hub itself publishes (MLCommons Croissant 1.0).

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


@dataclass(frozen=True, kw_only=True)
class CroissantConfig:
    """One config: its columns with their Croissant types (``sc:Text``, ``sc:Integer``, …)."""

    name: str
    description: str
    columns: Mapping[str, str | Mapping[str, str]]
    """a mapping for a column of structs: its members with their types"""
    repeated: frozenset[str] = frozenset()
    """columns that hold lists"""


def render(
    *,
    repo_id: str,
    version: str,
    released: str,
    description: str,
    languages: Sequence[str],
    configs: Sequence[CroissantConfig],
) -> str:
    """The file as text, the same for the same facts."""
    page = f"https://huggingface.co/datasets/{repo_id}"
    document: dict[str, Any] = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": repo_id.rpartition("/")[2],
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "citeAs": f"BONSAI contributors: BONSAI, version {version}. {page}",
        "license": "https://choosealicense.com/licenses/mit/",
        "url": page,
        "version": version,
        "datePublished": released,
        "inLanguage": list(languages),
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "repo",
                "name": "repo",
                "description": "The git repository on the Hub.",
                "contentUrl": f"{page}/tree/v{version}",
                "encodingFormat": "git+https",
                "sha256": "https://github.com/mlcommons/croissant/issues/80",
            },
            *({**_files(config), "containedIn": {"@id": "repo"}} for config in configs),
        ],
        "recordSet": [_records(config) for config in configs],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _files(config: CroissantConfig) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"parquet-{config.name}",
        "name": f"parquet-{config.name}",
        "description": f"The Parquet files of the config {config.name}.",
        "encodingFormat": "application/x-parquet",
        "includes": f"{config.name}/*.parquet",
    }


def _records(config: CroissantConfig) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": config.name,
        "name": config.name,
        "description": config.description,
        "field": [_field(config, column, kind) for column, kind in config.columns.items()],
    }


def _field(config: CroissantConfig, column: str, kind: str | Mapping[str, str]) -> dict[str, Any]:
    source = {"fileSet": {"@id": f"parquet-{config.name}"}, "extract": {"column": column}}
    field: dict[str, Any] = {"@type": "cr:Field", "@id": f"{config.name}/{column}", "name": column}
    if column in config.repeated:
        field["repeated"] = True
    if isinstance(kind, str):
        return {**field, "dataType": kind, "source": source}
    members = [
        {
            "@type": "cr:Field",
            "@id": f"{config.name}/{column}/{member}",
            "name": f"{column}/{member}",
            "dataType": member_kind,
            "source": {**source, "transform": [{"jsonPath": member}]},
        }
        for member, member_kind in kind.items()
    ]
    return {**field, "subField": members}
