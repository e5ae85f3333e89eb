"""`bonsai ask`, `qtq` and `compare` in trouble, as processes: a sentence, an exit code, and what is done stays."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bonsai.recipes.inference.generation import GREEDY
from tests.conftest import Run
from tests.recipes.inference.chains.scripted import deeper
from tests.recipes.inference.models.openai_server import OURS, Body, Fault, OpenAIServer, serving

QUESTION = "Why does bad news reach the managers of a company so late?"


def says(body: Body) -> str:
    prompt = "\n".join(one["content"] for one in body["messages"])
    return f"Blame falls on whoever speaks first.\n\n### Response:\n{deeper(prompt, GREEDY)}"


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with serving(OpenAIServer(says=says, template=OURS, models=("scripted",))) as running:
        yield running


def kept_steps(out: Path) -> int:
    chains = [json.loads(path.read_text(encoding="utf-8")) for path in (out / "qtq" / "chains").glob("*.json")]
    return sum(len(chain["steps"]) for chain in chains)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ask", "Why?", "--model", "seedlin"], "did you mean seedling?"),
        (["ask", "Why?", "--model", "http://127.0.0.1:9/v1#x"], "the server cannot be reached; check that it runs"),
        (["ask", "x" * 100_000, "--model", "seedling"], "has 100,000 characters; fewer than 100,000"),
        (["ask", " ", "--model", "seedling"], "the question is empty"),
        (["ask", "--questions", "noise.bin", "--model", "seedling"], "noise.bin: byte 0 is not UTF-8"),
        (["ask", "--questions", "empty.txt", "--model", "seedling"], "empty.txt has no question"),
        (
            ["ask", "Sum up.", "--input", "zero.txt", "--model", "seedling"],
            "contains U+0000, which does not occur in text",
        ),
        (["qtq", "x" * 100_000, "--model", "seedling"], "has 100,000 characters"),
        (["compare", "seedlin", "--questions", "post-en"], "did you mean seedling?"),
        (["compare", "seedling", "--questions", "noise.bin"], "noise.bin: byte 0 is not UTF-8"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
@pytest.mark.slow
def test_what_cannot_be_is_a_sentence_and_no_stack_trace(
    bonsai: Run, arguments: list[str], told: str, tmp_path: Path
) -> None:
    (tmp_path / "noise.bin").write_bytes(b"\xff\xfe\x00\x01" * 99)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "zero.txt").write_bytes(b"a\x00b")
    done = bonsai(*arguments, cwd=tmp_path, check=False, HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_server_that_goes_down_leaves_the_steps_and_their_summary(
    bonsai: Run, server: OpenAIServer, tmp_path: Path
) -> None:
    server.fault = lambda body, number: Fault(status=400, error="gone") if len(server.bodies) > 8 else None
    command = ["qtq", QUESTION, "--model", f"{server.base_url}#scripted", "--depth", "4", "--out", str(tmp_path)]
    done = bonsai(*command, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "the server answered 400 (Bad Request): gone" in done.stderr
    steps = kept_steps(tmp_path)
    assert 0 < steps < 4
    page = (tmp_path / "qtq" / "summary.html").read_text(encoding="utf-8")
    assert page.count('<section class="step"') == steps
    server.fault = lambda body, number: None
    done = bonsai(*command, cwd=tmp_path)
    assert f"{steps} steps are kept from an earlier run" in done.stdout
    assert kept_steps(tmp_path) == 4


@pytest.mark.slow
def test_ctrl_c_leaves_the_steps_and_their_summary(command: Path, server: OpenAIServer, tmp_path: Path) -> None:
    server.pause = 0.02
    process = subprocess.Popen(
        [
            *(command, "qtq", QUESTION, "--depth", "9", "--out", str(tmp_path)),
            *("--model", f"{server.base_url}#scripted"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "step 2/9" in line:
            break
    process.send_signal(signal.SIGINT)
    told, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "the same command goes on" in told
    assert 2 <= kept_steps(tmp_path) < 9
    assert "bad news" in (tmp_path / "qtq" / "summary.html").read_text(encoding="utf-8")
