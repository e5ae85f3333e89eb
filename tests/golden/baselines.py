"""What users get, kept to the byte: a change that moves or renames code must leave all of it as it is.

    python -m tests.golden.baselines        write tests/golden/expected anew, where a change of what users get is meant

Large files are kept as SHA-256, small ones as they are. What differs from run to run (commits, times, ports) is masked.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from typer.main import get_command
from typer.testing import CliRunner

from bonsai.builder.build import build_dataset, content_hash
from bonsai.builder.records import default_records_dir
from bonsai.builder.schema import Language
from bonsai.cli.common import LOG_WIDTH, console
from bonsai.cli.main import app
from bonsai.hub.server.serve import run_hub
from bonsai.model_card.card import render
from bonsai.recipes.evaluation.comparison.report import page as comparison_page
from bonsai.recipes.evaluation.comparison.results import answers_csv, results
from bonsai.recipes.evaluation.report import page as evaluation_page
from bonsai.recipes.inference.summary import step_report, write_summaries
from bonsai.recipes.training.recipe import Recipe
from bonsai.recipes.training.run_record import LossPoint, RunRecord
from tests.hub.raw_client import USERS, RawClient, commit_body, file, header
from tests.model_card.facts import BARE, FULL
from tests.recipes.evaluation.comparing.made import comparison
from tests.recipes.evaluation.made import evaluated, item, said
from tests.recipes.inference.summary.made import gauge

EXPECTED = Path(__file__).parent / "expected"
ROOT = Path(__file__).resolve().parents[2]

RECIPE = Recipe(
    repo_id="qeu/bonsai-golden",
    base_model="qeu/base",
    base_model_revision="v1.0",
    base_model_license="mit",
    dataset_revision="v0.1.0",
    categories=("classification",),
    languages=("en",),
)
HELP = {"COLUMNS": "110", "TERMINAL_WIDTH": "110", "NO_COLOR": "1", "TERM": "dumb"}
WRONG = (
    ("train", "no-such-recipe"),
    ("plan", "no-such-recipe"),
    ("build", "--records", "no-such-folder"),
    ("check", "--records", "no-such-folder"),
    ("ask",),
    ("ask", "Which river?", "--decoder", "wild"),
    ("ask", "Which river?", "--one-pass", "--two-pass"),
    ("evaluate", "no-such-recipe"),
    ("compare",),
    ("publish", "no-such-thing"),
)
"""Commands that end in a sentence before anything is loaded."""
PLANS = (("plan", "phi2_qtq", "--json"), ("plan", "phi2_qtq"), ("plan", "seedling"))
REQUESTS: tuple[tuple[str, str, object], ...] = (
    ("GET", "/api/whoami-v2", None),
    ("POST", "/api/repos/create", {"type": "dataset", "name": "golden"}),
    ("POST", "/api/repos/create", {"type": "dataset", "name": "golden"}),
    ("POST", "/api/repos/create", {"type": "model", "name": "golden", "private": True}),
    ("GET", "/api/datasets/qeu/golden", None),
    ("GET", "/api/datasets/qeu/golden/tree/main", None),
    ("POST", "/api/datasets/qeu/golden/preupload/main", {"files": [{"path": "a.txt", "size": 1, "sample": "eA=="}]}),
    ("POST", "/api/datasets/qeu/golden/commit/main", commit_body(header("one"), file("a.txt"), file("b/c.txt", b"yy"))),
    ("GET", "/api/datasets/qeu/golden", None),
    ("GET", "/api/datasets/qeu/golden/tree/main?recursive=true", None),
    ("GET", "/api/datasets/qeu/golden/commits/main", None),
    ("GET", "/api/datasets/qeu/golden/refs", None),
    ("GET", "/datasets/qeu/golden/resolve/main/a.txt", None),
    ("HEAD", "/datasets/qeu/golden/resolve/main/b/c.txt", None),
    ("GET", "/datasets/qeu/golden/resolve/main/nothing.txt", None),
    ("GET", "/datasets/qeu/golden/resolve/v9/a.txt", None),
    ("POST", "/api/datasets/qeu/golden/tag/main", {"tag": "v1"}),
    ("POST", "/api/datasets/qeu/golden/tag/main", {"tag": "v1"}),
    ("POST", "/api/datasets/qeu/golden/paths-info/v1", {"paths": ["a.txt", "b"], "expand": False}),
    ("POST", "/api/datasets/qeu/golden/commit/main", b'{"key": "header"}\n'),
    ("POST", "/api/datasets/qeu/golden/commit/main", commit_body(header("up"), file("../a.txt"))),
    ("POST", "/api/validate-yaml", {"content": "---\nlicense: nonsense\n---\n", "repoType": "dataset"}),
    ("GET", "/api/datasets/qeu/nothing", None),
    ("GET", "/api/datasets?author=qeu", None),
    ("GET", "/api/models/guest/none", None),
    ("GET", "/nowhere", None),
    ("DELETE", "/api/datasets/qeu/golden/tag/v1", None),
    ("DELETE", "/api/repos/delete", {"type": "dataset", "name": "golden"}),
)
KEPT_HEADERS = ("content-type", "x-error-code", "x-error-message", "x-repo-commit", "etag", "location", "content-range")


def made(dataset: Path, folder: Path) -> dict[str, str]:
    """All baselines by file name.

    Args:
        dataset: the real records, built for qeu/bonsai.
        folder: for what is written on the way.
    """
    plans = [(*one, "--out", str(dataset.parent)) for one in PLANS]
    return {
        "build.txt": _hashes(dataset, content_hash(dataset)),
        "dataset_card.md": (dataset / "README.md").read_text(encoding="utf-8"),
        "model_card.md": render(FULL),
        "model_card_bare.md": render(BARE),
        "help.txt": _help(),
        "errors.txt": _outcomes(folder, WRONG),
        "plans.txt": _outcomes(folder, plans).replace(str(dataset.parent), "OUT"),
        "run.json": _run_record(folder),
        "evaluation.json": _evaluation(folder),
        "comparison.json": _comparison(folder),
        "pages.txt": _pages(),
        **_summaries(folder),
        "hub.txt": _hub(folder),
    }


def _hashes(folder: Path, content: str) -> str:
    lines = [f"content_hash {content}"]
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(folder).as_posix()}")
    return "\n".join(lines) + "\n"


def _help() -> str:
    command = get_command(app)
    texts = []

    def add(path: tuple[str, ...], one: object) -> None:
        done = CliRunner().invoke(app, [*path, "--help"], prog_name="bonsai", env=HELP)
        texts.append("\n".join(line.rstrip() for line in done.output.splitlines()))
        for name, child in sorted(getattr(one, "commands", {}).items()):
            add((*path, name), child)

    add((), command)
    return "\n\n".join(texts) + "\n"


def _outcomes(folder: Path, commands: Sequence[tuple[str, ...]]) -> str:
    before = Path.cwd()
    os.chdir(folder)
    console.width = LOG_WIDTH  # whatever the terminal was when it was first imported
    try:
        texts = []
        for arguments in commands:
            done = CliRunner().invoke(app, list(arguments), prog_name="bonsai", env=HELP)
            why = "" if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)
            shown = done.stdout if done.exit_code == 0 else done.output  # beside it only progress
            output = "\n".join(line.rstrip() for line in shown.splitlines())
            output = f"{output}{why}".replace(str(ROOT), "<checkout>")
            texts.append(f"$ bonsai {' '.join(arguments)}\n{done.exit_code} {output}\n")
    finally:
        os.chdir(before)
    return "\n".join(texts)


def _run_record(folder: Path) -> str:
    record = RunRecord(
        recipe_name="golden",
        recipe=asdict(RECIPE),
        adapter_repo="me/bonsai-golden",
        base_model="me/base",
        base_model_commit="b" * 40,
        dataset_repo="me/bonsai",
        dataset_content_hash="c" * 64,
        train_rows=100,
        validation_rows=10,
        losses=[LossPoint(step=1, loss=4.0, learning_rate=1e-3, grad_norm=1.0, tokens=300, records=["a", "b"])],
        validation_loss_before=3.5,
        validation_loss_after=2.25,
        seconds=100.0,
        peak_memory_gib=2.0,
        device="CPU",
        compute_dtype="float32",
        trainable_parameters=1234567,
        versions={"torch": "2.13.0"},
        constraints_sha256=None,
        python="3.11.0",
    )
    record.write(folder / "adapter")
    return next((folder / "adapter").rglob("run.json")).read_text(encoding="utf-8")


def _evaluation(folder: Path) -> str:
    items = [item(number) for number in range(1, 5)]
    before = [said("no idea", reasoning="") for _ in items]
    after = [said("the river Shinano"), said("a river"), said("Shinano, Shinano, Shinano"), said("no")]
    return evaluated(items, before, after).write(folder / "evaluation").read_text(encoding="utf-8")


def _comparison(folder: Path) -> str:
    return PLAIN.write(folder / "comparison").read_text(encoding="utf-8")


PLAIN = comparison(
    {
        "out/adapters/seedling": [["It is Mount Fuji.", "Mount Fuji it is."], ["Two answers.", "Two replies."]],
        "qeu/base": [["Mount Fuji.", "A mountain, a mountain, a mountain, a mountain."], ["Two.", "Zwei."]],
    }
)


def _pages() -> str:
    items = [item(number) for number in range(1, 5)]
    before = [said("no idea", reasoning="") for _ in items]
    evaluation = evaluated(items, before, [said("the river Shinano") for _ in items])
    pages = {
        "evaluation": evaluation_page(evaluation),
        "comparison": comparison_page(results(PLAIN)),
        "answers.csv": answers_csv(PLAIN),
    }
    return "".join(f"{hashlib.sha256(text.encode()).hexdigest()} {name}\n" for name, text in pages.items())


def _summaries(folder: Path) -> dict[str, str]:
    chains = [gauge(language, asked=3) for language in (Language.JA, Language.EN)]
    write_summaries(chains, folder / "summaries")
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted((folder / "summaries").iterdir())}
    found = {f"summary_{name}": text for name, text in texts.items() if not name.endswith(".html")}
    pages = [f"{hashlib.sha256(texts[name].encode()).hexdigest()} {name}\n" for name in texts if name.endswith(".html")]
    found["summary_pages.txt"] = "".join(pages)
    found["chain.json"] = chains[1].model_dump_json(indent=1) + "\n"
    found["interim.md"] = step_report(chains[0])
    return found


def _hub(folder: Path) -> str:
    texts = []
    with run_hub(folder / "hub", users=USERS) as hub:
        client = RawClient(hub=hub)
        for method, path, body in REQUESTS:
            answer = client(method, path, body)
            headers = [f"{name}: {answer.headers[name]}" for name in KEPT_HEADERS if name in answer.headers]
            shown = _in_order(answer.body)
            text = "\n".join([f"{method} {path}", str(answer.status), *headers, shown])
            texts.append(text.replace(hub.endpoint, "HUB"))
    return _masked("\n\n".join(texts)) + "\n"


def _in_order(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False, indent=1, sort_keys=True)
    except ValueError:
        return body.decode("utf-8", "replace")


def _masked(text: str) -> str:
    """Commits by the order they appear in, and no times."""
    names: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return names.setdefault(match[0], f"<hash {len(names) + 1}>")

    text = re.sub(r"\b[0-9a-f]{40}\b", number, text)
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z?", "<time>", text)


def main() -> None:
    """Write all anew."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_dataset(default_records_dir(), folder / "dataset", "qeu/bonsai")
        (folder / "made").mkdir()
        found: Mapping[str, str] = made(folder / "dataset", folder / "made")
    EXPECTED.mkdir(exist_ok=True)
    for path in EXPECTED.iterdir():
        path.unlink()
    for file_name, text in found.items():
        (EXPECTED / file_name).write_text(text, encoding="utf-8")
    sys.stdout.write(f"{len(found)} files\n")


if __name__ == "__main__":
    main()
