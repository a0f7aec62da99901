"""Jobs of a sweep. In which order, and in which process, is the launcher's business; here none takes others with it.

A job that fails is told at once, and in ``error.txt`` of its folder. A job that was stopped, in whatever way, goes on
from its folder when the sweep is started again.
"""

import hashlib
import io
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TextIO

from skillrl.errors import BAD_INPUT, CRASH, DONE, Stopped, explain
from skillrl.signals import Signals

ERROR = "error.txt"
LONGEST = 120  # characters of a name: file systems allow 255
WATCH_S = 0.5


def job_name(overrides: Iterable[str]) -> str:
    """``learner.skill_space.n-4+seed-0``: what a job is about, in letters that need quotes in no shell nor override."""
    plain = (re.sub(r"[\[\]{}()'\"\s]", "", override.lstrip("+")) for override in overrides)
    name = "+".join(sorted(re.sub(r"[^\w.@-]+", "-", override) for override in plain))
    if len(name) > LONGEST:
        name = f"{name[: LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name or "defaults"


# ---- a job's side

_stopped = False  # this process was told to stop: it starts no further job


def run_job(work: Callable[[], None], folder: Path, *, apart: bool) -> None:
    """Do the ``work`` of one job. An error stays in it; a signal ends the sweep, also where the job failed after it.

    apart: in a process that the sweep started (any launcher but Hydra's basic one), which says whose lines it prints.
    """
    (folder / ERROR).unlink(missing_ok=True)
    if not apart:
        with Signals() as signals:
            return _attempt(work, folder, signals)
    global _stopped
    if _stopped:
        return
    parent = _detach()
    try:
        with Signals() as signals, redirect_stdout(Labelled(sys.stdout, f"job={folder.name}")):
            _attempt(work, folder, signals)
    except Stopped as stop:
        _stopped = True
        if os.getppid() != parent:  # nobody waits for an answer
            os._exit(stop.code)


def _attempt(work: Callable[[], None], folder: Path, signals: Signals) -> None:
    try:
        work()
    except Exception as error:
        code, text = explain(error)
        print(f"job {folder.name}: {text}", file=sys.stderr, flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ERROR).write_text(f"{text}\nexit code {code}\n")
        if signals.seen:
            raise Stopped(signals.seen) from error
    else:
        (folder / ERROR).unlink(missing_ok=True)


_parent = 0


def _detach() -> int:
    """Out of reach of the terminal's Ctrl-C, which the parent passes on; but not outliving it. Returns its id."""
    global _parent
    if not _parent:
        _parent = os.getppid()
        os.setpgrp()
        threading.Thread(target=_watch, args=(_parent,), daemon=True).start()
    return _parent


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_S)
    os.kill(os.getpid(), signal.SIGTERM)


class Labelled(io.TextIOBase):
    """A stream whose lines all begin with a label; each goes out as a whole, among those of other processes."""

    def __init__(self, stream: TextIO, label: str):
        self._stream, self._label, self._rest = stream, label, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._label} {line}\n" for line in lines))
            self._stream.flush()
        return len(text)


# ---- the side that starts them


class PassedOn(Signals):
    """While entered, the first signal goes on to the processes that work for this one, which save and end.

    Without any, and from the second signal on, it raises Stopped at once.
    """

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.seen = not self.seen, number
        children = multiprocessing.active_children()
        if not (first and children):
            raise Stopped(number)
        for child in children:
            child.terminate()


def judge(folder: Path, since: float) -> int:
    """Say on stderr which jobs failed after ``since`` (s since the epoch), and return the sweep's exit code."""
    code = DONE
    for path in sorted(folder.rglob(ERROR)):
        if path.stat().st_mtime < since:
            continue
        *text, last = path.read_text().strip().splitlines()
        code = code if code == CRASH else BAD_INPUT if last.endswith(f" {BAD_INPUT}") else CRASH
        print(f"failed: {path.parent.relative_to(folder)}: {text[-1]}", file=sys.stderr)
    return code
