"""Runs Python as somebody who has never been here: fresh caches, an empty working directory, only the Hub's address."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from bonsai.hub.client.destination import Destination
from bonsai.hub.errors import HubError

TIMEOUT_SECONDS = 900


class StrangerError(HubError):
    """What was published does not work for somebody else."""


def run_as_stranger(arguments: Sequence[str], destination: Destination, *, python: str = sys.executable) -> str:
    """Run ``python *arguments``; its standard output.

    Raises:
        StrangerError: it failed; the last lines of what it said are in the message.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_"))
    }
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [python, *arguments],
            cwd=home,
            env={
                **kept,
                **destination.environment,
                "HF_HOME": f"{home}/hf",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "PYTHONIOENCODING": "utf-8",  # whatever this terminal's is: answers are Japanese and Chinese too
            },
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    if done.returncode:
        told = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise StrangerError(f"what was published does not load:\n{told.replace(destination.token, '(token)')}")
    return done.stdout
