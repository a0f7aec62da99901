"""The curves in a run's metrics.csv: which of them are worth a look, and their smoothing."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MOST = 6
# What a reader looks for first; the rest follows in the file's order.
FIRST = ("success", "return", "accuracy", "reward", "coverage", "entropy", "alpha", "loss")


def read_curves(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; none if there is no such file (skills that were loaded)."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def axis_of(rows: Sequence[dict[str, str]], phase: str) -> str:
    """The column that a phase is drawn against: grad_steps where it learned from data, and has no env steps."""
    some = any(float(row["env_steps"]) for row in rows if row.get("phase", "pretrain") == phase)
    return "env_steps" if some else "grad_steps"


def curves_of(rows: Sequence[dict[str, str]], phase: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """column → (steps, values) of a phase: at most six columns that move, those that say most first."""
    axis = axis_of(rows, phase)
    mine = [row for row in rows if row.get("phase", "pretrain") == phase]
    found = {}
    for name in mine[0] if mine else ():
        if "/" not in name or name.startswith("time/"):
            continue
        points = [(float(row[axis]), float(row[name])) for row in mine if row.get(name)]
        steps, values = np.array(points).reshape(-1, 2).T
        if len(values) > 1 and np.isfinite(values).all() and np.ptp(values) > 0:
            found[name] = (steps, values)

    def rank(name: str) -> int:
        return next((i for i, word in enumerate(FIRST) if word in name), len(FIRST))

    return {name: found[name] for name in sorted(found, key=rank)[:MOST]}


def smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over the nearest tenth of the points, shorter at both ends."""
    half = max(1, len(values) // 20)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)
