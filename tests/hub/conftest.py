"""Share one Hub among the tests of this folder; each test creates its own repositories.

The clients are the real ones: in this process with the endpoint passed to them, or, where they read it when they are
imported, in a child process with a home of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi, constants

from bonsai.hub.server.serve import HubAddress, run_hub
from tests.hub.raw_client import USERS, RawClient


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """huggingface_hub 2.4 sends bytes to its HTTP client in a way that one warns of; that is not ours to mend."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:Use 'content=<...>':DeprecationWarning"))


@pytest.fixture(scope="session", autouse=True)
def _plain_uploads() -> None:
    """What HF_HUB_DISABLE_XET=1 does, for a client that another test may have imported already."""
    constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_DISABLE_PROGRESS_BARS = True


@pytest.fixture(scope="session")
def hub_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hub")


@pytest.fixture(scope="session")
def hub(hub_root: Path) -> Iterator[HubAddress]:
    with run_hub(hub_root, users=USERS) as address:
        yield address
    complaints = (hub_root / "hub.log").read_text()
    assert complaints == "", f"the server complained:\n{complaints}"


@pytest.fixture(scope="session")
def api(hub: HubAddress) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture(scope="session")
def guest(hub: HubAddress) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=USERS["guest"])


@pytest.fixture(scope="session")
def anonymous(hub: HubAddress) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=False)


@pytest.fixture(scope="session")
def ask(hub: HubAddress) -> RawClient:
    return RawClient(hub=hub)


@pytest.fixture(scope="session")
def _numbers() -> Iterator[int]:
    return count(1)


@pytest.fixture
def new_name(_numbers: Iterator[int]) -> Callable[[], str]:
    """Names for repositories that no other test uses."""
    return lambda: f"qeu/test-{next(_numbers)}"


@pytest.fixture
def dataset(api: HfApi, new_name: Callable[[], str]) -> str:
    name = new_name()
    api.create_repo(name, repo_type="dataset")
    return name


@pytest.fixture
def model(api: HfApi, new_name: Callable[[], str]) -> str:
    name = new_name()
    api.create_repo(name)
    return name


@pytest.fixture
def child_environment(hub: HubAddress, tmp_path: Path) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {
        **inherited,
        **hub.environment(),
        "HF_HOME": str(tmp_path / "hf_home"),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }


@pytest.fixture
def in_child(child_environment: dict[str, str], tmp_path: Path) -> Callable[..., Any]:
    """Runs code in a fresh process that sees only the Hub, and returns what the code put into `result`."""

    def run(code: str, **names: str) -> Any:
        lines = [f"{name} = {value!r}" for name, value in names.items()]
        lines += [textwrap.dedent(code), "import json", "print('\\n' + json.dumps(result))"]
        done = subprocess.run(
            [sys.executable, "-c", "\n".join(lines)],
            env=child_environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run
