"""Turn whatever ended a command into one sentence and an exit code.

Example: `PermissionError(13, "Permission denied", "out/dataset")` becomes
"out/dataset: Permission denied; what was there before is untouched" and exit code 1. An error that nobody expected
becomes a sentence that names the file with its traceback.

Only the standard library is imported at the top: what broke may be one of the packages.
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

ISSUES = "https://github.com/qeu/bonsai/issues"
INTERRUPTED = 130
"""what a shell expects after Ctrl-C"""
BROKEN_PIPE = 1
"""as click and Python's own documentation have it"""
FOLDER_VARIABLES = (
    "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "HF_DATASETS_CACHE", "XDG_CACHE_HOME", "TMPDIR", "HOME",
)  # fmt: skip
"""environment variables that choose where the libraries put their files"""
SHORTEST_TOKEN = 8
"""characters of the shortest real token; a shorter text would be found in every other word"""
_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|Unable to allocate", re.IGNORECASE)


def report(error: BaseException) -> int:
    """Write one sentence about what ended the command to standard error, if it needs one.

    Returns:
        The exit code.
    """
    # 1. Ends that somebody chose: an exit, Ctrl-C, a reader that has gone (`| head -1`).
    if isinstance(error, SystemExit):
        return _print_error(error.code) if isinstance(error.code, str) else error.code or 0
    if isinstance(error, KeyboardInterrupt):
        return _print_error(
            "stopped; what was there before is untouched. 中断しました。以前のものはそのままです。", INTERRUPTED
        )
    if isinstance(error, BrokenPipeError):
        abandon_stdout()
        return BROKEN_PIPE
    # 2. A command line that was not understood: click's own errors, of which typer carries a copy.
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        code = int(error.exit_code)
        if type(error).__name__ == "NoArgsIsHelpError":  # the help is on the screen
            return code
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "bonsai"
        message = " ".join(str(error.format_message()).split()).rstrip(".").replace(": Value error, ", ": ")
        return _print_error(f"{command}: {message}; see `{command} --help`", code)
    # 3. What can happen to anybody.
    try:
        sentence = explain(error)
    except Exception:  # noqa: BLE001 - what is broken may be the very package that knows the sentences
        sentence = None
    if sentence is not None:
        return _print_error(sentence)
    # 4. A bug, ours or a library's; the innermost frame outside the standard library tells whose.
    owner = None
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        owner = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if owner not in sys.stdlib_module_names and owner != "__main__":
            break
    else:
        owner = None
    text = _without_token("".join(traceback.format_exception(error)))
    try:
        descriptor, location = tempfile.mkstemp(prefix="bonsai-traceback-", suffix=".txt")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "backslashreplace"))
        text = ""
    except OSError:  # then it goes to the screen
        location, text = "the traceback below", f"\n\n{text}"
    name, message = type(error).__name__, _one_line(error) or type(error).__name__
    if owner not in (None, "bonsai"):
        return _print_error(f"{owner} ended the command: {message} ({name}); the traceback is in {location}{text}")
    return _print_error(
        f"this is a bug in BONSAI ({name}: {message}); please report it at {ISSUES} with {location}{text}"
    )


def explain(error: BaseException) -> str | None:
    """Write the sentence for an error that can happen to anybody; `None` if it should not have happened."""
    if isinstance(error, ImportError):
        return explain_import_error(error)
    from bonsai.builder.errors import BonsaiError, RecordError
    from bonsai.hub.errors import HubError

    if isinstance(error, RecordError):
        faults = len(error.faults)
        count = f"{faults} fault{'s' if faults > 1 else ''}"
        return f"{error}\n\n{count}; nothing was built, what was there before is untouched."
    if isinstance(error, BonsaiError | HubError):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY.search(str(error))):
        return (
            f"the memory of this machine or its GPU is not enough ({_one_line(error) or 'out of memory'}); close other "
            "programs, or take a smaller model, shorter records (max_length) or smaller batches"
        )
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # Path.resolve before Python 3.13
        return f"a link leads back to itself ({_one_line(error)}); name another folder, or mend the link"
    from bonsai.hub.http_client import httpx

    if isinstance(error, httpx.RequestError):
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
        return (
            f"{endpoint} cannot be reached ({_one_line(error)}); whatever was not reported as released is unchanged: "
            "check the network and run the same command again"
        )
    return explain_os_error(error) if isinstance(error, OSError) else None


