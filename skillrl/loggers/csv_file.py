"""``metrics.csv``."""

import csv
import logging
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from skillrl.console import Row

_FIRST = ("env_steps", "grad_steps", "phase")

log = logging.getLogger(__name__)


class CsvFile:
    """A CSV file whose columns grow. Each row is on its way to the disk when ``write`` returns."""

    def __init__(self, path: Path):
        self.path = path
        self.go_on(0, _FIRST)

    def go_on(self, rows: int, columns: Sequence[str]) -> None:
        """The next row comes after the first ``rows``; what the file has beyond those goes when it is written."""
        self.rows, self.columns, self._whole = rows, list(columns), False

    def write(self, row: Row) -> None:
        """Append; a key that is new becomes a column, and the file is rewritten with it."""
        new = [name for name in row if name not in self.columns]
        if new or not self._whole:
            self._rewrite([*self.columns, *new])
        size = self.path.stat().st_size
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns, restval="", lineterminator="\n").writerow(row)
        except OSError as error:
            os.truncate(self.path, size)  # half a row would spoil the next
            raise _cannot_write(self.path, error) from error
        self.rows += 1

    def _rewrite(self, columns: list[str]) -> None:
        """Keep the rows that count, with these columns. Atomic: there is always one whole file."""
        kept = self._read()
        if len(kept) < self.rows:
            log.warning("%s has only %d of the %d rows that were written to it", self.path, len(kept), self.rows)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(kept)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise _cannot_write(self.path, error) from error
        self.rows, self.columns, self._whole = len(kept), columns, True

    def _read(self) -> list[dict[str, str]]:
        if self.rows == 0 or not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(islice(csv.DictReader(file), self.rows))


def _cannot_write(path: Path, error: OSError) -> OSError:
    clear = OSError(f"{path} could not be written ({error.strerror}): make room, then resume this run")
    clear.errno = error.errno
    return clear
