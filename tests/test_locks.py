"""What is installed is pinned once, in constraints.txt, and checked against the hashes in locks/; all but torch."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from locks.environments import LAYERS, read_audit, section

ROOT = Path(__file__).parents[1]
BY_VERSION = {"torch"}
STANDS_ON = {
    "light": ("light",),
    "full": ("light", "full"),
    "demo": ("light", "full", "demo"),
    "testing": ("light", "full", "demo", "testing"),
    "building": ("building",),
    "base_model": ("base_model",),
    "lint": ("lint",),
    "types": ("types",),
    "audit": ("audit",),
}


def pins(lines: str) -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([\w.]+)", lines)}


def locked(layer: str) -> dict[str, str]:
    return pins(section(layer))


def asked(layer: str) -> list[Requirement]:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = told["project"]["optional-dependencies"]
    by_layer = {
        "light": told["project"]["dependencies"],
        "full": extras["train"],
        "demo": extras["demo"],
        "testing": [line for extra in extras.values() for line in extra],
        **told["dependency-groups"],
    }
    return [Requirement(line) for line in by_layer[layer]]


def test_every_layer_has_its_section() -> None:
    assert set(LAYERS) == set(STANDS_ON)
    assert all(section(layer).strip() for layer in LAYERS)


@pytest.mark.parametrize("layer", STANDS_ON)
def test_what_is_locked_has_hashes_and_the_version_of_the_constraints(layer: str) -> None:
    constraints = pins((ROOT / "constraints.txt").read_text())
    entries = re.split(r"\n(?=\S)", section(layer).strip())
    assert entries
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==([\w.]+)", entry).groups()  # type: ignore[union-attr]
        assert constraints.get(canonicalize_name(name)) == version, f"{name}=={version}: run `nox -s lock`"
        assert re.fullmatch(r"[^\\]+( \\\n    --hash=sha256:[0-9a-f]{64})+", entry), f"{name} has no hash"


@pytest.mark.parametrize("layer", STANDS_ON)
def test_a_layer_and_those_below_hold_all_that_the_project_asks_for(layer: str) -> None:
    held = {name: version for below in STANDS_ON[layer] for name, version in locked(below).items()}
    for requirement in asked(layer):
        name = canonicalize_name(requirement.name)
        if name in BY_VERSION:
            assert name not in held
        else:
            assert requirement.specifier.contains(held[name]), f"{requirement}: run `nox -s lock`"


def test_colab_keeps_all_that_it_has_but_datasets_and_pyarrow() -> None:
    tree = ast.parse((ROOT / "tests" / "recipes" / "on_colab.py").read_text(encoding="utf-8"))
    colab = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COLAB"
    )
    there = {**{canonicalize_name(name): version for name, version in colab.items()}, "torch": "2.11.0+cu128"}
    wanted = {canonicalize_name(one.name): one.specifier for one in (*asked("light"), *asked("full"))}
    replaced = {name for name in there.keys() & wanted.keys() if not wanted[name].contains(there[name])}
    assert replaced == {"datasets", "pyarrow"}
    assert wanted["torch"].contains("2.13.0+cpu")


def test_an_audit_without_a_database_has_audited_nothing() -> None:
    assert read_audit("ERROR:pip_audit: no route to host\n").audited == 0
    skipped = '{"dependencies": [{"name": "a", "skip_reason": "not found"}]}'
    assert read_audit(f"note\n{skipped}\n") == (0, ["a"], [])


def test_an_audit_names_each_vulnerability_with_its_version() -> None:
    found = '{"dependencies": [{"name": "a", "version": "1.0", "vulns": [{"id": "CVE-1"}]}]}'
    assert read_audit(found) == (1, [], ["a 1.0: CVE-1"])
