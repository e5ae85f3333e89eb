"""Concurrent clients on a small scale; benchmarks/hub_load.py is the same with 64 of them for a minute."""

from __future__ import annotations

from bonsai.hub.server.serve import HubAddress
from tests.hub.load import load


def test_sixteen_clients_at_once_lose_and_tear_nothing(hub: HubAddress) -> None:
    loaded = load(hub.endpoint, hub.token, clients=16, repos=2, seconds=3.0, seed=1)
    assert loaded.refused == []
    assert loaded.torn == []
    assert loaded.lost == []
    assert len(loaded.uploads) >= 16
