"""Two simultaneous releases of one repo: both complete, or one is refused and main holds the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from bonsai.hub.publish import PublishResult, tags
from bonsai.hub.repo_files import diff_files, list_files
from bonsai.hub.retry import PushError
from tests.faults.cases import KINDS, TAG, Kind, Stage, assert_released, prepared, release

TIMES = 8


def both(stage: Stage, kinds: tuple[Kind, Kind], repo_id: str) -> list[PublishResult | PushError]:
    ready = threading.Barrier(2)

    def one(kind: Kind) -> PublishResult | PushError:
        ready.wait()
        try:
            return release(stage.straight, kind, repo_id)
        except PushError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, kinds))


@pytest.mark.parametrize("name", KINDS)
def test_two_releases_of_the_same_are_both_complete_in_one_commit(name: str, stage: Stage) -> None:
    kind = KINDS[name]
    for _ in range(TIMES):
        repo_id = prepared(stage, kind)
        ended = both(stage, (kind, kind), repo_id)
        assert all(isinstance(end, PublishResult) for end in ended), ended
        assert_released(stage, kind, repo_id)


@pytest.mark.parametrize("name", KINDS)
def test_of_two_releases_that_differ_one_is_refused_and_main_is_the_other(name: str, stage: Stage) -> None:
    kind = KINDS[name]
    other = replace(kind, after={**kind.after, "README.md": kind.after["README.md"] + b"\nother\n"})
    for _ in range(TIMES):
        repo_id = prepared(stage, kind)
        ended = both(stage, (kind, other), repo_id)
        winners = [one for one, end in zip((kind, other), ended, strict=True) if isinstance(end, PublishResult)]
        assert len(winners) == 1, ended
        (refused,) = (str(end) for end in ended if isinstance(end, PushError))
        assert repo_id in refused
        assert "\n" not in refused
        head = tags(stage.straight, repo_id, kind.repo_type)[TAG]
        assert not diff_files(winners[0].after, list_files(stage.straight, repo_id, kind.repo_type, head))
        assert_released(stage, winners[0], repo_id)
