"""A Hub behind a faulty proxy, and clients with short timeouts."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.utils import disable_progress_bars

from bonsai.hub.http_client import set_idle_timeout
from bonsai.hub.server.accounts import USERS
from tests.faults.cases import Stage
from tests.faults.proxy import faulty_way_to

TOKEN = "hf_faults_token"


@contextlib.contextmanager
def staged(root: Path) -> Iterator[Stage]:
    """Everything up and running."""
    constants.HF_HUB_DISABLE_XET = True
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    set_idle_timeout()
    try:
        with _served(root) as (pid, endpoint), faulty_way_to(endpoint) as (way, plan):
            yield Stage(
                pid=pid,
                straight=HfApi(endpoint=endpoint, token=TOKEN),
                proxied=HfApi(endpoint=way, token=TOKEN),
                plan=plan,
            )
    finally:
        logging.getLogger("huggingface_hub").setLevel(logging.NOTSET)


@contextlib.contextmanager
def _served(root: Path) -> Iterator[tuple[int, str]]:
    """As `running_hub`, with the process id: a full disk is given to the process."""
    root.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "bonsai.hub.server.serve", "--root", str(root), "--port", "0"]
    environment = {
        **os.environ,
        USERS: f"qeu:{TOKEN}",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
    }
    with (
        (root / "hub.log").open("ab") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip().removeprefix("HF_ENDPOINT=")
        finally:
            process.kill()
