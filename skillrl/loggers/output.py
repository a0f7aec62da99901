"""What an output of the logger is, and what outputs have in common."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from skillrl.console import Row


class Output(Protocol):
    """Somewhere else that rows go. If it fails, that costs one warning line and the run goes on without it."""

    def write(self, row: Row) -> None: ...
    def evaluated(self, scores: Mapping[str, float], folder: Path) -> None: ...
    def close(self) -> None: ...


def axis_of(row: Row) -> str:
    """What a row is drawn against: no row has env steps where there is no env."""
    return "env_steps" if row["env_steps"] else "grad_steps"


def media(folder: Path, pattern: str) -> list[tuple[str, Path]]:
    """What an evaluation has drawn: (its name in a dashboard, its file). The twins for a dark page are left out."""
    found = sorted(path for path in folder.glob(pattern) if not path.stem.endswith(".dark"))
    return [(f"evaluation/{path.stem}", path) for path in found]
