"""One release under one fault, and what must hold afterwards: main is as it was or holds the whole release."""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.numpy import load_file, save

from bonsai.hub.http_client import set_idle_timeout
from bonsai.hub.publish import PublishResult, publish_files, tags
from bonsai.hub.repo_files import diff_files, list_files, mismatched_paths
from bonsai.hub.retry import PushError, RetryPolicy
from tests.faults.proxy import Act, Fault, Plan

TAG = "v0.2.0"
INTRUDER = "intruder"
"""title of the commits that others make"""
_ATTRIBUTES = b"".join(b"*.%s filter=lfs diff=lfs merge=lfs -text\n" % name for name in (b"parquet", b"safetensors"))
HASTE = RetryPolicy(tries=4, first_wait=0.02, total=20.0)
"""as a person's, with shorter pauses"""
SILENCE_SECONDS = 0.5
"""the clients' limit in these tests, which stands for the 60 s of a person's: the proxy is silent for 30 s"""

_answers = [Fault(name=f"{status}", act=Act.ANSWER, status=status) for status in (500, 502, 503, 504)] + [
    Fault(name=f"{status}, but done", act=Act.ANSWER, status=status, reaches_hub=True) for status in (502, 504)
]
LIMITED = Fault(name="429, wait 1 s", act=Act.ANSWER, status=429, headers=(("Retry-After", "1"),))
EXPIRED = Fault(name="token expires", act=Act.ANSWER, status=401, lasts=True)
OUTAGE = Fault(name="503 from now on", act=Act.ANSWER, status=503, lasts=True)
FAULTS = (
    *_answers,
    LIMITED,
    Fault(name="reset before the body", act=Act.RESET_BEFORE_BODY),
    Fault(name="reset in the body", act=Act.RESET_IN_BODY),
    Fault(name="reset after the body", act=Act.RESET_AFTER_BODY),
    Fault(name="reset after the body, but done", act=Act.RESET_AFTER_BODY, reaches_hub=True),
    Fault(name="answer cut in half", act=Act.TRUNCATE),
    Fault(name="silence", act=Act.SILENCE),
    Fault(name="silence, but done", act=Act.SILENCE, reaches_hub=True),
    EXPIRED,
    OUTAGE,
)
"""faults on the way; those at the Hub itself are `INTRUSIONS`"""

INTRUSIONS = (
    Fault(name="others commit the same", act=Act.INTRUDE),
    Fault(name="others commit something else", act=Act.INTRUDE),
    Fault(name="others commit .gitattributes", act=Act.INTRUDE),
    Fault(name="the Hub's disk is full", act=Act.INTRUDE),
)
"""faults at the Hub itself, not yet aimed at a repo"""


class End(StrEnum):
    """How a release under a fault ended."""

    RELEASED = "released all the same"
    AS_BEFORE = "refused, main as before"
    UNTAGGED = "main whole, tag missing"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of repo, with an earlier release and the one that meets the fault."""

    repo_type: str
    before: dict[str, bytes]
    after: dict[str, bytes]


def dataset_kind() -> Kind:
    def table(words: list[str]) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table({"text": words}), sink)
        return bytes(sink.getvalue())

    card = "---\nlicense: mit\n---\n\n# 盆栽\n"
    return Kind(
        repo_type="dataset",
        before={"README.md": card.encode(), "default/train.parquet": table(["松"]), "old.json": b"{}"},
        after={
            "README.md": (card + "\n二\n").encode(),
            "default/train.parquet": table(["松", "竹"]),
            "default/test.parquet": table(["梅"]),
        },
    )


def adapter_kind() -> Kind:
    card = "---\nlicense: mit\nlibrary_name: peft\n---\n\n# adapter\n"
    config = {"peft_type": "LORA", "r": 2}
    return Kind(
        repo_type="model",
        before={"README.md": card.encode(), "adapter_model.safetensors": save({"a": np.zeros(4, np.float32)})},
        after={
            "README.md": (card + "\n2\n").encode(),
            "adapter_config.json": json.dumps(config).encode(),
            "adapter_model.safetensors": save({"a": np.ones(400, np.float32)}),
        },
    )


KINDS = {"dataset": dataset_kind(), "adapter": adapter_kind()}
_numbers = count(1)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A Hub, the straight way to it, and the one through the proxy."""

    pid: int
    """of the Hub's process"""
    straight: HfApi
    proxied: HfApi
    plan: Plan


def prepared(stage: Stage, kind: Kind) -> str:
    """A new repo that holds the earlier release."""
    repo_id, api = f"qeu/faults-{next(_numbers)}", stage.straight
    api.create_repo(repo_id, repo_type=kind.repo_type)
    _commit(stage, kind, repo_id, kind.before, "release v0.1.0")
    api.create_tag(repo_id, tag="v0.1.0", repo_type=kind.repo_type)
    return repo_id


