"""Build, train and publish BONSAI, and check it.

    nox -s build train publish     the whole project, on a fresh machine
    nox                            lint, types, tests
    nox -s thorough                the slow tests too
    nox -s tend                    the records, in the browser
    nox -s lock                    locks/hashes.txt written anew, after a change of dependencies
    nox -s audit                   known vulnerabilities of what is pinned

Two environments, made once and shared: `light` (no torch) builds and publishes, `full` trains and tests. What goes into
them is checked against the hashes in locks/, all but torch. At the end each stage is shown with its seconds.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))
from locks.environments import CONSTRAINTS, PARTS, ROOT, Environments, read_audit, requirements, stage, write_hashes

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "tests"]
# nox looks for uv whichever backend is asked for, and says so where there is none
logging.getLogger("nox").addFilter(lambda record: "uv binary not found" not in record.getMessage())

ENVIRONMENTS = Environments()
RECORDS = ("--records", "builder/records")


def _install(session: nox.Session, environment: str, *layers: str) -> None:
    if wrong := ENVIRONMENTS.install(environment, layers, partial(session.run, external=True, silent=True)):
        session.error("the locks do not fit together; run `nox -s lock`: " + "; ".join(wrong))


def _pytest(session: nox.Session, *selection: str) -> None:
    # a process a core and a thread a process: torch's threads on every core at once cost five times the time
    arguments = ["-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", *selection, *session.posargs]
    env = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "NOX_PYTHON": sys.executable}
    session.run(ENVIRONMENTS.python("full"), "-m", "pytest", *arguments, env=env, external=True)


def _bonsai(session: nox.Session, environment: str, *arguments: str, **env: str) -> None:
    with stage(arguments[0]):
        env |= {"BONSAI_STAGES": str(PARTS)}
        session.run(ENVIRONMENTS.python(environment), "-m", "bonsai.cli.main", *arguments, env=env, external=True)


def _arguments(session: nox.Session, name: str, *defaults: str) -> list[str]:
    """Arguments after -- go to the only session named: `nox -s build train publish -- x` has nobody to give x to."""
    words = sys.argv[: sys.argv.index("--")] if "--" in sys.argv else sys.argv
    named = [word for word in words if word in ("build", "train", "publish")]
    if session.posargs and len(named) > 1:
        session.error(f"arguments after -- need one session, not {', '.join(named)}: nox -s {name} -- …")
    return [*([] if set(defaults) & set(session.posargs) else defaults), *session.posargs]


@nox.session(default=False)
def light(session: nox.Session) -> None:
    """The environment that builds and publishes."""
    with stage("install light"):
        ENVIRONMENTS.programs["light"] = session.bin
        if {"train", "publish"} & set(sys.argv):  # nox.options has the default sessions, not those asked for
            ENVIRONMENTS.begin_full()
        try:
            _install(session, "light", "light")
        finally:
            ENVIRONMENTS.light_is_done()


@nox.session(default=False)
def full(session: nox.Session) -> None:
    """The environment that trains and answers."""
    with stage("install full"):
        ENVIRONMENTS.programs["full"] = session.bin
        ENVIRONMENTS.wait_for_full()
        _install(session, "full", "light", "full")


@nox.session(default=False, requires=["full"], venv_backend="none")
def testing(session: nox.Session) -> None:
    """What the tests need beside it."""
    _install(session, "full", "demo", "testing")


@nox.session(default=False, requires=["light"], venv_backend="none")
def build(session: nox.Session) -> None:
    """Records -> out/dataset/.  nox -s build [-- --records DIR]"""
    _bonsai(session, "light", "build", *_arguments(session, "build", *RECORDS))


@nox.session(default=False, requires=["light"], venv_backend="none")
def tend(session: nox.Session) -> None:
    """A page to edit, check, sign and compare the records.  nox -s tend [-- --records DIR --port N --reader NAME]"""
    _bonsai(session, "light", "tend", *_arguments(session, "tend", *RECORDS))


@nox.session(default=False, requires=["full"], venv_backend="none")
def train(session: nox.Session) -> None:
    """out/dataset/ -> out/adapters/RECIPE/, evaluated.  nox -s train -- RECIPE… [--max-steps N] [--resume]"""
    _bonsai(session, "full", "train", *_arguments(session, "train"))


@nox.session(default=False, requires=["light", "full"], venv_backend="none")
def publish(session: nox.Session) -> None:
    """Everything made -> the Hub.  nox -s publish [-- dataset|RECIPE…] [--dry-run]"""
    arguments = _arguments(session, "publish", *RECORDS)
    _bonsai(session, "light", "publish", *arguments, BONSAI_MODEL_PYTHON=ENVIRONMENTS.python("full"))


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
    session.install("-q", *requirements("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(requires=["testing"])
def types(session: nox.Session) -> None:
    """mypy, strict."""
    session.install("-q", *requirements("types"))
    session.run("mypy", "--python-executable", ENVIRONMENTS.python("full"))


@nox.session(requires=["testing"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """pytest, all but the slow ones.  nox -s tests [-- PYTEST ARGUMENTS]"""
    _pytest(session, "-m", "not slow")


@nox.session(default=False, requires=["testing"], venv_backend="none")
def thorough(session: nox.Session) -> None:
    """pytest, the slow ones: whole trainings, kills and resumes, a Colab's packages.  Some ten minutes."""
    session.notify("colab")
    _pytest(session, "-m", "slow")


@nox.session(default=False)
def colab(session: nox.Session) -> None:
    """The notebook, the snippets and a question beside Colab's packages, with two steps of training."""
    script = str(ROOT / "tests" / "recipes" / "on_colab.py")
    session.run(sys.executable, script, str(Path(session.virtualenv.location).resolve()), session.bin, external=True)


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Every version in constraints.txt against the advisories of PyPI or OSV; says what it could not ask about."""
    session.install("-q", *requirements("audit"))
    command = ("pip-audit", "--disable-pip", "--no-deps", "-r", str(CONSTRAINTS), "-f", "json", "--progress-spinner")
    for service in ("pypi", "osv"):
        audit = read_audit(str(session.run(*command, "off", "-s", service, silent=True, success_codes=[0, 1])))
        if audit.audited:
            break
    else:
        session.skip("no database of advisories can be reached from here: nothing was audited")
    session.log(
        f"{service}: {audit.audited} packages asked about; not known there: {', '.join(audit.skipped) or 'none'}"
    )
    if audit.vulnerabilities:
        session.error("known vulnerabilities: " + "; ".join(audit.vulnerabilities))


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """locks/hashes.txt written anew from pyproject.toml and constraints.txt: every platform's files by their hashes."""
    session.install("-q", "-c", str(CONSTRAINTS), "uv")
    write_hashes(lambda *a: str(session.run("uv", "pip", "compile", *a, silent=True)), Path(session.create_tmp()))
