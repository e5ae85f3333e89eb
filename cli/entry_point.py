"""Where the `bonsai` command begins and ends: every trouble is one sentence and an exit code.

Nothing but the standard library is imported before `main` runs, so that Ctrl-C or a broken package meet the sentences
too. `python -m bonsai.cli.main` comes through here as well.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import io
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path
from urllib.parse import urlsplit

ISSUES = "https://github.com/qeu/bonsai/issues"
INTERRUPTED = 130
"""what a shell expects after Ctrl-C"""
BROKEN_PIPE = 1
"""as click and Python's own documentation have it"""
PLACES = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME", "TMPDIR", "HOME")
"""variables that say where the libraries put their files"""
_TOKEN = 8
"""characters that a real token has at least; a shorter one would be found in every other word"""
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|Unable to allocate", re.IGNORECASE)


def main() -> None:
    """Run the command that was typed.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    try:
        _prepare_streams()
        from bonsai.hub.server.serve import direct_loopback, is_loopback, on_this_machine

        # the Hub's clients read this when they are imported
        here = is_loopback(urlsplit(os.environ.get("HF_ENDPOINT", "")).hostname)
        os.environ.update(on_this_machine(os.environ) if here else direct_loopback(os.environ))
        from bonsai.cli.main import app

        code = app(standalone_mode=False, prog_name="bonsai") or 0
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - the one place where all of them end
        code = report(error)
    sys.exit(code)


def _prepare_streams() -> None:
    """Let no print fail: a letter that the terminal's encoding lacks is escaped, and a closed stream goes nowhere."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller; the first file opened would take its place
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it lasts as long as the process
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # not "?": most escapes are still JSON, and tell paths apart


def report(error: BaseException) -> int:
    """Write the sentence for what ended the command to standard error, where there is one; the exit code."""
    if isinstance(error, SystemExit):
        if isinstance(error.code, str):
            return _say(error.code)
        return error.code or 0
    if isinstance(error, KeyboardInterrupt):
        return _say(
            "stopped; what was there before is untouched. 中断しました。以前のものはそのままです。", INTERRUPTED
        )
    if isinstance(error, BrokenPipeError):
        abandon_stdout()
        return BROKEN_PIPE
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):  # click's own, which typer carries a copy of
        return _usage(error)
    try:
        sentence = _expected(error)
    except Exception:  # noqa: BLE001 - what is broken may be the very package that knows the sentences
        sentence = None
    if sentence is not None:
        return _say(sentence)
    library = _library(error)
    what = _one_line(error) or type(error).__name__
    place, kept = _keep_traceback(error)
    if library:
        sentence = f"{library} ended the command: {what} ({type(error).__name__}); the traceback is in {place}"
    else:
        sentence = (
            f"this is a bug in BONSAI ({type(error).__name__}: {what}); please report it at {ISSUES} with {place}"
        )
    return _say(sentence if kept is None else f"{sentence}\n\n{kept}")


def _usage(error: BaseException) -> int:
    """A command line that was not understood."""
    code = int(getattr(error, "exit_code", 2))
    if type(error).__name__ == "NoArgsIsHelpError":  # the help is on the screen
        return code
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bonsai"
    told = error.format_message()  # type: ignore[attr-defined]
    return _say(f"{command}: {' '.join(str(told).split()).rstrip('.')}; see `{command} --help`", code)


