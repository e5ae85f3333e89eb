"""Builds killed (kill -9) at random moments: that a rerun ends in the same bytes as one left in peace."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from bonsai.builder.build import build_dataset, content_hash

Work = Callable[[], None]


def killed_builds(records: Path, folder: Path, moments: int, *, seed: int) -> Counter[str]:
    """Kill ``moments`` builds over a finished one of fewer records, evenly over the time one takes.

    Returns:
        How the dataset stood after the kill: ``as before`` or ``whole``.

    Raises:
        AssertionError: it stood in between, or the rerun gave other bytes or left something behind.
    """
    wanted, out = folder / "wanted", folder / "out" / "dataset"
    earlier = _fewer(records, folder / "earlier")
    build_dataset(earlier, out, "qeu/bonsai")
    before = content_hash(out)
    started = time.monotonic()
    assert forked(lambda: build_dataset(records, wanted, "qeu/bonsai"))
    seconds = time.monotonic() - started
    whole = _bytes(wanted)
    drawn, ends = random.Random(seed), Counter[str]()
    for _ in range(moments):
        forked(lambda: build_dataset(records, out, "qeu/bonsai"), kill_after=drawn.uniform(0, seconds))
        restored = out if out.exists() else out.with_name("dataset.old")
        end = "whole" if _bytes(restored) == whole else "as before"
        assert end == "whole" or content_hash(restored) == before
        ends[end] += 1
        assert forked(lambda: build_dataset(records, out, "qeu/bonsai"))
        assert _bytes(out) == whole
        assert [path.name for path in out.parent.iterdir() if path.name != "dataset.built.json"] == ["dataset"]
        assert forked(lambda: build_dataset(earlier, out, "qeu/bonsai"))
    return ends


def forked(work: Work, *, kill_after: float | None = None) -> bool:
    """Do ``work`` in a child, which starts at once for everything is imported already; whether it came to its end."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            work()
            code = 0
        except BaseException:  # noqa: BLE001  # the child ends here: its parent hears of it and a reader sees why
            sys.stderr.write(traceback.format_exc())
        finally:
            os._exit(code)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] == 0


def _fewer(records: Path, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in sorted(records.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / path.name).write_text("".join(lines[:-1]), encoding="utf-8")
    return folder


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
