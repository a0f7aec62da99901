"""Checkpoints: everything that a run needs to go on bit for bit, atomically, at the cost of what is new.

    checkpoints/<phase>/000000012000.pt   learner, collector, counters, replay's books; the newest two are kept
    checkpoints/<phase>/data/*.pt         the replay in append-only segments, shared by the checkpoints that list them

A file is written beside its place, synced, and renamed: what has its final name is whole.
"""

import logging
import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from skillrl.atomic import write
from skillrl.data.replay import Replay
from skillrl.training import State

KEEP = 2
log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one phase of a run.

    extra: named objects with ``state_dict``/``load_state_dict`` that are saved along, such as the logger.
    """

    def __init__(self, folder: str | Path, *, extra: dict[str, Any] | None = None):
        self.folder, self.extra = Path(folder), extra or {}
        self.segments: list[tuple[str, Tensor]] = []  # name, and where the replay stood when it was written
        self.books: dict[str, Tensor] | None = None  # the replay's state when its newest segment was written

    def found(self) -> list[Path]:
        """Oldest first."""
        return sorted(path for path in self.folder.glob("*.pt") if path.stem.isdigit())

    def newest(self) -> int | None:
        """The steps of the newest one, None where there is none."""
        return int(found[-1].stem) if (found := self.found()) else None

    def save(self, state: State) -> Path:
        """Write the state between two rounds. Errors: OSError of the disk, with the old checkpoints intact."""
        path = self.folder / f"{state.steps:012d}.pt"
        listed = {name for name, _ in self.segments}  # by the checkpoint before this one
        if path.name in listed:
            return path  # saved already: nothing happens between two rounds
        self.folder.mkdir(parents=True, exist_ok=True)
        if state.collector is not None:
            self._save_segment(path.name, state)
        content = {
            "counters": state.counters(),
            "learner": module_state(state.learner),
            "collector": _arrays_out(state.collector.state_dict()) if state.collector else None,
            "visited": state.visited.state_dict() if state.visited else None,
            "data": state.data.state_dict(),
            "segments": self.segments,
            "metrics": state.metrics,
            "generators": _arrays_out(global_generators()),
            "extra": {name: value.state_dict() for name, value in self.extra.items()},
        }
        write(path, lambda file: torch.save(content, file))
        self._tidy(listed | {name for name, _ in self.segments})
        return path

    def _save_segment(self, name: str, state: State) -> None:
        """What the replay has that no segment has yet, and forget the segments of which it has nothing any more."""
        data, folder = state.data, self.folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / name, lambda file: torch.save(data.segment(self.books), file))
        self.books = data.state_dict()
        self.segments = [(old, at) for old, at in self.segments if not data.expired({"steps/pos": at})]
        self.segments.append((name, self.books["steps/pos"]))

    def _tidy(self, listed: set[str]) -> None:
        """Remove old checkpoints, and segments that none of the others lists (a kill may have left some, too)."""
        for old in self.found()[:-KEEP]:
            old.unlink()
        segments = [path for path in self.folder.glob("data/*") if path.name not in listed]
        for left in [*segments, *self.folder.glob("*.partial")]:
            left.unlink()

    def restore(self, state: State) -> bool:
        """Bring a freshly begun State to the newest checkpoint that can be read. False when there is none at all."""
        found = self._load(state.data.device)
        if found is None:
            return False
        content, segments = found
        self._restore_extra(content)
        self.segments, self.books = [(name, at.cpu()) for name, at in content["segments"]], content["data"]
        for segment in segments:
            state.data.load_segment(segment)
        state.data.load_state_dict(content["data"])
        load_module_state(state.learner, content["learner"])
        if state.collector is not None:
            state.collector.load_state_dict(_arrays_in(content["collector"]))
        if state.visited is not None and content.get("visited"):
            state.visited.load_state_dict(content["visited"])
        state.env_steps, state.grad_steps = content["counters"]["env_steps"], content["counters"]["grad_steps"]
        state.metrics = content["metrics"]
        restore_global_generators(_arrays_in(content["generators"]))
        return True

    def replay(self) -> Replay:
        """What the newest checkpoint knows of the replay, on the CPU. Errors: ValueError if there is none."""
        found = self._load(torch.device("cpu"))
        if found is None:
            raise ValueError(f"there is no checkpoint in {self.folder}")
        content, segments = found
        num_envs, slots = content["data"]["shape"].tolist()
        replay = Replay(num_envs * slots, num_envs)
        for segment in segments:
            replay.load_segment(segment)
        replay.load_state_dict(content["data"])
        return replay

    def restore_extra(self) -> None:
        """Only ``extra``, and nothing where there is no checkpoint yet."""
        if (found := self._load(torch.device("cpu"))) is not None:
            self._restore_extra(found[0])

    def _restore_extra(self, content: dict[str, Any]) -> None:
        for name, value in self.extra.items():
            value.load_state_dict(content["extra"][name])

    def _load(self, device: torch.device) -> tuple[dict[str, Any], list[dict[str, Tensor]]] | None:
        """The newest whole checkpoint with its segments. A disk may lose what was once written, so there are two."""
        found = self.found()
        for path in reversed(found):
            try:
                content = torch.load(path, map_location=device, weights_only=True)
                names = [self.folder / "data" / name for name, _ in content["segments"]]
                return content, [torch.load(name, map_location="cpu", mmap=True, weights_only=True) for name in names]
            except (OSError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
                log.warning("%s cannot be read: %s", path, " ".join(str(error).split())[:200])
        if found:
            raise ValueError(f"no checkpoint in {self.folder} can be read")
        return None


def module_state(module: nn.Module) -> dict[str, Any]:
    """Parameters and buffers, and of every submodule the optimisers and generators that it holds as attributes."""
    held = {name: p.state_dict() if isinstance(p, Optimizer) else p.get_state() for name, p in _held(module)}
    return {"tensors": module.state_dict(), "held": held}


def load_module_state(module: nn.Module, state: dict[str, Any]) -> None:
    """The inverse of ``module_state``, onto a module that was built alike."""
    module.load_state_dict(state["tensors"])
    for name, part in _held(module):
        if isinstance(part, Optimizer):
            part.load_state_dict(state["held"][name])
        else:
            part.set_state(state["held"][name].cpu())


def _held(module: nn.Module) -> list[tuple[str, Optimizer | Generator]]:
    return [
        (f"{name}.{key}", value)
        for name, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, Optimizer | Generator)
    ]


def global_generators() -> dict[str, Any]:
    """Nothing here draws from them after a start, but someone's learner may."""
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}


def restore_global_generators(state: dict[str, Any]) -> None:
    """The inverse."""
    torch.set_rng_state(state["torch"].cpu())
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


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
            return value["numpy"].cpu().numpy()
        return {key: _arrays_in(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_arrays_in(item) for item in value)
    return value
