"""What a run says while it goes: a bar on a terminal, plain lines anywhere else."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Row = dict[str, float | int | str]
"""One line of ``metrics.csv``: env_steps, grad_steps, phase, then ``group/name`` → float."""

_REFRESH_S = 0.5


class PlainLines:
    """For a file or a pipe: one line of key=value per row."""

    def start(self, phase: str, total: int, done: int) -> None: ...
    def progress(self, steps: int) -> None: ...
    def close(self) -> None: ...

    def row(self, row: Row) -> None:
        cells = (
            f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value}" for name, value in row.items()
        )
        print(*cells, flush=True)


class Bar:
    """For a terminal: a bar with phase, steps, steps/s, time left and headline metrics. It starts no thread."""

    def __init__(self, headline: Sequence[str]):
        self._headline = tuple(headline)
        self._bar: Progress | None = None
        self._drawn, self._steps = 0.0, 0

    def start(self, phase: str, total: int, done: int) -> None:
        self.close()
        self._steps = done
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[shown]}"),
            console=Console(file=sys.stdout),
            auto_refresh=False,
        )
        self._task = self._bar.add_task(phase, total=total, completed=done, rate="", shown="")
        self._bar.start()

    def progress(self, steps: int) -> None:
        self._steps = steps
        if self._bar is None or time.monotonic() - self._drawn < _REFRESH_S:
            return
        self._drawn = time.monotonic()
        speed = self._bar.tasks[0].speed
        self._bar.update(self._task, completed=steps, rate=f"{speed:,.0f}/s" if speed else "", refresh=True)

    def row(self, row: Row) -> None:
        if self._bar is not None:
            names = [name for name in self._headline or _headline(row) if name in row]
            self._bar.update(self._task, shown="  ".join(f"{n.split('/', 1)[-1]} {row[n]:.3g}" for n in names))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._steps, refresh=True)
            self._bar.stop()
            self._bar = None


def _headline(row: Row) -> list[str]:
    """What a person wants to see first: how episodes went, then rewards, then whatever is there."""
    names = [name for name in row if "/" in name and not name.startswith("time/")]
    order = {"episode": 0, "reward": 1}
    return sorted(names, key=lambda name: order.get(name.split("/")[0], 2))[:4]