def explain_os_error(error: OSError) -> str:
    """Write the sentence for what the machine or the Hub refused; the Hub's client raises its answers as `OSError`."""
    response = getattr(error, "response", None)
    if response is not None:
        status = response.status_code
        if status in (401, 403):
            return f"the Hub refused the token ({status}): check HF_TOKEN, and that it may write to BONSAI_NAMESPACE"
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return f"the Hub answered {status}: {first}; nothing half-written is left, try again"
    if error.errno == errno.ENOENT and error.filename is None:
        try:
            os.getcwd()
        except OSError:
            return "the working directory is gone; change to one that exists and run the same command again"
    if error.errno in (errno.ENOSPC, errno.EIO) and error.filename is None:
        abandon_stdout()
        return (
            f"standard output, or a disk, takes nothing more ({error.strerror}); what was there before is untouched: "
            "make room, or send the output elsewhere, and run the same command again"
        )
    name = f"{error.filename}: " if error.filename else ""
    reason = error.strerror or _one_line(error) or type(error).__name__
    sentence = f"{name}{reason}; what was there before is untouched"
    for variable in FOLDER_VARIABLES:  # a folder that nobody remembers to have chosen
        if (folder := os.environ.get(variable)) and str(error.filename).startswith(folder):
            return f"{sentence}. The folder comes from {variable}; set it to one of yours, or unset it"
    return sentence


def explain_import_error(error: ImportError) -> str | None:
    """Write the sentence for a package that is missing or does not fit; `None` if it is our own or the standard one."""
    package = (error.name or "").partition(".")[0]
    if package in ("", "bonsai", *sys.stdlib_module_names):
        if "SOCKS" in str(error) or "socksio" in str(error):
            return (
                "a SOCKS proxy is set (ALL_PROXY or a similar variable), and the package that speaks SOCKS is not "
                "installed; run `pip install socksio`, or unset the variable"
            )
        return None
    # 1. What to install so that `import package` works: an extra of ours where it is part of one.
    distributions = importlib.metadata.packages_distributions().get(package, [package])
    names = {re.sub(r"[-_.]+", "-", name).lower() for name in (*distributions, package)}
    wanted = distributions[0]
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for requirement in importlib.metadata.requires("qeu-bonsai") or []:
            name = re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()
            if name in names:
                extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
                wanted = f"'qeu-bonsai[{extra[1]}]'" if extra else "qeu-bonsai"
                break
    # 2. Missing, or there in a version that does not fit.
    if isinstance(error, ModuleNotFoundError):
        return f"the package {package} is not installed; run `pip install {wanted}`"
    version = ""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        version = f" {importlib.metadata.version(package)}"
    return (
        f"the installed {package}{version} does not fit ({_one_line(error)}); run "
        f"`pip install --upgrade --force-reinstall {wanted}`"
    )


def abandon_stdout() -> None:
    """Discard what is still in the buffer: Python would try to write it again at exit, and complain."""
    with contextlib.suppress(OSError, ValueError, io.UnsupportedOperation):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _without_token(text: str) -> str:
    token = os.environ.get("HF_TOKEN", "")
    return text.replace(token, "(token)") if len(token) >= SHORTEST_TOKEN else text


def _print_error(message: str, code: int = 1) -> int:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()  # what was printed before comes before
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(_without_token(message) + "\n")
        sys.stderr.flush()
    return code
