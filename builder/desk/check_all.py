"""Check all records in a process of its own: ``python -m bonsai.builder.desk.check_all RECORDS``.

It takes ten seconds and a core, during which the desk answers without waiting. What the process writes to its standard
output are pickles: the name of each check before it runs, and at last the findings and the sentence vectors, which the
desk takes over.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bonsai.builder.checks.base import Finding
from bonsai.builder.checks.paraphrase import know_vectors, known_vectors
from bonsai.builder.checks.run import run_checks
from bonsai.builder.records import SourcedGroup, default_probes, read_file, read_probes


def check_all_apart(directory: Path, on_step: Callable[[str], None]) -> list[Finding] | None:
    """Check all records in another process, and take over its sentence vectors.

    Returns:
        The findings, or None if the process was ended.
    """
    # the child must find this very package, also where a test or an editor put it on the path
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    command = [sys.executable, "-m", "bonsai.builder.desk.check_all", str(directory)]
    # in a session of its own: Ctrl-C in the terminal is for the desk, at whose end the pipe breaks
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        try:
            with contextlib.suppress(EOFError, pickle.UnpicklingError):
                while isinstance(message := pickle.load(child.stdout), str):
                    on_step(message)
                findings, vectors = message
                know_vectors(vectors)
                return list(findings)
        finally:
            child.kill()
    return None


def main() -> None:
    """Check the records in the folder that the command line names."""
    groups: dict[str, SourcedGroup] = {}  # those without faults; the desk tells the faults of the others
    for path in sorted(Path(sys.argv[1]).glob("*.jsonl")):
        for located in read_file(path, []):
            groups.setdefault(located.group.id, located)

    def send(message: Any) -> None:
        pickle.dump(message, sys.stdout.buffer)
        sys.stdout.buffer.flush()

    checked = run_checks(list(groups.values()), read_probes(default_probes()), on_step=send)
    send((checked.findings, known_vectors()))


if __name__ == "__main__":
    main()
