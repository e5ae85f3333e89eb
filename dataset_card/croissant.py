"""Write croissant.json, which describes the dataset to machines as the Hub itself does (MLCommons Croissant 1.0).

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html. The Hub writes one for every Parquet dataset; the
local Hub serves this one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


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
    """Render the file, byte for byte the same for the same arguments."""
    # 1. The repo, and the Parquet files of each config in it.
    page = f"https://huggingface.co/datasets/{repo_id}"
    distribution: list[dict[str, Any]] = [
        {
            "@type": "cr:FileObject",
            "@id": "repo",
            "name": "repo",
            "description": "The git repository on the Hub.",
            "contentUrl": f"{page}/tree/v{version}",
            "encodingFormat": "git+https",
            # the specification wants a hash where a repository has none; the Hub gives this address too
            "sha256": "https://github.com/mlcommons/croissant/issues/80",
        }
    ]
    for config in configs:
        distribution.append(
            {
                "@type": "cr:FileSet",
                "@id": f"parquet-{config.name}",
                "name": f"parquet-{config.name}",
                "description": f"The Parquet files of the config {config.name}.",
                "encodingFormat": "application/x-parquet",
                "includes": f"{config.name}/*.parquet",
                "containedIn": {"@id": "repo"},
            }
        )

    # 2. The whole, with the columns of each config.
    document = {
        # the JSON-LD context of the specification
        "@context": json.loads(files(__package__).joinpath("context.json").read_text(encoding="utf-8")),
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
        "distribution": distribution,
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": config.name,
                "name": config.name,
                "description": config.description,
                "field": [_field(config, column, kind) for column, kind in config.columns.items()],
            }
            for config in configs
        ],
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


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
