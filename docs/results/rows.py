"""A seed's CSV on disk."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from skillrl.atomic import write


def write_rows(columns: Sequence[str], path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text.getvalue())
