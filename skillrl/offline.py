"""Learning from a dataset instead of an env: whether data and learner fit, found out before anything is trained."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from skillrl.data.dataset import Dataset
from skillrl.errors import BadInput
from skillrl.learners.base import Batches, Learner
from skillrl.skill_spaces import SkillSpace
from skillrl.spec import Batch

OFFLINE = ("transitions", "sequences", "episodes")
"""Sources of a Need that a dataset has; no episode of it is fresh, and choices are not in it."""
TRIED = 1000  # steps of the data on which a learner is tried

log = logging.getLogger(__name__)


def load(path: str | Path, learner: Learner) -> Dataset:
    """The dataset for a learner of its env. Where there is one skill only, it is that of all data.

    Errors: ValueError of one line.
    """
    dataset = Dataset.load(path, learner.spec)
    if learner.behaviour().space.count != 1:
        return dataset
    z = torch.zeros(len(dataset), dtype=torch.int64)
    return replace(dataset, steps={**dataset.steps, "z": z})


def rehearse(dataset: Dataset, learner: Learner) -> None:
    """One update on a little of the data, which changes the learner. Errors: ValueError saying what it needs in vain.

    What it reads is found by keeping from it what the data does not have, and skills that are not its own.
    """
    who, needs = type(learner).__name__, learner.needs()
    for need in needs.values():
        if need.source not in OFFLINE:
            raise ValueError(f"{who} needs {need.source}: a dataset has {', '.join(OFFLINE)}")
    if not needs:
        raise ValueError(f"{who} learns nothing from data")
    replay = dataset.head(TRIED).replay(gamma=learner.gamma)
    if not replay.ready(needs):
        raise ValueError(f"{who} needs {', '.join(need.source for need in needs.values())}: the data has no whole one")
    strange = foreign_skills(learner.behaviour().space, dataset)
    hidden = dataset.absent | ({"z"} if strange else set())
    batches = replay.sample(needs)
    given = {name: without(batch, hidden) for name, batch in batches.items()}
    try:
        learner.update(given)
    except KeyError as error:
        name = error.args[0]
        if not isinstance(name, str) or has(given, name):
            raise
        if name == "z" and strange:
            raise ValueError(strange) from error
        known = ", ".join(sorted(dataset.steps.keys() - dataset.absent))
        raise ValueError(f"{who} needs {name}, which the data does not have: it has {known}") from error


def foreign_skills(space: SkillSpace, dataset: Dataset) -> str:
    """Why the skills in the data are none of ``space``; empty where they are, or where there are none."""
    if "z" not in dataset.steps:
        return ""
    z, like = dataset.steps["z"], space.sample(1)
    if (z.dtype, z.shape[1:]) != (like.dtype, like.shape[1:]):
        return f"z in the data is {z.dtype} {tuple(z.shape[1:])}, of this learner {like.dtype} {tuple(like.shape[1:])}"
    if z.dim() > 1:
        outside = torch.isneginf(space.log_prob(z))
        return f"{int(outside.sum())} skills in the data lie outside learner.skill_space" if outside.any() else ""
    if space.count is None:
        return ""
    most, least = int(z.max()), int(z.min())
    if not 0 <= least <= most < space.count:
        return f"skills in the data are {least} to {most}, but learner.skill_space has {space.count}"
    if most + 1 < space.count:
        log.warning("skills in the data are %d to %d: the others of %d are not trained", least, most, space.count)
    return ""


def without(batch: Batch | list[Batch], names: set[str] | frozenset[str]) -> Batch | list[Batch]:
    if isinstance(batch, list):
        return [Batch({k: v for k, v in one.items() if k not in names}) for one in batch]
    return Batch({k: v for k, v in batch.items() if k not in names})


def has(batches: Batches, name: str) -> bool:
    return any(name in one for batch in batches.values() for one in (batch if isinstance(batch, list) else [batch]))


@dataclass
class SameData:
    """Saved with each checkpoint, so that a run never goes on from other data than it began with."""

    path: str
    digest: str

    def state_dict(self) -> dict[str, str]:
        return {"digest": self.digest}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """Errors: BadInput if the file has changed."""
        if state["digest"] != self.digest:
            raise BadInput(f"data: {self.path} is not what it was when this run began: it cannot go on with it")
