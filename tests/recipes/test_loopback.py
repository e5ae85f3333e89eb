"""What is on this machine is reached whatever proxy, cache or offline mode a person has set for the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bonsai.hub.server.serve import HubAddress, direct_loopback, unusable_proxies
from tests.conftest import Run
from tests.recipes.inference.models.openai_server import OpenAIServer, serving

DEAD = "http://127.0.0.1:9"
PROXIES = {
    "http_proxy": DEAD,
    "HTTPS_PROXY": DEAD,
    "ALL_PROXY": "socks5://127.0.0.1:9",
    "NO_PROXY": "example.org, .internal",
    "no_proxy": "",
}
"""socks5 without socksio: the Hub's client fails as soon as it is made"""


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(OpenAIServer(says=lambda body: "Because.\n\n### Response:\nSo.", models=("only",))) as running:
        yield running


def test_what_was_named_stays_named() -> None:
    told = direct_loopback({"NO_PROXY": "example.org, .internal", "no_proxy": "10.0.0.1 127.0.0.1"})["NO_PROXY"]
    assert told == "example.org,.internal,10.0.0.1,127.0.0.1,localhost,::1"


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        ("http://proxy:3128", True),
        ("proxy:3128", True),
        ("https://user:word@proxy:3128", True),
        ("", True),
        ("socks5://proxy:1080", False),
        ("socks5h://proxy:1080", False),
        ("socks4://proxy:1080", False),
        ("quic://proxy", False),
        ("http://proxy:port", False),
        ("http://[::1", False),
    ],
)
def test_a_proxy_that_no_client_speaks_to_is_known(value: str, usable: bool) -> None:
    import httpx2

    assert unusable_proxies({"All_Proxy": value, "PATH": "socks4://x"}) == ([] if usable else ["All_Proxy"])
    if usable and value:
        httpx2.Client(proxy=value if "://" in value else f"http://{value}").close()
    elif value:
        with pytest.raises((ImportError, ValueError, httpx2.InvalidURL, httpx2.UnsupportedProtocol)):
            httpx2.Client(proxy=value)


def test_a_server_on_this_machine_is_asked_through_no_proxy(bonsai: Run, server: OpenAIServer, tmp_path: Path) -> None:
    """Also by the address alone, which names no model: there is only one."""
    done = bonsai("ask", "Why?", "--base-url", server.base_url, cwd=tmp_path, **PROXIES)
    assert "So." in done.stdout
    assert "only @ 127.0.0.1" in done.stdout
    elsewhere = bonsai("ask", "Why?", "--base-url", "http://192.0.2.1/v1", cwd=tmp_path, check=False, **PROXIES)
    assert (elsewhere.returncode, elsewhere.stderr.count("\n")) == (1, 1)
    assert "pip install socksio" in elsewhere.stderr


def test_the_local_hub_needs_no_network_setting_of_a_person(bonsai: Run, tmp_path: Path) -> None:
    settings = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_CACHE": "/proc/nope", **PROXIES}
    for name, value in settings.items():
        done = bonsai("releases", "list", "dataset", cwd=tmp_path, check=False, **{name: value})
        assert "no such dataset on http://127.0.0.1" in done.stderr, (name, done.stderr)


@pytest.mark.slow
def test_publishing_here_loads_back_through_no_proxy(bonsai: Run, dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    settings = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_HUB_CACHE": "/proc/nope"}
    terminal = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp932"}
    done = bonsai("publish", "dataset", cwd=tmp_path, **settings, **terminal, **PROXIES)
    assert 'load_dataset("qeu/bonsai")' in done.stdout
    assert "streaming and revision=" in done.stdout


@pytest.mark.slow
def test_training_and_asking_before_and_after_use_no_proxy(
    bonsai: Run, dataset: Path, far_hub: HubAddress, tiny_base: str, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    settings = {**far_hub.environment(), "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "cp932", **PROXIES}
    done = bonsai("train", "tiny", "--max-steps", "2", "--no-gguf", "--evaluate", cwd=tmp_path, **settings)
    assert "adapter -> out/adapters/tiny" in done.stdout
    assert (tmp_path / "out/adapters/tiny/evaluation/evaluation.json").is_file()


@pytest.mark.parametrize("name", ["HF_HUB_CACHE", "HF_HOME"])
def test_unwritable_cache_is_named_before_any_download(name: str, bonsai: Run, tmp_path: Path) -> None:
    done = bonsai("evaluate", "phi2_qtq", cwd=tmp_path, check=False, **{name: "/proc/nope[v2]"})
    assert done.returncode == 1
    assert f"{name} is '/proc/nope[v2]', which is not writable" in done.stderr


@pytest.mark.parametrize("name", ["my name", "me/you", "api", "-me", "あ", "a--b"])
def test_a_namespace_that_is_no_name_is_named_at_once(name: str, bonsai: Run, tmp_path: Path) -> None:
    done = bonsai("build", cwd=tmp_path, check=False, BONSAI_NAMESPACE=name)
    assert done.returncode == 1
    assert f"BONSAI_NAMESPACE is {name!r}, which is not a valid name on the Hub" in done.stderr
    assert not (tmp_path / "out").exists()
