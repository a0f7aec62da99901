"""Checkpoints: everything that a run needs to go on bit for bit, atomically, at the cost of what is new.

    checkpoints/<phase>/00012000.pt      learner, collector, counters, replay's books; the newest two are kept
    checkpoints/<phase>/data/*.pt        the replay in append-only segments, shared by the checkpoints that list them

A file is written beside its place, synced, and renamed: what has its final name is whole.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, nn
from torch.optim import Optimizer

from skillrl.training import State

KEEP = 2


def module_state(module: nn.Module) -> dict[str, Any]:
    """Parameters and buffers, and of every submodule the optimisers and generators that it holds as attributes."""
    held: dict[str, Any] = {}
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, Optimizer):
                held[f"{name}.{key}"] = value.state_dict()
            elif isinstance(value, Generator):
                held[f"{name}.{key}"] = value.get_state()
    return {"tensors": module.state_dict(), "held": held}


def load_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    """The inverse of ``module_state``, onto a module that was built alike."""
    module.load_state_dict(state["tensors"])
    parts = dict(module.named_modules())
    for name, value in state["held"].items():
        part, key = name.rsplit(".", 1)
        target = getattr(parts[part], key)
        if isinstance(target, Optimizer):
            target.load_state_dict(value)
        else:
            target.set_state(value.cpu())


class Checkpoints:
    """The checkpoints of one phase of a run.

    extra: named objects with ``state_dict``/``load_state_dict`` that are saved along, such as the logger.
    """

    def __init__(self, folder: str | Path, *, extra: dict[str, Any] | None = None):
        self.folder, self.extra = Path(folder), extra or {}
        self.segments: list[str] = []
        self.books: dict[str, Any] | None = None  # the replay's state when its newest segment was written

    def list(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("*.pt") if path.stem.isdigit())

    def newest(self) -> int | None:
        """The steps of the newest one."""
        return int(found[-1].stem) if (found := self.list()) else None

    def save(self, state: State) -> Path:
        """Write the state between two rounds. Errors: OSError of the disk, with the old checkpoints intact."""
        data_folder = self.folder / "data"
        data_folder.mkdir(parents=True, exist_ok=True)
        steps = state.env_steps if state.collector else state.grad_steps
        books = state.data.state_dict()
        if state.collector is not None:
            segment = data_folder / f"{steps:012d}.pt"
            _write(segment, state.data.segment(self.books))
            self.segments.append(segment.name)
            self.books = books
        path = self.folder / f"{steps:012d}.pt"
        content = {
            "counters": state.counters(),
            "learner": module_state(state.learner),
            "collector": _arrays_out(state.collector.state_dict()) if state.collector else None,
            "data": books,
            "segments": self.segments,
            "metrics": state.metrics,
            "extra": {name: value.state_dict() for name, value in self.extra.items()},
        }
        _write(path, content)
        for old in self.list()[:-KEEP]:
            old.unlink()
        return path

    def restore(self, state: State) -> bool:
        """Bring a freshly begun State to the newest checkpoint. False when there is none."""
        found = self.list()
        if not found:
            return False
        content = torch.load(found[-1], map_location=state.data.device, weights_only=True)
        self.segments, self.books = list(content["segments"]), content["data"]
        for name in self.segments:
            segment = torch.load(self.folder / "data" / name, map_location=state.data.device, weights_only=True)
            state.data.load_segment(segment)
        state.data.load_state_dict(content["data"])
        load_module_state(state.learner, content["learner"])
        if state.collector is not None:
            state.collector.load_state_dict(_arrays_in(content["collector"]))
        state.env_steps, state.grad_steps = content["counters"]["env_steps"], content["counters"]["grad_steps"]
        state.metrics = content["metrics"]
        for name, value in self.extra.items():
            value.load_state_dict(content["extra"][name])
        return True

    def clear(self) -> None:
        """Remove all of them: the phase is done and its result is saved elsewhere."""
        for path in [*self.folder.glob("*.pt"), *self.folder.glob("data/*.pt")]:
            path.unlink()


def _write(path: Path, content: Any) -> None:
    beside = path.with_suffix(".partial")
    try:
        with open(beside, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        beside.unlink(missing_ok=True)
        raise
    os.replace(beside, path)


def _arrays_out(value: Any) -> Any:
    """An env speaks numpy, a checkpoint is read as tensors alone: each array becomes a marked tensor."""
    if isinstance(value, np.ndarray):
        return {"numpy": torch.from_numpy(np.ascontiguousarray(value).reshape(value.shape))}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {key: _arrays_out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays_out(item) for item in value)
    return value


def _arrays_in(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"numpy"}:
            return value["numpy"].numpy()
        return {key: _arrays_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays_in(item) for item in value)
    return value
