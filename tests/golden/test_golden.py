from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.baselines import EXPECTED, made


@pytest.fixture(scope="module")
def found(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return made(dataset, tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", sorted(path.name for path in EXPECTED.iterdir()))
def test_what_users_get_is_as_it_was(found: dict[str, str], name: str) -> None:
    assert found[name] == (EXPECTED / name).read_text(encoding="utf-8")


def test_every_baseline_is_kept(found: dict[str, str]) -> None:
    assert set(found) == {path.name for path in EXPECTED.iterdir()}
