"""The logger of a run: averages, rows, and whom they are handed to."""

import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skillrl.console import Bar, PlainLines, Row
from skillrl.loggers.csv_file import CsvFile
from skillrl.loggers.output import Output

log = logging.getLogger(__name__)


class Logger:
    """Averages metrics between rows; writes each row to ``metrics.csv``, to the console and to ``outputs``.

    Args:
        directory: the run's folder; what ``metrics.csv`` there holds beyond this logger's rows is replaced.
        every: steps of the current phase between two rows (``due``).
        headline: metrics shown beside the progress bar; empty picks up to four.
        outputs: called with the directory, each gives an Output.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        every: int = 1000,
        headline: Sequence[str] = (),
        outputs: Sequence[Callable[[Path], Output]] = (),
    ):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"logger.every is {every!r}: it must be a whole number of at least 1 step")
        self.directory, self.every = Path(directory), every
        self._csv = CsvFile(self.directory / "metrics.csv")
        self._console = Bar(headline) if sys.stdout.isatty() else PlainLines()
        self._outputs = [output for make in outputs if (output := _start(make, self.directory)) is not None]
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._phase, self._written, self._elapsed = "", 0, 0.0
        self._clock = self._row_clock = time.monotonic()
        self._row_steps = 0

    def start(self, phase: str, total: int, done: int = 0) -> None:
        """Open a phase of ``total`` steps, or go on with it after ``done``. Steps are env steps, or updates offline."""
        if phase != self._phase:
            self._phase, self._written = phase, done
            self._sums, self._counts = {}, {}  # what the last phase did not write is none of this one's
        self._row_clock, self._row_steps = time.monotonic(), done
        self._console.start(phase, total, done)

    def progress(self, steps: int) -> None:
        """Move the bar; cheap enough to be called after every round."""
        self._console.progress(steps)

    def due(self, steps: int) -> bool:
        """Whether ``every`` steps of the phase have gone by since its last row."""
        return steps - self._written >= self.every

    def add(self, metrics: Mapping[str, Tensor | float]) -> None:
        """``group/name`` → a number or a 0-d tensor. Waits for no device."""
        for name, value in metrics.items():
            if name not in self._sums:
                self._open_metric(name, value)
            value = value.detach() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            if self._sums[name].device != value.device:  # after a resume, or where a metric changes sides
                self._sums[name] = self._sums[name].to(value.device)
            self._sums[name].add_(value)
            self._counts[name] += 1

    def _open_metric(self, name: str, value: Tensor | float) -> None:
        if "/" not in name:
            raise ValueError(f"metric {name!r} needs a group: write it as 'group/name'")
        if isinstance(value, Tensor) and value.dim() > 0:
            raise ValueError(f"metric {name!r} has shape {tuple(value.shape)}: a metric is one number")
        device = value.device if isinstance(value, Tensor) else None
        self._sums[name], self._counts[name] = torch.zeros((), dtype=torch.float64, device=device), 0

    def write(self, *, env_steps: int, grad_steps: int, steps: int | None = None) -> Row:
        """Write the means since the last row. ``steps``: of this phase, where that is not ``env_steps``.

        Errors: OSError in one line when ``metrics.csv`` cannot be written (a full disk).
        """
        steps = env_steps if steps is None else steps
        row: Row = {"env_steps": env_steps, "grad_steps": grad_steps, "phase": self._phase}
        row |= {name: total.item() / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        row |= self._measure(steps)
        self._csv.write(row)
        self._written = steps
        self._console.row(row)
        self._outputs = [output for output in self._outputs if _try(output, "write", row)]
        return row

    def evaluated(self, scores: Mapping[str, Any], folder: Path) -> None:
        """Hand an evaluation to the outputs: its numbers, and the figures and videos in ``folder``."""
        numbers = {name: float(value) for name, value in scores.items() if isinstance(value, int | float)}
        self._outputs = [output for output in self._outputs if _try(output, "evaluated", numbers, folder)]

    def _measure(self, steps: int) -> Row:
        now = time.monotonic()
        self._elapsed, self._clock = self._elapsed + now - self._clock, now
        speed = (steps - self._row_steps) / max(now - self._row_clock, 1e-9)
        self._row_clock, self._row_steps = now, steps
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
        measured: Row = {"time/elapsed_s": self._elapsed, "time/steps_per_s": speed, "time/peak_memory_mib": kib / 1024}
        if torch.cuda.is_initialized():
            measured["time/peak_gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        return measured

    def state_dict(self) -> dict[str, Any]:
        """The averages under way, and how many rows stand in the file: a resumed run ends with the same CSV."""
        return {
            "sums": {name: total.clone() for name, total in self._sums.items()},
            "counts": dict(self._counts),
            "phase": self._phase,
            "written": self._written,
            "elapsed": self._elapsed + time.monotonic() - self._clock,
            "columns": list(self._csv.columns),
            "rows": self._csv.rows,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: the next row replaces those that were written to ``metrics.csv`` after the checkpoint.

        Not before it: a run whose first phase is done loads that phase's state, then the next one's.
        """
        self._sums = {name: total.clone() for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
        self._phase, self._written, self._elapsed = state["phase"], state["written"], state["elapsed"]
        self._clock = time.monotonic()
        self._csv.go_on(state["rows"], state["columns"])

    def close(self) -> None:
        """Give the terminal back and finish the outputs. A second call does nothing."""
        self._console.close()
        for output in self._outputs:
            _try(output, "close")
        self._outputs = []

    def __enter__(self) -> "Logger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(make: Callable[[Path], Output], directory: Path) -> Output | None:
    try:
        return make(directory)
    except Exception as error:
        if type(error) is ValueError:  # a setting of ours is wrong, which nobody wants to learn from a warning
            raise
        _warn(getattr(make, "func", make).__name__, "did not start", error)
        return None


def _try(output: Output, method: str, *arguments: Any) -> bool:
    try:
        getattr(output, method)(*arguments)
    except Exception as error:
        _warn(type(output).__name__, "failed", error)
        return False
    return True


def _warn(name: str, what: str, error: Exception) -> None:
    reason = " ".join(str(error).split())
    log.warning("%s %s, the run goes on without it: %s: %s", name, what, type(error).__name__, reason)
