"""The curves in a run's metrics.csv: which of them are worth a look, and their smoothing."""

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MOST = 6
STEPS = {"env_steps": "env steps", "grad_steps": "updates"}
USES = ("control", "finetune", "zero_shot")
"""Phases in which skills are used for a task."""
# What a reader looks for first; the rest follows in the file's order.
FIRST = ("success", "return", "accuracy", "reward", "coverage", "entropy", "alpha", "loss")

MEANING = {
    "episode/return": "The env's own reward summed over a training episode, exploration included.",
    "episode/success": "Share of training episodes that succeeded, exploration included.",
    "episode/length": "Env steps of a training episode.",
    "coverage/visited": "Cells that training has been to so far, exploration included.",
    "discriminator/accuracy": "Share of a training batch whose skill the discriminator names.",
    "discriminator/loss": "Cross-entropy of the discriminator, nats.",
    "reward/intrinsic": "Mean reward that the learner pays itself, per env step.",
    "reward/decision": "Mean reward of a decision: discounted, summed over the steps for which a skill is held.",
    "actor/entropy": "Entropy of the policy, nats.",
    "actor/loss": "Loss of the policy.",
    "critic/loss": "Squared Bellman error of the critics.",
    "critic/q": "Mean value that the critics give to a batch.",
    "alpha/value": "Weight of the policy's entropy.",
    "actor/epsilon": "Share of decisions that are taken at random.",
}


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
    found = {
        name: (steps, values)
        for name, (steps, values) in all_curves(rows, phase).items()
        if len(values) > 1 and np.isfinite(values).all() and np.ptp(values) > 0
    }
    return {name: found[name] for name in first(found)}


def all_curves(rows: Sequence[dict[str, str]], phase: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """column → (steps, values) of a phase, in the file's order: every metric but times, where it has a value."""
    axis = axis_of(rows, phase)
    mine = [row for row in rows if row.get("phase", "pretrain") == phase]
    found = {}
    for name in mine[0] if mine else ():
        if "/" in name and not name.startswith("time/"):
            points = [(float(row[axis]), float(row[name])) for row in mine if row.get(name)]
            steps, values = np.array(points).reshape(-1, 2).T
            found[name] = (steps, values)
    return found


def first(names: Iterable[str]) -> list[str]:
    """At most six, those that say most first."""

    def rank(name: str) -> int:
        return next((i for i, word in enumerate(FIRST) if word in name), len(FIRST))

    return sorted(names, key=rank)[:MOST]


def baselines(name: str, scores: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(what, value): what a curve of skills in use is to be held against, as far as the evaluation measured it."""
    key = {"episode/success": "success_rate", "episode/return": "return_mean"}.get(name)
    levels = {"skills by chance": scores.get(f"{key}_random"), "the skill before": scores.get(f"{key}_before")}
    return [(what, float(value)) for what, value in levels.items() if value is not None]


def slug(name: str) -> str:
    """A column's name as part of a file's name."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name)


def smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over the nearest tenth of the points, shorter at both ends."""
    half = max(1, len(values) // 20)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    return (total[high] - total[low]) / (high - low)
