"""SIGINT and SIGTERM, for a run that wants to save before it ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from skillrl.errors import Stopped


class Signals:
    """While entered, a signal raises Stopped: at once, or inside ``deferred`` when the work there has been saved."""

    def __init__(self) -> None:
        self.seen = 0
        self._deferred = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Here the first signal is only noted in ``seen``, and raised at the end; a second one does not wait."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.seen:
            raise Stopped(self.seen)

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self._before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                break
        return self

    def __exit__(self, *_: object) -> None:
        """Whoever heard the signals before hears of one seen here: what followed it may have been an error instead."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
            outer = getattr(handler, "__self__", None)
            if self.seen == number and isinstance(outer, Signals):
                outer.seen = number

    def _note(self, number: int, frame: FrameType | None) -> None:
        first, self.seen = not self.seen, number
        if not (self._deferred and first):
            raise Stopped(number)
