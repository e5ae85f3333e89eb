"""Preflight checks and the preview of a release."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from huggingface_hub import HfApi

from bonsai.hub.errors import HubError
from bonsai.hub.publish import (
    PlannedFile,
    PreflightCheck,
    PreflightError,
    check_pinned_revision,
    preview_release,
    publish_files,
    run_preflight,
)

CARD = b"---\nlicense: mit\n---\n\n# one\n"


def test_all_reasons_are_reported_at_once() -> None:
    def unreadable() -> Iterator[str]:
        raise HubError("report.json cannot be read")

    checks = [
        PreflightCheck("records", lambda: ["open_qa-0001 differs", "open_qa-0002 differs"]),
        PreflightCheck("card", list),
        PreflightCheck("report", unreadable),
    ]
    with pytest.raises(PreflightError) as raised:
        run_preflight("the dataset", checks)
    assert str(raised.value) == (
        "the dataset is not published, for 3 reasons:\n"
        "  - records: open_qa-0001 differs\n"
        "  - records: open_qa-0002 differs\n"
        "  - report: report.json cannot be read"
    )


def test_a_fault_of_a_check_itself_is_not_taken_for_a_reason() -> None:
    def broken() -> Iterator[str]:
        raise KeyError("counts")

    with pytest.raises(KeyError):
        run_preflight("the dataset", [PreflightCheck("report", broken)])


def test_a_revision_that_is_missing_or_moves_is_a_reason(api: HfApi, new_name: Callable[[], str]) -> None:
    repo_id = new_name()
    assert "is not on http" in next(iter(check_pinned_revision(api, repo_id, "model", "v1.0")))
    pushed = publish_files(
        api, repo_id=repo_id, repo_type="model", files={"README.md": CARD}, message="one", tag="v1.0"
    )
    assert list(check_pinned_revision(api, repo_id, "model", "v1.0")) == []
    assert list(check_pinned_revision(api, repo_id, "model", pushed.commit)) == []
    assert "has no revision v2.0" in next(iter(check_pinned_revision(api, repo_id, "model", "v2.0")))
    assert "a branch, which moves" in next(iter(check_pinned_revision(api, repo_id, "model", "main")))


def test_a_preview_names_every_file_and_changes_nothing(api: HfApi, new_name: Callable[[], str]) -> None:
    repo_id = new_name()
    before = {"README.md": CARD, "kept.json": b"{}", "old.parquet": b"PAR1"}
    pushed = publish_files(api, repo_id=repo_id, repo_type="dataset", files=before, message="one", tag="v0.1.0")
    after = {"README.md": CARD.replace(b"one", b"two"), "kept.json": b"{}", "new.json": b"[1]"}
    plan = preview_release(api, repo_id=repo_id, repo_type="dataset", files=after, tag="v0.2.0")
    attributes = next(file for file in plan.files if file.path == ".gitattributes")
    assert attributes.state == "the Hub's own"
    assert [file for file in plan.files if file != attributes] == [
        PlannedFile("README.md", 28, "changed"),
        PlannedFile("kept.json", 2, "same"),
        PlannedFile("new.json", 3, "added"),
        PlannedFile("old.parquet", 4, "removed"),
    ]
    assert plan.sent == 31
    assert (plan.head, plan.tagged) == (pushed.commit, None)
    assert plan.card.splitlines()[-2:] == ["-# one", "+# two"]
    assert api.repo_info(repo_id, repo_type="dataset").sha == pushed.commit


def test_the_preview_of_a_first_release_makes_no_repo(api: HfApi, new_name: Callable[[], str]) -> None:
    repo_id = new_name()
    plan = preview_release(api, repo_id=repo_id, repo_type="model", files={"README.md": CARD}, tag="v0.1.0")
    assert (plan.head, [file.state for file in plan.files]) == (None, ["added"])
    assert not api.repo_exists(repo_id)