def _commit(stage: Stage, kind: Kind, repo_id: str, files: dict[str, bytes], title: str) -> None:
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()]
    stage.straight.create_commit(repo_id, operations, commit_message=title, repo_type=kind.repo_type)


def release(api: HfApi, kind: Kind, repo_id: str) -> PublishResult:
    """The release that meets the fault."""
    return publish_files(
        api,
        repo_id=repo_id,
        repo_type=kind.repo_type,
        files=kind.after,
        message=f"release {TAG}",
        tag=TAG,
        retry=HASTE,
    )


def requests_of_a_release(stage: Stage, kind: Kind) -> list[str]:
    """What the clients ask during a release that meets no fault."""
    repo_id = prepared(stage, kind)
    stage.plan.begin()
    release(stage.proxied, kind, repo_id)
    return list(stage.plan.seen)


def run_case(stage: Stage, kind: Kind, fault: Fault, at: int) -> End:
    """Release under a fault, look, then release again without it.

    Raises:
        AssertionError: main is neither as before nor whole, or the second release does not complete.
    """
    repo_id = prepared(stage, kind)
    fault = _aimed(stage, kind, fault, repo_id)
    head = head_of(stage, kind, repo_id)
    stage.plan.begin(fault, at)
    set_idle_timeout(SILENCE_SECONDS)
    try:
        release(stage.proxied, kind, repo_id)
    except PushError as error:
        message = str(error)
        end = end_of(stage, kind, repo_id, head)
    else:
        end = End.RELEASED
        message = ""
    finally:
        set_idle_timeout()
        stage.plan.begin()
        _set_file_limit(stage.pid, None)
    assert str(stage.straight.token) not in message
    if end is not End.RELEASED:
        release(stage.proxied, kind, repo_id)
    assert_released(stage, kind, repo_id)
    again = release(stage.straight, kind, repo_id)
    assert not again.changed, "publishing the same again made a commit"
    return end


def _aimed(stage: Stage, kind: Kind, fault: Fault, repo_id: str) -> Fault:
    def commit(name: str, content: bytes) -> None:
        _commit(stage, kind, repo_id, {name: content}, INTRUDER)

    actions: dict[str, Callable[[], object]] = {
        "others commit the same": lambda: release(stage.straight, kind, repo_id),
        "others commit something else": lambda: commit("README.md", kind.before["README.md"] + b"other\n"),
        "others commit .gitattributes": lambda: commit(".gitattributes", _ATTRIBUTES),
        "the Hub's disk is full": lambda: _set_file_limit(stage.pid, 10),
    }
    action = actions.get(fault.name)
    return fault if action is None else replace(fault, intrusion=lambda: (action(), None)[1])


def _set_file_limit(pid: int, size: int | None) -> None:
    """No file of the process may grow beyond ``size``: every write of it fails, as on a full disk."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


def head_of(stage: Stage, kind: Kind, repo_id: str) -> str:
    return str(stage.straight.repo_info(repo_id, repo_type=kind.repo_type).sha)


def end_of(stage: Stage, kind: Kind, repo_id: str, head: str) -> End:
    """How a release that was given up left main."""
    now = head_of(stage, kind, repo_id)
    titles = [c.title for c in stage.straight.list_repo_commits(repo_id, repo_type=kind.repo_type)]
    if now == head or titles[0] == INTRUDER:
        return End.AS_BEFORE
    assert not diff_files(kind.after, list_files(stage.straight, repo_id, kind.repo_type, now)), (
        "main is something else"
    )
    assert TAG not in tags(stage.straight, repo_id, kind.repo_type), "tagged, yet told as failed"
    return End.UNTAGGED


def assert_released(stage: Stage, kind: Kind, repo_id: str) -> None:
    api = stage.straight
    commits = [c for c in api.list_repo_commits(repo_id, repo_type=kind.repo_type) if c.title != INTRUDER]
    assert [c.title for c in commits] == [f"release {TAG}", "release v0.1.0", "initial commit"], "more than one commit"
    assert tags(api, repo_id, kind.repo_type)[TAG] == commits[0].commit_id
    with tempfile.TemporaryDirectory() as folder:
        api.snapshot_download(repo_id, repo_type=kind.repo_type, revision=TAG, local_dir=folder)
        assert list(mismatched_paths(Path(folder), kind.after)) == []
        for path in Path(folder).rglob("*.parquet"):
            assert pq.read_table(path).num_rows
        for path in Path(folder).glob("*.safetensors"):
            assert load_file(path)
