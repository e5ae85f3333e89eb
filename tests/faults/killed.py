"""A release whose process is killed at a random moment: how main stands, and that the next release completes it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from bonsai.hub.publish import tags
from tests.faults.cases import KINDS, TAG, End, Stage, assert_released, end_of, head_of, prepared, release

_CHILD = """
import sys
from huggingface_hub import HfApi, constants
from huggingface_hub.utils import disable_progress_bars
from tests.faults.cases import KINDS, release
constants.HF_HUB_DISABLE_XET = True
disable_progress_bars()
endpoint, token, kind, repo_id = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
release(HfApi(endpoint=endpoint, token=token), KINDS[kind], repo_id)
"""


def run_killed(stage: Stage, moments: int, *, seed: int) -> Counter[str]:
    """Kill ``moments`` releases, dataset and adapter in turn, evenly at random over the time one takes.

    Raises:
        AssertionError: main is neither as before nor whole, or the second release does not complete.
    """
    drawn = random.Random(seed)
    ends: Counter[str] = Counter()
    seconds = {name: _seconds(stage, name) for name in KINDS}
    for number in range(moments):
        name = list(KINDS)[number % len(KINDS)]
        kind, repo_id = KINDS[name], prepared(stage, KINDS[name])
        head = head_of(stage, kind, repo_id)
        with _waiting_child(stage, name, repo_id) as child:
            time.sleep(drawn.uniform(0, seconds[name]))
            child.kill()
        tagged = TAG in tags(stage.straight, repo_id, kind.repo_type)
        ends[End.RELEASED if tagged else end_of(stage, kind, repo_id, head)] += 1
        release(stage.straight, kind, repo_id)
        assert_released(stage, kind, repo_id)
    return ends


def _seconds(stage: Stage, name: str) -> float:
    repo_id = prepared(stage, KINDS[name])
    with _waiting_child(stage, name, repo_id) as child:
        started = time.monotonic()
        child.wait()
        return time.monotonic() - started


def _waiting_child(stage: Stage, name: str, repo_id: str) -> subprocess.Popen[str]:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", _CHILD, str(stage.straight.endpoint), str(stage.straight.token), name, repo_id]
    child = subprocess.Popen(
        command,
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in [*sys.path, str(root)] if entry)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdout.readline()
    child.stdin.write("\n")
    child.stdin.flush()
    return child