def _expected(error: BaseException) -> str | None:
    """The sentence for what can happen to anybody; None: it should not have happened."""
    if isinstance(error, ImportError):
        return _missing(error)
    from bonsai.builder.errors import BonsaiError, RecordError
    from bonsai.hub.errors import HubError

    if isinstance(error, RecordError):
        faults = len(error.faults)
        told = f"{faults} fault{'s' if faults > 1 else ''}; nothing was built, what was there before is untouched."
        return f"{error}\n\n{told}"
    if isinstance(error, BonsaiError | HubError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return (
            f"the memory of this machine or its GPU is not enough ({_one_line(error) or 'out of memory'}); close other "
            "programs, or take a smaller model, shorter records (max_length) or smaller batches"
        )
    from bonsai.hub.http_client import httpx

    if isinstance(error, httpx.RequestError):
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return (
            f"{endpoint} cannot be reached ({_one_line(error)}); what was not told as released is as it was: "
            "check the network and run the same command again"
        )
    return _refused(error) if isinstance(error, OSError) else None


def _refused(error: OSError) -> str:
    """The sentence for what the machine or the Hub refused."""
    response = getattr(error, "response", None)
    if response is not None:
        status = response.status_code
        if status in (401, 403):
            return f"the Hub refused the token ({status}): check HF_TOKEN, and that it may write to BONSAI_NAMESPACE"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return f"the Hub answered {status}: {first}; nothing half-written is left, try again"
    if error.errno == errno.ENOENT and error.filename is None and not _has_working_directory():
        return "the working directory is gone; change to one that exists and run the same command again"
    if error.errno in (errno.ENOSPC, errno.EIO) and error.filename is None:
        abandon_stdout()
        return (
            f"standard output, or a disk, takes nothing more ({error.strerror}); what was there before is untouched: "
            "make room, or send the output elsewhere, and run the same command again"
        )
    name = f"{error.filename}: " if error.filename else ""
    told = f"{name}{error.strerror or _one_line(error) or type(error).__name__}; what was there before is untouched"
    for variable in PLACES:  # a folder that nobody remembers to have chosen
        if (folder := os.environ.get(variable)) and str(error.filename).startswith(folder):
            return f"{told}. The folder is the one of {variable}; set it to one of yours, or unset it"
    return told


def _missing(error: ImportError) -> str | None:
    """The sentence for a package that is not installed, or not in a version that fits."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "bonsai", *sys.stdlib_module_names):
        if "SOCKS" in str(error) or "socksio" in str(error):
            return (
                "a SOCKS proxy is set (ALL_PROXY or a like variable), and the package that speaks SOCKS is not "
                "installed; run `pip install socksio`, or unset the variable"
            )
        return None
    if isinstance(error, ModuleNotFoundError):
        return f"the package {package} is not installed; run `pip install {_requirement(package)}`"
    try:
        version = f" {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return (
        f"the installed {package}{version} does not fit ({_one_line(error)}); run "
        f"`pip install --upgrade --force-reinstall {_requirement(package)}`"
    )


def _requirement(package: str) -> str:
    """What to install so that ``import package`` works: an extra of ours where it is part of one."""
    distributions = importlib.metadata.packages_distributions().get(package, [package])
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in (*distributions, package)}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for requirement in importlib.metadata.requires("qeu-bonsai") or []:
            name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()
            extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
            if name in names:
                return f"'qeu-bonsai[{extra[1]}]'" if extra else "qeu-bonsai"
    return distributions[0]


def _library(error: BaseException) -> str | None:
    """The package of somebody else that raised it; None: our own code, or Python's called by ours."""
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in sys.stdlib_module_names and name != "__main__":
            return None if name == "bonsai" else name
    return None


def _keep_traceback(error: BaseException) -> tuple[str, str | None]:
    """Where the traceback lies, and its text where it could be laid nowhere."""
    text = _without_token("".join(traceback.format_exception(error)))
    try:
        descriptor, name = tempfile.mkstemp(prefix="bonsai-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return "the traceback below", text
    return str(Path(name)), None


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _has_working_directory() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def abandon_stdout() -> None:
    """Send what is still in the buffer nowhere: Python would try it again at its end, and complain."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _without_token(text: str) -> str:
    token = os.environ.get("HF_TOKEN", "")
    return text.replace(token, "(token)") if len(token) >= _TOKEN else text


def _say(message: str, code: int = 1) -> int:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()  # what was said before comes before
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(_without_token(message) + "\n")
        sys.stderr.flush()
    return code
