"""A release that meets a fault is complete or changes nothing, and publishing again completes it.

A sample of benchmarks/faults.py, which tries every fault at every request.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonsai.hub.http_client import set_idle_timeout
from bonsai.hub.publish import publish_files
from bonsai.hub.retry import PushError, RetryPolicy
from tests.faults.cases import (
    EXPIRED,
    FAULTS,
    INTRUSIONS,
    KINDS,
    LIMITED,
    OUTAGE,
    SILENCE_SECONDS,
    TAG,
    End,
    Stage,
    assert_released,
    prepared,
    release,
    requests_of_a_release,
    run_case,
)
from tests.faults.killed import run_killed
from tests.faults.proxy import Act, Fault

PASSING = [fault for fault in FAULTS if not fault.lasts]
DATASET = KINDS["dataset"]


@pytest.fixture(scope="module")
def requests(stage: Stage) -> list[str]:
    """What a release of the dataset asks of the Hub."""
    return requests_of_a_release(stage, DATASET)


def place(requests: list[str], part: str) -> int:
    """The number of the first request whose line holds ``part``."""
    return next(number for number, line in enumerate(requests) if part in line)


@pytest.mark.parametrize("number", range(len(PASSING)))
def test_a_transient_fault_does_not_stop_a_release(number: int, stage: Stage, requests: list[str]) -> None:
    assert run_case(stage, DATASET, PASSING[number], 5 * number % len(requests)) is End.RELEASED


@pytest.mark.parametrize("fault", [fault for fault in PASSING if fault.reaches_hub], ids=lambda fault: fault.name)
def test_a_commit_whose_answer_was_lost_is_not_made_twice(fault: Fault, stage: Stage, requests: list[str]) -> None:
    assert run_case(stage, DATASET, fault, place(requests, "/commit/main")) is End.RELEASED


@pytest.mark.parametrize(
    ("part", "end"),
    [("/api/repos/create", End.AS_BEFORE), ("/commit/main", End.AS_BEFORE), ("/tag/", End.UNTAGGED)],
)
def test_a_token_that_expires_leaves_main_whole_and_the_next_release_completes(
    part: str, end: End, stage: Stage, requests: list[str]
) -> None:
    assert run_case(stage, DATASET, EXPIRED, place(requests, part)) is end


def test_an_outage_before_the_commit_leaves_main_as_it_was(stage: Stage, requests: list[str]) -> None:
    assert run_case(stage, DATASET, OUTAGE, place(requests, "/commit/main")) is End.AS_BEFORE


@pytest.mark.parametrize("fault", INTRUSIONS, ids=lambda fault: fault.name)
def test_what_happens_at_the_hub_meanwhile_is_noticed(fault: Fault, stage: Stage, requests: list[str]) -> None:
    expected = {
        "others commit the same": End.RELEASED,
        "others commit something else": End.AS_BEFORE,
        "others commit .gitattributes": End.RELEASED,
        "the Hub's disk is full": End.AS_BEFORE,
    }
    assert run_case(stage, DATASET, fault, place(requests, "/commit/main")) is expected[fault.name]


def failure_message(stage: Stage, fault: Fault, at: int, retry: RetryPolicy) -> str:
    """Return the error of a release that a fault defeats."""
    repo_id = prepared(stage, DATASET)
    stage.plan.begin(fault, at)
    set_idle_timeout(SILENCE_SECONDS)
    try:
        with pytest.raises(PushError) as raised:
            publish_files(
                stage.proxied,
                repo_id=repo_id,
                repo_type="dataset",
                files=DATASET.after,
                message="release",
                tag=TAG,
                retry=retry,
            )
    finally:
        set_idle_timeout()
        stage.plan.begin()
    return re.sub(r"\d+ s\)", "0 s)", str(raised.value).replace(repo_id, "REPO"))


@pytest.mark.parametrize(
    ("fault", "part", "sentence"),
    [
        (EXPIRED, "/commit/main", "the Hub refused the token (401): check HF_TOKEN, and that it may write to BONSAI_N"),
        (
            Fault(name="500", act=Act.ANSWER, status=500, lasts=True),
            "/api/repos/create",
            "the Hub answered 500 (Internal Server Error): the proxy says 500 (tried 2 times, 0 s); REPO is as it was",
        ),
        (
            Fault(name="reset", act=Act.RESET_AFTER_BODY, reaches_hub=True, lasts=True),
            "/commit/main",
            "the connection to the Hub broke off (ReadError) (tried 2 times, 0 s); REPO: the answer to the commit was",
        ),
        (Fault(name="silence", act=Act.SILENCE, lasts=True), "/refs", "the Hub was silent for too long (tried 2 times"),
        (
            Fault(name="reset", act=Act.RESET_BEFORE_BODY, lasts=True),
            "/tag/",
            "but it is not tagged v0.2.0; publish again, which only finishes it",
        ),
        (
            Fault(name="429", act=Act.ANSWER, status=429, headers=(("Retry-After", "3600"),)),
            "/refs",
            "the Hub answered 429 (Too Many Requests): the proxy says 429 and asked for a pause of 3600 s (tried once",
        ),
    ],
)
def test_a_lasting_fault_is_reported_with_the_state_of_the_repo(
    fault: Fault, part: str, sentence: str, stage: Stage, requests: list[str]
) -> None:
    retry = RetryPolicy(tries=2, first_wait=0.01, total=10.0)
    message = failure_message(stage, fault, place(requests, part), retry)
    assert sentence in message
    assert "\n" not in message


def test_a_foreign_commit_is_named_with_its_title_and_what_it_changes(stage: Stage, requests: list[str]) -> None:
    repo_id = prepared(stage, DATASET)

    def intrude() -> None:
        stage.straight.upload_file(
            path_or_fileobj=b"---\nlicense: mit\n---\nother\n",
            path_in_repo="README.md",
            repo_id=repo_id,
            repo_type="dataset",
            commit_message="Mend a word",
        )

    stage.plan.begin(Fault(name="", act=Act.INTRUDE, intrusion=intrude), place(requests, "/commit/main"))
    with pytest.raises(PushError, match=r"qeu committed [0-9a-f]{40} \('Mend a word'\), which changes README.md; look"):
        publish_files(
            stage.proxied, repo_id=repo_id, repo_type="dataset", files=DATASET.after, message="release", tag=TAG
        )
    stage.plan.begin()
    assert stage.straight.list_repo_commits(repo_id, repo_type="dataset")[0].title == "Mend a word"


@pytest.mark.slow
def test_half_a_minute_of_silence_is_waited_out_with_a_persons_patience(stage: Stage, requests: list[str]) -> None:
    repo_id = prepared(stage, DATASET)
    stage.plan.begin(Fault(name="silence", act=Act.SILENCE, reaches_hub=True), place(requests, "/commit/main"))
    started = time.monotonic()
    files, message = DATASET.after, f"release {TAG}"
    publish_files(stage.proxied, repo_id=repo_id, repo_type="dataset", files=files, message=message, tag=TAG)
    assert time.monotonic() - started > 30, "the clients' own limit of 60 s was not in force"
    stage.plan.begin()
    assert_released(stage, DATASET, repo_id)


def test_the_pause_that_the_hub_asks_for_is_respected(stage: Stage, requests: list[str]) -> None:
    started = time.monotonic()
    assert run_case(stage, DATASET, LIMITED, place(requests, "/commit/main")) is End.RELEASED
    assert time.monotonic() - started > 1.0


def test_a_release_that_does_not_load_is_not_tagged(stage: Stage) -> None:
    repo_id = prepared(stage, DATASET)

    def fail(commit: str) -> None:
        raise PushError(f"{commit} does not load")

    with pytest.raises(PushError, match=r"does not load\n.*which was not tagged v0\.2\.0; mend it"):
        publish_files(
            stage.straight,
            repo_id=repo_id,
            repo_type="dataset",
            files=DATASET.after,
            message="release",
            tag=TAG,
            verify=fail,
        )
    assert [tag.name for tag in stage.straight.list_repo_refs(repo_id, repo_type="dataset").tags] == ["v0.1.0"]


@pytest.mark.slow
def test_a_release_that_is_killed_is_completed_by_the_next_one(stage: Stage) -> None:
    ends = run_killed(stage, 12, seed=7)
    assert ends.total() == 12


def test_a_full_disk_on_this_side_is_a_sentence_and_main_is_whole(stage: Stage) -> None:
    repo_id = prepared(stage, DATASET)
    code = (
        "import resource, sys\nfrom huggingface_hub import HfApi, constants\n"
        "from tests.faults.cases import KINDS, release\nconstants.HF_HUB_DISABLE_XET = True\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "release(HfApi(endpoint=sys.argv[1], token=sys.argv[2]), KINDS['dataset'], sys.argv[3])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(stage.straight.endpoint), str(stage.straight.token), repo_id],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONDONTWRITEBYTECODE": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert "File too large" in last
    assert "main holds the whole release" in last
    assert "but it is not tagged v0.2.0; publish again, which only finishes it" in last
    release(stage.straight, DATASET, repo_id)
    assert_released(stage, DATASET, repo_id)
