"""Listing, withdrawing and restoring releases."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from bonsai.hub.publish import PublishResult, publish_files, tags
from bonsai.hub.releases import list_releases, restore_release, withdraw
from bonsai.hub.retry import PushError

CARD = "---\nlicense: mit\n---\n\n# 盆栽 {}\n"
FILES: dict[str, dict[str, bytes]] = {
    "v0.1.0": {"README.md": CARD.format(1).encode(), "a.safetensors": b"PAR1 one", "gone.json": b"{}"},
    "v0.2.0": {"README.md": CARD.format(2).encode(), "a.safetensors": b"PAR1 two", "new/b.safetensors": b"PAR1 new"},
}


def publish(api: HfApi, repo_id: str, repo_type: str, tag: str) -> PublishResult:
    return publish_files(api, repo_id=repo_id, repo_type=repo_type, files=FILES[tag], message=tag, tag=tag)


@pytest.fixture(params=["dataset", "model"])
def released(request: pytest.FixtureRequest, api: HfApi, new_name: Callable[[], str]) -> tuple[str, str]:
    """A repo with two releases, and its kind."""
    repo_id, repo_type = new_name(), str(request.param)
    for tag in FILES:
        publish(api, repo_id, repo_type, tag)
    return repo_id, repo_type


def downloaded(api: HfApi, repo: tuple[str, str], revision: str, folder: Path) -> dict[str, bytes]:
    api.snapshot_download(repo[0], repo_type=repo[1], revision=revision, local_dir=folder)
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith(".")}


def current(api: HfApi, repo: tuple[str, str]) -> list[tuple[str, bool]]:
    return [(release.tag, release.is_current) for release in list_releases(api, *repo)]


def commits(api: HfApi, repo: tuple[str, str]) -> list[str]:
    return [commit.title for commit in api.list_repo_commits(repo[0], repo_type=repo[1])]


def test_releases_are_listed_newest_first_with_the_current_one(api: HfApi, released: tuple[str, str]) -> None:
    found = list_releases(api, *released)
    assert [(release.tag, release.is_current) for release in found] == [("v0.2.0", True), ("v0.1.0", False)]
    assert found[0].commit == api.repo_info(released[0], repo_type=released[1]).sha


def test_an_earlier_release_becomes_current_in_one_commit(
    api: HfApi, released: tuple[str, str], tmp_path: Path
) -> None:
    before = len(commits(api, released))
    commit = restore_release(api, *released, "v0.1.0")
    assert downloaded(api, released, "main", tmp_path) == FILES["v0.1.0"]
    assert current(api, released) == [("v0.2.0", False), ("v0.1.0", True)]
    assert restore_release(api, *released, "v0.1.0") == commit, "the second time makes no commit"
    assert len(commits(api, released)) == before + 1


def test_a_withdrawn_release_has_no_tag_and_the_card_says_so(
    api: HfApi, released: tuple[str, str], tmp_path: Path
) -> None:
    before = len(commits(api, released))
    withdraw(api, *released, "v0.2.0", reason="A record was wrong.")
    held = downloaded(api, released, "main", tmp_path)
    card = held.pop("README.md").decode()
    assert "> **v0.2.0 was withdrawn.** v0.2.0 は取り下げました。 A record was wrong.\n" in card
    assert card.startswith("---\nlicense: mit\n---\n")
    assert held == {name: content for name, content in FILES["v0.2.0"].items() if name != "README.md"}
    assert set(tags(api, *released)) == {"v0.1.0"}
    assert len(commits(api, released)) == before + 1


def test_a_release_is_withdrawn_for_an_earlier_one_in_one_commit(
    api: HfApi, released: tuple[str, str], tmp_path: Path
) -> None:
    before = len(commits(api, released))
    withdraw(api, *released, "v0.2.0", reason="Wrong.", instead="v0.1.0")
    held = downloaded(api, released, "main", tmp_path)
    card = held.pop("README.md").decode()
    assert "v0.2.0 was withdrawn" in card
    assert "Use v0.1.0." in card
    assert held == {name: content for name, content in FILES["v0.1.0"].items() if name != "README.md"}
    assert current(api, released) == [("v0.1.0", True)]
    assert len(commits(api, released)) == before + 1


def test_a_withdrawal_that_was_cut_off_before_the_tag_went_is_finished_by_the_next(
    api: HfApi, released: tuple[str, str]
) -> None:
    commit = withdraw(api, *released, "v0.2.0", reason="Wrong.")
    api.create_tag(released[0], tag="v0.2.0", revision=commit, repo_type=released[1])
    assert withdraw(api, *released, "v0.2.0", reason="Wrong.") == commit
    assert set(tags(api, *released)) == {"v0.1.0"}


def test_a_withdrawn_version_does_not_come_back(api: HfApi, released: tuple[str, str]) -> None:
    withdraw(api, *released, "v0.2.0", reason="Wrong.")
    with pytest.raises(PushError, match=r"v0\.2\.0 was withdrawn by commit [0-9a-f]{12}; a withdrawn"):
        publish(api, *released, "v0.2.0")


def test_publishing_an_earlier_release_again_neither_commits_nor_moves_its_tag(
    api: HfApi, released: tuple[str, str]
) -> None:
    before = commits(api, released)
    again = publish(api, *released, "v0.1.0")
    assert (again.changed, again.tag_moved, again.commit) == (False, False, tags(api, *released)["v0.1.0"])
    assert commits(api, released) == before


@pytest.mark.parametrize(
    ("tag", "instead", "told"),
    [
        ("v9", None, "has no release v9; it has v0.1.0, v0.2.0"),
        ("v0.2.0", "v9", "has no release v9"),
        ("v0.2.0", "v0.2.0", "v0.2.0 cannot take its own place"),
    ],
)
def test_what_cannot_be_withdrawn_is_a_sentence(
    tag: str, instead: str | None, told: str, api: HfApi, released: tuple[str, str]
) -> None:
    before = commits(api, released)
    with pytest.raises(PushError, match=told):
        withdraw(api, *released, tag, reason="Wrong.", instead=instead)
    assert commits(api, released) == before


def test_a_repo_that_is_not_there_is_a_sentence(api: HfApi) -> None:
    with pytest.raises(PushError, match="qeu/nothing: no such dataset on http"):
        list_releases(api, "qeu/nothing", "dataset")
