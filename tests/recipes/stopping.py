"""A command that is stopped on its way, as Colab stops it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bonsai.hub.server.serve import HubAddress
from tests.conftest import COMMAND


def stopped_by_sigterm(
    arguments: Sequence[str], *, at: str, cwd: Path, recipes: Path, hub: HubAddress
) -> subprocess.CompletedProcess[str]:
    """Run the `bonsai` command and send it SIGTERM as soon as it says ``at``."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", COMMAND, str(recipes), *arguments],
        cwd=cwd,
        env={**os.environ, **hub.environment(), "HF_HOME": str(cwd / "hf-home")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if at in line:
            process.send_signal(signal.SIGTERM)
            break
    said, complained = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, said, complained)
