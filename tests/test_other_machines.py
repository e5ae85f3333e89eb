"""The package where a system lacks what POSIX has: every module is imported, records are checked and built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import importlib, importlib.abc, io, os, pathlib, pkgutil, signal, sys

HEAVY = () if sys.argv[1] == "all" else ("torch", "transformers", "peft", "trl", "gradio", "bitsandbytes")


def modules():
    import bonsai.builder, bonsai.cli, bonsai.dataset_card, bonsai.hub, bonsai.model_card, bonsai.recipes

    for room in ("builder", "cli", "dataset_card", "hub", "model_card", "recipes"):
        package = sys.modules[f"bonsai.{room}"]
        yield from (found.name for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))


def imported(names):
    done = []
    for name in names:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in HEAVY:
                raise
            continue
        done.append(name)
    return done


# 1) once as it is: what other packages need of this machine, they may have; they know Windows by themselves
import datasets  # asks for torch in another way, and not again


class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
light = imported(list(modules()))
for name in [name for name in sys.modules if name.partition(".")[0] == "bonsai"]:
    del sys.modules[name]

# 2) again on a machine that has none of it
POSIX = ("resource", "fcntl", "termios", "tty", "pty", "pwd", "grp", "syslog", "posix")
sys.modules.update(dict.fromkeys(POSIX))
for name in (
    "fork forkpty killpg getuid geteuid getgid getegid getgroups getpgid getpgrp getppid setsid setuid sysconf "
    "sysconf_names uname fchmod fchown chown lchown mkfifo mknod sched_getaffinity "
    "register_at_fork getloadavg nice pread pwrite O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_SYNC"
).split():
    if hasattr(os, name):
        delattr(os, name)
for name in "SIGHUP SIGKILL SIGUSR1 SIGUSR2 SIGALRM SIGQUIT SIGPIPE SIGCHLD SIGSTOP alarm pthread_kill sigwait".split():
    if hasattr(signal, name):
        delattr(signal, name)


def asked(number, signal):
    raise AssertionError("os.kill with signal 0 is Ctrl-C on Windows")


def linked(*arguments, **options):
    raise OSError("[WinError 1314] A required privilege is not held by the client")


def renamed(source, target, *, real=os.rename, **options):
    if os.path.exists(target):
        raise FileExistsError("[WinError 183] Cannot create a file when that file already exists", str(target))
    return real(source, target)


def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *rest, real=io.open, **others):
    if newline is None and "b" not in mode and set(mode) & set("wax+"):
        newline = "\\r\\n"
    return real(file, mode, buffering, encoding, errors, newline, *rest, **others)


os.kill, os.link, os.symlink, os.rename = asked, linked, linked, renamed
io.open = opened  # what pathlib calls
pathlib.Path.rename = lambda self, target: renamed(self, target)
sys.platform = "win32"
assert imported(light) == light, "a module that needs POSIX"

import typer
from bonsai.builder.build import build_dataset as build
from bonsai.builder.records import default_records_dir as default_records
from bonsai.cli.dataset import check
from bonsai.hub.server.storage import Storage
from bonsai.recipes.training.run_record import describe_machine as machine

out = pathlib.Path(sys.argv[2])
left = out / ".dataset.999999999.killed"
left.mkdir(parents=True)
few = out / "records"
few.mkdir()
lines = (default_records() / "open_qa.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
(few / "open_qa.jsonl").write_text("".join([*lines[:20], lines[0].replace("open_qa-0001", "open_qa-9999")]), "utf-8")
try:
    check(few)
except typer.Exit as end:
    assert end.exit_code == 1
else:
    raise AssertionError("an id that two records share")
for _ in range(2):  # the second takes the place of the first
    build(default_records(), out / "dataset", "qeu/bonsai", check=False)
assert left.is_dir(), "whose it is cannot be asked, and it is new"
os.utime(left, (0, 0))
build(default_records(), out / "dataset", "qeu/bonsai", check=False)
assert not left.exists()
assert "cores" in machine() and "GiB" not in machine()
endings = {path.suffix for path in (out / "dataset").rglob("*") if path.is_file() and path.suffix != ".parquet"}
assert endings >= {".md", ".json", ".svg"}, endings
for path in (out / "dataset").rglob("*"):
    assert path.suffix in ("", ".parquet") or b"\\r" not in path.read_bytes(), path
storage = Storage(out / "hub")
assert storage.secret() == Storage(out / "hub").secret()
print(len(light), "modules")
if "torch" in sys.modules:
    from bonsai.recipes.training.callbacks import peak_memory_gib

    assert peak_memory_gib() == 0.0
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["light", "all"])
def test_every_module_lives_without_posix(which: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, which, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr
    assert int(done.stdout.split()[-2]) > (160 if which == "all" else 130)
