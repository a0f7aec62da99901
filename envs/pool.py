"""Rows dealt to this process and to workers, and the same face for rows in this process alone."""

import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import cloudpickle
import numpy as np

from envs import worker
from envs.memory import Arrays, Layout, layout_size, map_shared, place, shared_file
from envs.slice import Slice
from envs.task import Task

_BOOT = """import json, sys
sys.path[:] = json.loads(sys.argv[4])
from envs.worker import main
main(*map(int, sys.argv[1:4]))"""
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Local:
    """All rows in this process."""

    def __init__(self, task: Task, layout: Layout, *, horizon: int, observe: Sequence[str]):
        self.arrays: Arrays = place(layout, bytearray(layout_size(layout)))
        self._slice = Slice(task, self.arrays, first=0, horizon=horizon, observe=observe)

    def step_async(self) -> None:
        pass  # nothing runs beside this process: the work is done when it is asked for

    def step_wait(self) -> None:
        self._slice.step()

    def reset(self, rows: Sequence[int], seeds: Mapping[int, int]) -> None:
        self._slice.reset(rows, seeds)

    def state(self) -> dict[str, Any]:
        return self._slice.state()

    def load(self, state: Mapping[str, Any]) -> None:
        self._slice.load(state)

    def close(self) -> None:
        self._slice.close()


class Pool:
    """Rows dealt to `workers` processes that share one anonymous piece of memory: this one, which would only wait for
    the others, and workers - 1 of its own.

    Args:
        apart: this one does something else meanwhile, so all rows are dealt to as many others.

    Raises:
        RuntimeError: in a worker something raised (its traceback is in the message), or it died.
    """

    def __init__(
        self, task: Task, layout: Layout, *, workers: int, horizon: int, observe: Sequence[str], apart: bool = False
    ):
        size = layout_size(layout)
        memory = shared_file(size)
        self.arrays: Arrays = place(layout, map_shared(memory, size))
        n = len(self.arrays["reward"])
        bounds = np.linspace(0, n, workers + 1).round().astype(int).tolist()
        self._shares = list(itertools.pairwise(bounds))
        self._own: Slice | None = None
        self._children: list[tuple[subprocess.Popen, socket.socket]] = []
        self._interrupted = False
        try:
            for _ in range(workers if apart else workers - 1):
                self._children.append(_start(memory))
            common = {"layout": dict(layout), "size": size, "horizon": horizon, "observe": list(observe)}
            common["task"] = cloudpickle.dumps(task)  # by value where a task was defined in a script
            for (_, sock), rows in zip(self._children, self._theirs, strict=True):
                worker.send(sock, b"b", {**common, "rows": rows})
            if not apart:
                mine = {name: array[: bounds[1]] for name, array in self.arrays.items()}
                self._own = Slice(task, mine, first=0, horizon=horizon, observe=observe)
            self._answers()
        except BaseException:
            self.close()
            raise
        finally:
            os.close(memory)

    def step_async(self) -> None:
        self._check()
        for _, sock in self._children:
            with suppress(OSError):  # the answers say which worker died
                sock.sendall(worker.STEP)

    def step_wait(self) -> None:
        self._together(Slice.step)

    def reset(self, rows: Sequence[int], seeds: Mapping[int, int]) -> None:
        def message(start: int, stop: int) -> tuple[list[int], dict[int, int]]:
            own = [row - start for row in rows if start <= row < stop]
            return own, {row - start: seed for row, seed in seeds.items() if start <= row < stop}

        self._ask(worker.RESET, [message(*bounds) for bounds in self._shares])

    def state(self) -> dict[str, Any]:
        return _join(self._ask(worker.STATE, [None] * len(self._shares)))

    def load(self, state: Mapping[str, Any]) -> None:
        self._ask(worker.LOAD, [_cut(state, *bounds) for bounds in self._shares])

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
        for _, sock in self._children:
            sock.close()  # a worker ends when its socket does
        for child, _ in self._children:
            try:
                child.wait(timeout=2)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        self._children = []

    @property
    def _theirs(self) -> list[tuple[int, int]]:
        """The rows of each of the others."""
        return self._shares[-len(self._children) :]

    def _ask(self, kind: bytes, messages: Sequence[Any]) -> list[Any]:
        """One message for each share, and the answer to each."""
        self._check()
        for (_, sock), message in zip(self._children, messages[-len(self._children) :], strict=True):
            with suppress(OSError):
                worker.send(sock, kind, message)
        return self._together(lambda own: worker.answer_to(own, kind, messages[0]))

    def _together(self, do: Callable[[Slice], Any]) -> list[Any]:
        """What our own share comes to, and what the others answer, which is read even where ours raises."""
        self._interrupted = True  # until all is done: a Ctrl-C in between leaves answers in the sockets
        try:
            mine = [] if self._own is None else [do(self._own)]
        except Exception:
            self._answers()
            raise
        return [*mine, *self._answers()]

    def _answers(self) -> list[Any]:
        """One answer from each worker. All are read before an error is raised, so that none stays behind."""
        answers, errors = [], []
        for number, (child, sock) in enumerate(self._children):
            try:
                kind = worker.receive(sock, 1)
                answers.append(None if kind == worker.DONE else worker.receive_object(sock))
                if kind == worker.ERROR:
                    errors.append(f"env worker {number} (rows {self._span(number)}) raised:\n{answers[-1]}")
            except (EOFError, OSError):
                code = _exit_code(child)
                errors.append(f"env worker {number} (rows {self._span(number)}) died with exit code {code}")
        self._interrupted = False
        if errors:
            raise RuntimeError(errors[0])
        return answers

    def _check(self) -> None:
        if self._interrupted:
            raise RuntimeError("env workers were interrupted in the middle of a step: the env can only be closed")

    def _span(self, number: int) -> str:
        start, stop = self._theirs[number]
        return f"{start}-{stop - 1}"


def _start(memory: int) -> tuple[subprocess.Popen, socket.socket]:
    ours, theirs = socket.socketpair()  # not inheritable: no sibling can keep a dead parent's socket open
    arguments = [str(theirs.fileno()), str(memory), str(os.getpid()), json.dumps([str(path) for path in sys.path])]
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *arguments],
            pass_fds=(theirs.fileno(), memory),
            stdin=subprocess.DEVNULL,
            env={**os.environ, **_ONE_THREAD},
            start_new_session=True,  # Ctrl-C in a terminal reaches the parent only, also while a worker still imports
        )
    return child, ours


def _exit_code(child: subprocess.Popen) -> int | None:
    try:
        return child.wait(timeout=2)
    except subprocess.TimeoutExpired:
        return None


def _join(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = states[0]
    return {
        key: _join([state[key] for state in states])
        if isinstance(first[key], Mapping)
        else np.concatenate([state[key] for state in states])
        for key in first
    }


def _cut(state: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {
        key: _cut(value, start, stop) if isinstance(value, Mapping) else value[start:stop]
        for key, value in state.items()
    }
