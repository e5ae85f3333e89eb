"""The noxfile, through the interpreter that has nox: the one that runs these tests, or the one on the path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def nox_python() -> str:
    command = shutil.which("nox")
    found = os.environ.get("NOX_PYTHON") or (command and Path(command).read_text().splitlines()[0].removeprefix("#!"))
    if not found:
        pytest.skip("nox is not installed here; `nox -s tests` brings it")
    return found


def in_noxfile(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code where noxfile.py can be imported, with nox's own logging on."""
    begin = (
        "import nox.logger; nox.logger.setup_logging(color=False)\n"
        "import noxfile, time; from locks import environments\n"
    )
    return subprocess.run(
        [nox_python(), "-c", begin + code],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1", **env},
        capture_output=True,
        text=True,
        check=True,
    )


def test_stages_are_told_in_order_with_their_seconds_and_sum() -> None:
    code = "print(environments.stage_table({'install light': 9.04, 'build': 10.0, 'ask before': 0.25}))"
    lines = in_noxfile(code).stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["stage", "段階", "seconds", "秒"],
        ["install", "light", "9.0"],
        ["build", "10.0"],
        ["ask", "before", "0.2"],
        ["total", "合計", "19.3"],
    ]


def test_parts_that_a_command_tells_are_stages_and_not_counted_twice(tmp_path: Path) -> None:
    tell = "from bonsai.cli.common import note_stage; note_stage('ask before', 40.0); note_stage('load back', 1.5)"
    environment = {**os.environ, "BONSAI_STAGES": str(tmp_path / "parts.jsonl")}
    subprocess.run([sys.executable, "-c", tell + "; note_stage('load back', 2.0)"], env=environment, check=True)
    code = (
        "from pathlib import Path\n"
        f"environments.PARTS = Path({str(tmp_path / 'parts.jsonl')!r})\n"
        "with environments.stage('train'): time.sleep(0.05)\n"
        "print([(name, round(seconds, 1)) for name, seconds in environments.STAGES.items()])"
    )
    first, *table = in_noxfile(code).stdout.splitlines()
    assert first == "[('train', -43.4), ('ask before', 40.0), ('load back', 3.5)]"
    assert table[-1].split()[-1] == "0.1"  # the table comes at the end by itself
    assert not (tmp_path / "parts.jsonl").exists()


def test_a_machine_without_uv_is_not_told_that_it_lacks_it(tmp_path: Path) -> None:
    code = (
        "import nox.virtualenv\n"
        "made = nox.virtualenv.get_virtualenv('virtualenv', download_python='never', envdir='x', reuse_existing=True)\n"
        "noxfile.logging.getLogger('nox').info('heard')"
    )
    done = in_noxfile(code, PATH=str(tmp_path))
    assert "heard" in done.stdout + done.stderr
    assert "uv" not in done.stdout + done.stderr
