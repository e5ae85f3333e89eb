"""A run that did not end: its checkpoint is gone on from, kept aside or discarded, and never lost without a word."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bonsai.hub.server.serve import HubAddress
from bonsai.recipes.training.checkpoints import (
    KEPT_ASIDE,
    InterruptHandler,
    RunProgress,
    drop_oldest,
    find_latest_valid_checkpoint,
    kept_aside,
    set_aside,
    take_back,
    write_manifest,
)
from tests.conftest import COMMAND, Run

STEPS = 40
TRAIN = ["train", "tiny", "--max-steps", str(STEPS)]
ADAPTER = Path("out/adapters/tiny/adapter_model.safetensors")


def unfinished(folder: Path, step: int, identity: str = "run") -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"weights of step %d" % step)
    write_manifest(path, RunProgress(identity=identity, validation_loss_before=3.0, seconds=float(step)))
    return folder


def aside(folder: Path, step: int, identity: str = "run", *, second: int = 0) -> Path:
    """What `set_aside` leaves, with a time of its own."""
    return unfinished(folder.with_name(f"{folder.name}-step{step}-20240507-0000{second:02d}"), step, identity)


def test_an_unfinished_run_is_moved_aside_whole(tmp_path: Path) -> None:
    folder = unfinished(tmp_path / "tiny", 12)
    found = find_latest_valid_checkpoint(folder)
    assert found is not None
    place = set_aside(folder, found)
    assert not folder.exists()
    assert place.name.startswith("tiny-step12-")
    assert [kept_aside(folder), kept_aside(tmp_path / "ti"), kept_aside(tmp_path / "tiny2")] == [[place], [], []]
    kept = find_latest_valid_checkpoint(place)
    assert kept is not None
    assert kept.step == 12


def test_drop_oldest_keeps_the_newest_runs_aside(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    places = [aside(folder, step, second=step) for step in (1, 2, 3, 4)]
    other = aside(tmp_path / "twig", 1)
    assert drop_oldest(folder) == [places[1], places[0]]
    assert kept_aside(folder) == [places[3], places[2]]
    assert len(kept_aside(folder)) == KEPT_ASIDE
    assert other.exists()


@pytest.mark.parametrize(
    ("here", "beside", "back"),
    [
        (None, [("run", 12)], 12),
        (("run", 3), [("run", 12)], 12),
        (("run", 20), [("run", 12)], None),
        (("run", 3), [("other", 12)], None),
        (("other", 30), [("run", 12)], 12),
        (None, [("run", 12), ("run", 15), ("other", 90)], 15),
        (None, [], None),
    ],
)
def test_the_same_runs_farthest_checkpoint_is_taken_back(
    here: tuple[str, int] | None, beside: list[tuple[str, int]], back: int | None, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    if here is not None:
        unfinished(folder, here[1], here[0])
    for second, (identity, step) in enumerate(beside):
        aside(folder, step, identity, second=second)
    taken = take_back(folder, "run")
    assert (None if taken is None else taken[1].step) == back
    found = find_latest_valid_checkpoint(folder)
    if back is not None:
        assert found is not None
        assert (found.step, found.progress.identity) == (back, "run")
        assert not any(find_latest_valid_checkpoint(place).step == back for place in kept_aside(folder))  # type: ignore[union-attr]
    if here is not None and here[0] == "other":
        assert [place.name.split("-")[1] for place in kept_aside(folder)] == ["step30"]


def test_a_damaged_checkpoint_kept_aside_is_not_taken_back(tmp_path: Path) -> None:
    place = aside(tmp_path / "tiny", 12)
    (place / "checkpoint-12" / "adapter_model.safetensors").write_bytes(b"other")
    assert take_back(tmp_path / "tiny", "run") is None
    assert place.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_loop_waits_for_the_step_to_be_saved(number: signal.Signals) -> None:
    stopping = InterruptHandler()
    at_start = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests run under nohup
    before = signal.getsignal(number)
    with stopping.install():
        stopping.enter_loop()
        os.kill(os.getpid(), number)
        assert stopping.stop_requested
        os.kill(os.getpid(), signal.SIGHUP)  # a closed terminal is told twice: by the shell and by the kernel
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(number) == before
    signal.signal(signal.SIGHUP, at_start)


def test_a_run_under_nohup_goes_on_after_its_terminal_is_closed() -> None:
    stopping = InterruptHandler()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.install():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopping.stop_requested
    finally:
        signal.signal(signal.SIGHUP, before)


ON_A_TERMINAL = "import os, fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + COMMAND


class Terminal:
    """The command on a terminal of its own, which can be typed into and closed."""

    def __init__(self, arguments: list[str], *, cwd: Path, recipes: Path, hub: HubAddress) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", ON_A_TERMINAL, str(recipes), *arguments],
            cwd=cwd,
            env={**os.environ, **hub.environment(), "HF_HOME": str(cwd / "hf-home"), "COLUMNS": "200"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.said = ""

    def read_until(self, text: str | None) -> str:
        """Everything up to this text; None: all."""
        while text is None or text not in self.said:
            try:
                more = os.read(self._ours, 65536)
            except OSError:  # Linux's end of a terminal
                more = b""
            if not more:
                assert text is None, self.said
                break
            self.said += more.decode(errors="replace")
        return self.said

    def type(self, line: str) -> None:
        os.write(self._ours, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._ours)


@pytest.fixture
def stopped(
    dataset: Path, far_hub: HubAddress, tiny_base: str, recipes_folder: Path, tmp_path: Path
) -> tuple[Path, int]:
    """A working directory with the checkpoint of a run whose terminal was closed, and its step."""
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    terminal = Terminal(TRAIN, cwd=tmp_path, recipes=recipes_folder, hub=far_hub)
    terminal.read_until(f"5/{STEPS}")
    terminal.close()
    assert terminal.process.wait(timeout=120) == 1
    found = find_latest_valid_checkpoint(tmp_path / "out/checkpoints/tiny")
    assert found is not None
    assert 5 <= found.step < STEPS
    return tmp_path, found.step


@pytest.mark.slow
def test_train_keeps_a_checkpoint_aside_without_a_terminal(
    stopped: tuple[Path, int], far_hub: HubAddress, bonsai: Run
) -> None:
    place, step = stopped
    checkpoints = place / "out/checkpoints/tiny"
    told = bonsai("train", "tiny", "--max-steps", "2", cwd=place, **far_hub.environment()).stdout
    (kept,) = kept_aside(checkpoints)
    assert f"(step {step}); it is kept aside in {kept.relative_to(place)}" in told
    assert (place / ADAPTER).exists()

    told = bonsai(*TRAIN, cwd=place, **far_hub.environment()).stdout  # nothing in place: nothing to keep aside
    assert "kept aside" not in told
    anew = (place / ADAPTER).read_bytes()
    told = bonsai(*TRAIN, "--resume", cwd=place, **far_hub.environment()).stdout
    assert f"got to step {step}" in told
    assert f"resuming from step {step} " in told
    assert (place / ADAPTER).read_bytes() == anew
    assert kept_aside(checkpoints) == []


@pytest.mark.slow
def test_on_a_terminal_a_person_is_asked_and_heard(
    stopped: tuple[Path, int], far_hub: HubAddress, recipes_folder: Path
) -> None:
    place, step = stopped
    checkpoints = place / "out/checkpoints/tiny"
    asked = Terminal(TRAIN, cwd=place, recipes=recipes_folder, hub=far_hub)
    asked.read_until("続きから学習しますか")
    assert f"checkpoint of step {step} (" in asked.said
    asked.type("perhaps")
    asked.type("n")
    asked.read_until("kept aside in")
    asked.read_until(f"5/{STEPS}")
    asked.close()
    asked.process.wait(timeout=120)
    assert [int(path.name.split("-step")[1].split("-")[0]) for path in kept_aside(checkpoints)] == [step]

    again = Terminal(TRAIN, cwd=place, recipes=recipes_folder, hub=far_hub)
    again.read_until("続きから学習しますか")
    again.type("y")
    again.read_until(None)
    assert again.process.wait(timeout=120) == 0
    assert "resuming from step" in again.said
    assert (place / ADAPTER).exists()


@pytest.mark.slow
def test_fresh_discards_and_says_what_resume_would_not(
    stopped: tuple[Path, int], far_hub: HubAddress, bonsai: Run
) -> None:
    place, step = stopped
    both = bonsai(*TRAIN, "--resume", "--fresh", cwd=place, check=False, **far_hub.environment())
    assert (both.returncode, "give one of the two" in both.stderr) == (1, True)
    told = bonsai("train", "tiny", "--max-steps", "2", "--fresh", cwd=place, **far_hub.environment()).stdout
    assert f"the checkpoint of step {step} is discarded" in told
    assert list((place / "out/checkpoints").iterdir()) == []


@pytest.mark.slow
def test_a_second_run_ends_at_once_and_the_first_goes_on(
    dataset: Path, far_hub: HubAddress, tiny_base: str, recipes_folder: Path, bonsai: Run, tmp_path: Path
) -> None:
    shutil.copytree(dataset, tmp_path / "out" / "dataset")
    first = Terminal(TRAIN, cwd=tmp_path, recipes=recipes_folder, hub=far_hub)
    first.read_until(f"2/{STEPS}")
    started = time.monotonic()
    second = bonsai(*TRAIN, cwd=tmp_path, check=False, **far_hub.environment())
    assert second.returncode == 1
    assert f"process {first.process.pid} (since " in second.stderr
    assert len(second.stderr.strip().splitlines()) == 1
    assert time.monotonic() - started < 60
    first.read_until(None)
    assert first.process.wait(timeout=120) == 0
    assert (tmp_path / ADAPTER).exists()
    assert not list((tmp_path / "out/adapters").glob(".*"))
