"""The runs that a glob finds: what each of them scored, or why it cannot be counted."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from skillrl import skill_library
from skillrl.config import Config
from skillrl.errors import BadInput
from skillrl.evaluation.curves import read_curves
from skillrl.record import is_run, read_config, read_start, read_status
from skillrl.settings import settings


@dataclass(frozen=True)
class Scored:
    """A run that is finished and evaluated. scores: every number in eval/metrics.json. rows: of metrics.csv."""

    folder: Path
    seed: int
    settings: dict[str, Any]
    started: str
    scores: dict[str, float]
    rows: Sequence[dict[str, str]]


@dataclass(frozen=True)
class LeftOut:
    """A run that is not counted. settings and seed are None where its config cannot be read."""

    folder: Path
    why: str
    settings: dict[str, Any] | None = None
    seed: int | None = None


def find(pattern: str) -> list[Path]:
    """The runs that match a glob (``**`` too) or lie anywhere inside what matches.

    Errors: BadInput where there is none.
    """
    matches = [Path(path) for path in sorted(glob(os.path.expanduser(pattern), recursive=True))]
    if not matches:
        raise BadInput(f"runs={pattern} matches nothing here, in {Path.cwd()}")
    found = {run.resolve(): run for match in matches for run in _inside(match)}
    if not found:
        raise BadInput(f"runs={pattern} matches {len(matches)} paths, but none is a run or holds one: no run.json")
    return sorted(found.values())


def _inside(path: Path) -> Iterator[Path]:
    """``path`` if it is a run, else those below it. Nothing inside a run is one."""
    for here, folders, _ in os.walk(path):
        if is_run(here):
            folders.clear()
            yield Path(here)


def read(folder: Path) -> Scored | LeftOut:
    """What is there of a run."""
    try:
        status, config = read_status(folder), seen_through(read_config(folder))
        found, seed = settings(config), int(config["seed"])
    except (BadInput, KeyError, TypeError, ValueError) as error:
        return LeftOut(folder, f"its record cannot be read: {error}")
    if status != "finished":
        advice = "it may have been killed: " if status == "running" else ""
        return LeftOut(folder, f"not finished but {status}: {advice}python train.py resume={folder}", found, seed)
    path = folder / "eval" / "metrics.json"
    if not path.is_file():
        return LeftOut(folder, f"not evaluated: python eval.py run={folder}", found, seed)
    try:
        scores = {name: float(value) for name, value in json.loads(path.read_text()).items() if _is_number(value)}
        rows = read_curves(folder / "metrics.csv")
        started = read_start(folder)
    except (OSError, ValueError, AttributeError) as error:
        return LeftOut(folder, f"its numbers cannot be read: {' '.join(str(error).split())}", found, seed)
    return Scored(folder, seed, found, started, scores, rows)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def seen_through(config: Config) -> Config:
    """Of a run with loaded skills: their learner and pretraining in the place of its own, which were not used.

    Where the skills are no longer there, their path has to stand for what they are.
    """
    path = config["skills"]
    if path is None:
        return config
    try:
        about = skill_library.about(path)["about"]
        learner, env_steps = about["learner"], about["env_steps"]
    except (ValueError, KeyError, OSError):
        return config | {"learner": path, "pretrain": {}}
    source = next((folder for folder in (Path(path), *Path(path).parents[:2]) if is_run(folder)), None)
    trained = read_config(source)["pretrain"] if source else {}
    return config | {"learner": learner, "pretrain": trained | {"env_steps": env_steps}}
