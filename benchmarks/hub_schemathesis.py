"""The local Hub's HTTP surface under schemathesis: any answer but a server error, whatever comes in.

    pip install schemathesis==4.32.5 && python -m benchmarks.hub_schemathesis [--examples N]

The schema is made of the Hub's own routes (tests/fuzz/hub_schema.py); the Hub runs in a process of its own, with a
token that may write, and no traceback may come into its log.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from huggingface_hub import HfApi
from rich.console import Console

from bonsai.hub.server.serve import run_hub
from tests.fuzz.hub_schema import hub_schema

RESULT = Path(__file__).parent / "results" / "hub_schemathesis.txt"


def main() -> None:
    """Run schemathesis against a Hub, print its summary, keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=40, help="for each operation and phase")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, run_hub(Path(root) / "hub", users={"qeu": "t"}) as hub:
        api = HfApi(endpoint=hub.endpoint, token=hub.token)
        for kind in ("model", "dataset"):
            api.create_repo("qeu/a", repo_type=kind)
            api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id="qeu/a", repo_type=kind)
            api.create_tag("qeu/a", tag="v1", repo_type=kind)
        schema = Path(root) / "schema.json"
        schema.write_text(json.dumps(hub_schema()), encoding="utf-8")
        command = shutil.which("schemathesis", path=str(Path(sys.executable).parent)) or "schemathesis"
        options = ["--url", hub.endpoint, "--checks", "not_a_server_error", "--max-examples", str(arguments.examples)]
        options += ["--seed", "42", "--no-color", "--header", f"Authorization: Bearer {hub.token}", "--mode", "all"]
        done = subprocess.run(
            [command, "run", str(schema), *options], capture_output=True, text=True, cwd=root, check=False
        )
        complaints = (Path(root) / "hub" / "hub.log").read_text(encoding="utf-8")
    summary = done.stdout[done.stdout.find("= SUMMARY =") :]
    kept = [line for line in summary.splitlines()[1:] if line.strip() and "http" not in line]
    Console().print(summary if kept else done.stdout + done.stderr, markup=False)
    text = "\n".join(re.sub(r"\s+$", "", line) for line in kept)
    log = "; ".join(sorted(set(complaints.splitlines()))[:5]) or "empty"
    told = f"the Hub's log: {log} ({datetime.now(UTC).date()}, benchmarks/hub_schemathesis.py)"
    RESULT.write_text(f"{text}\n{told}\n", encoding="utf-8")
    raise SystemExit(done.returncode or "Traceback" in complaints)


if __name__ == "__main__":
    main()
