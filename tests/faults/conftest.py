from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.cases import Stage
from tests.faults.stage import staged


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The Hub's log is not looked at: here it has reason to complain."""
    with staged(tmp_path_factory.mktemp("faults")) as stage:
        yield stage
