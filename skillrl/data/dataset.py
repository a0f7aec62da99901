"""Datasets: episodes in a file that any numpy reads, out of a replay and into one. docs/data.md tells the format.

A dataset holds each observation once, as a replay does: what a step led to is the next step's observation, and for an
episode's last step it is the episode's final observation.
"""

import hashlib
import heapq
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skillrl.atomic import write
from skillrl.data.layouts import read_layout
from skillrl.data.replay import Replay
from skillrl.spec import Batch, Discrete, Field, Spec

FORMAT, VERSION = "skillrl dataset", 1
IN_FILE = {"obs": "observations", "action": "actions", "reward": "rewards"}
"""Of a step, where the file has another name for it than a Batch."""
NEEDED = ("obs", "action", "reward", "terminated", "truncated")
TOLD = ("first", "next_obs", "discount")
"""Of a step: what the order of steps tells, or the learner that reads them."""
MOST_ROWS = 256


@dataclass(frozen=True)
class Dataset:
    """S steps of E episodes, end to end. Checked: whatever is inconsistent, not finite or empty is a ValueError.

    Args:
        steps: name → (S, ...), as in a Batch: obs, action, reward, terminated, truncated, and what else is known
            (z, skill_step, log_prob, info/*). terminated and truncated are false within an episode.
        final_obs: (E, ...), what the last step of each episode led to.
        lengths: (E,) steps.
        spec: of the env that it was collected in, if known.
        absent: entries that stand in ``steps`` only because a replay wants them; no learner may read them.
    """

    steps: Mapping[str, Tensor]
    final_obs: Tensor
    lengths: Tensor
    spec: Spec | None = None
    absent: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        check(self)

    def __len__(self) -> int:
        """Steps."""
        return int(self.lengths.sum())

    # ---- from and to a replay

    @classmethod
    def of(cls, replay: Replay, spec: Spec) -> "Dataset":
        """What a replay holds. An episode of which it forgot the beginning starts where it still remembers; one that
        was under way ends, neither terminated nor truncated, where it stood. Errors: ValueError if it holds nothing.
        """
        batch, lengths = replay.contents()
        steps = {name: value for name, value in batch.items() if name not in TOLD}
        return cls(steps, batch["next_obs"][lengths.cumsum(0) - 1], lengths, spec)

    def replay(
        self,
        *,
        gamma: float | Tensor = 0.99,
        device: str | torch.device = "cpu",
        seed: int = 0,
        num_envs: int | None = None,
    ) -> Replay:
        """A replay that holds all of it. num_envs: rows over which the episodes are dealt; None: for the fastest fill.

        The other arguments are those of ``Replay``.
        """
        longest = int(self.lengths.max())
        rows = num_envs or min(max(1, len(self) // (4 * longest)), MOST_ROWS)  # 4: rows of about equal length
        dealt = deal(self.lengths.tolist(), rows)
        slots = max(sum(int(self.lengths[e]) + 1 for e in row) for row in dealt)
        data = Replay(max(slots + 1, 4) * rows, rows, gamma=gamma, device=device, seed=seed)
        self.fill(data)
        return data

    def fill(self, data: Replay) -> None:
        """Add all steps to a replay with any number of envs, episodes dealt over them. What is too much, it forgets."""
        start = (self.lengths.cumsum(0) - self.lengths).tolist()
        order = [
            torch.cat([torch.arange(start[e], start[e] + int(self.lengths[e])) for e in row] or [torch.arange(0)])
            for row in deal(self.lengths.tolist(), data.num_envs)
        ]
        at = torch.nn.utils.rnn.pad_sequence(order, padding_value=-1)  # (ticks, num_envs): the step of each row
        episode = torch.repeat_interleave(self.lengths)  # (S,)
        last = self.lengths.cumsum(0) - 1  # (E,)
        for now in at:
            data.add(self._tick(now, episode, last))

    def _tick(self, at: Tensor, episode: Tensor, last: Tensor) -> Batch:
        """Steps ``at`` (N,) as the collector would hand them over; −1: that row waits."""
        step = at.clamp(min=0)
        mine = episode[step]
        ends = step == last[mine]
        obs = self.steps["obs"]
        following = obs[(step + 1).clamp(max=len(obs) - 1)]
        ends_like = ends.reshape(-1, *[1] * (obs.dim() - 1))
        return Batch(
            {name: value[step] for name, value in self.steps.items()},
            first=step == last[mine] - self.lengths[mine] + 1,
            next_obs=torch.where(ends_like, self.final_obs[mine], following),
            active=at >= 0,
        )

    # ---- from and to a file

    def save(self, path: str | Path, *, about: Mapping[str, Any] | None = None) -> Path:
        """Write a .npz, whole or not at all. about: facts for people, as JSON. Errors: OSError."""
        path = Path(path)
        metadata = {
            "format": FORMAT,
            "version": VERSION,
            "spec": None if self.spec is None else asdict(self.spec),
            "about": about or {},
        }
        arrays = {IN_FILE.get(name, name): value.cpu().numpy() for name, value in self.steps.items()}
        arrays |= {"final_observations": self.final_obs.cpu().numpy(), "episode_lengths": self.lengths.cpu().numpy()}
        arrays["metadata"] = np.array(json.dumps(metadata))
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, lambda file: np.savez(file, allow_pickle=False, **arrays))  # type: ignore[arg-type]
        return path

    @classmethod
    def load(cls, path: str | Path, spec: Spec | None = None) -> "Dataset":
        """Of our format, or in the layout of OGBench or D4RL. spec: of the env that it has to fit.

        Errors: ValueError of one line that names the file and what is wrong with it.
        """
        arrays = read(Path(path))
        try:
            dataset = _ours(arrays) if "metadata" in arrays else _of_others(arrays)
            return dataset if spec is None else dataset.fit(spec)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def fit(self, spec: Spec) -> "Dataset":
        """For an env of ``spec``, in its precision. Errors: ValueError saying what differs."""
        check_obs(self, spec.obs)
        check_action(self.steps["action"], spec.action)
        dtype = getattr(torch, spec.obs.dtype)
        steps = {**self.steps, "obs": self.steps["obs"].to(dtype)}
        return replace(self, steps=steps, final_obs=self.final_obs.to(dtype), spec=spec)

    def head(self, steps: int) -> "Dataset":
        """The first episodes, with at least ``steps`` steps in all if there are as many."""
        total = self.lengths.cumsum(0)
        episodes = int((total < steps).sum()) + 1
        kept = self.lengths[:episodes]
        few = {name: value[: int(kept.sum())] for name, value in self.steps.items()}
        return replace(self, steps=few, final_obs=self.final_obs[:episodes], lengths=kept)

    def digest(self) -> str:
        """Of the content: 64 hex digits of SHA-256."""
        found = hashlib.sha256()
        parts = {**self.steps, "final_obs": self.final_obs, "lengths": self.lengths}
        for name in sorted(parts):
            array = np.ascontiguousarray(parts[name].cpu().numpy())
            found.update(f"{name} {array.dtype.str} {array.shape}".encode())
            found.update(array.reshape(-1).view(np.uint8).data)
        return found.hexdigest()


def deal(lengths: list[int], rows: int) -> list[list[int]]:
    """Which episodes go to which row, in order: the longest first, each to the row that has least."""
    load = [(0, row) for row in range(rows)]
    dealt: list[list[int]] = [[] for _ in range(rows)]
    for episode in sorted(range(len(lengths)), key=lambda e: -lengths[e]):
        steps, row = heapq.heappop(load)
        dealt[row].append(episode)
        heapq.heappush(load, (steps + lengths[episode] + 1, row))
    return [sorted(row) for row in dealt]


# ---- reading


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a .npz, without pickle. Errors: ValueError of one line."""
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no .npz")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} is no .npz of plain arrays: {' '.join(str(error).split())[:200]}") from error


def _ours(arrays: dict[str, np.ndarray]) -> Dataset:
    metadata = _metadata(arrays.pop("metadata"))
    wanted = [IN_FILE.get(name, name) for name in NEEDED] + ["final_observations", "episode_lengths"]
    if missing := [name for name in wanted if name not in arrays]:
        raise ValueError(f"{', '.join(missing)} missing: it has {', '.join(sorted(arrays))}")
    tensors = {name: tensor(name, value) for name, value in arrays.items()}
    final, lengths = tensors.pop("final_observations"), tensors.pop("episode_lengths")
    back = {theirs: ours for ours, theirs in IN_FILE.items()}
    return Dataset({back.get(name, name): value for name, value in tensors.items()}, final, lengths, _spec(metadata))


def _of_others(arrays: dict[str, np.ndarray]) -> Dataset:
    found = read_layout(arrays)
    steps = {name: tensor(name, value) for name, value in found.steps.items()}
    final, lengths = tensor("observations", found.final_obs), torch.from_numpy(found.lengths)
    return Dataset(steps, final, lengths, absent=found.absent)


def _metadata(array: np.ndarray) -> dict[str, Any]:
    try:
        metadata = dict(json.loads(str(array)))
    except (TypeError, ValueError) as error:
        raise ValueError("its metadata are no JSON object") from error
    if (metadata.get("format"), metadata.get("version")) != (FORMAT, VERSION):
        found = f"{metadata.get('format')!r} {metadata.get('version')!r}"
        raise ValueError(f"its metadata say format {found}, this version reads {FORMAT!r} {VERSION}")
    return metadata


def _spec(metadata: dict[str, Any]) -> Spec | None:
    told = metadata.get("spec")
    if told is None:
        return None
    try:
        action = Discrete(told["action"]["n"]) if "n" in told["action"] else Field(**told["action"])
        return Spec(Field(**told["obs"]), action, told["agents"], told["horizon"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError("its metadata do not describe a spec") from error


def tensor(name: str, array: np.ndarray) -> Tensor:
    """Without a copy. Errors: ValueError where the entries are no numbers."""
    try:
        return torch.from_numpy(array)
    except TypeError as error:
        raise ValueError(f"{name} is of type {array.dtype}: it must hold numbers") from error


# ---- checking


def check(dataset: Dataset) -> None:
    """Shapes, finiteness and where episodes end. Errors: ValueError of one line."""
    steps, lengths, final = dataset.steps, dataset.lengths, dataset.final_obs
    if missing := [name for name in NEEDED if name not in steps]:
        raise ValueError(f"{', '.join(missing)} missing: a dataset's steps have at least {', '.join(NEEDED)}")
    if lengths.dim() != 1 or lengths.dtype != torch.int64 or not bool((lengths > 0).all()):
        raise ValueError("episode_lengths must be int64 (E,), each at least 1")
    total, ends = int(lengths.sum()), lengths.cumsum(0) - 1
    for name, value in steps.items():
        if len(value.shape) == 0 or len(value) != total:
            found = tuple(value.shape)
            raise ValueError(f"{IN_FILE.get(name, name)} has shape {found}: the episodes have {total} steps in all")
        check_finite(IN_FILE.get(name, name), value)
    if total == 0:
        raise ValueError("it holds no steps")
    if final.shape != (len(lengths), *steps["obs"].shape[1:]) or final.dtype != steps["obs"].dtype:
        raise ValueError(
            f"final_observations are {final.dtype} {tuple(final.shape)}: {len(lengths)} episodes with observations "
            f"{steps['obs'].dtype} {tuple(steps['obs'].shape[1:])} need one each"
        )
    check_finite("final_observations", final)
    within = torch.ones(total, dtype=torch.bool, device=lengths.device).index_fill_(0, ends, False)
    for name in ("terminated", "truncated"):
        if steps[name].dtype != torch.bool or steps[name].dim() != 1:
            raise ValueError(f"{name} is {steps[name].dtype} {tuple(steps[name].shape)}: it must be bool (S,)")
        if bool((steps[name] & within).any()):
            at = int((steps[name] & within).nonzero()[0])
            raise ValueError(f"{name} is true at step {at}, which is not the last of its episode")


def check_finite(name: str, value: Tensor) -> None:
    if value.is_floating_point() and not bool(value.isfinite().all()):
        bad = ~value.isfinite().reshape(len(value), -1).all(1)
        raise ValueError(f"{name} is not finite at entry {int(bad.nonzero()[0])} ({int(bad.sum())} in all)")


def check_obs(dataset: Dataset, obs: Field) -> None:
    """Observations are those of an env. Errors: ValueError."""
    mine, dtype = dataset.steps["obs"], getattr(torch, obs.dtype)
    if mine.shape[1:] != obs.shape:
        raise ValueError(f"its observations have shape {tuple(mine.shape[1:])}, those of env {obs.shape}")
    if mine.dtype != dtype and not (mine.is_floating_point() and dtype.is_floating_point):
        raise ValueError(f"its observations are {mine.dtype}, those of env {dtype}")
    names = {} if dataset.spec is None else dataset.spec.obs.names
    if names and obs.names and names != obs.names:
        raise ValueError(f"its observations are made up of {_parts(names)}, those of env of {_parts(obs.names)}")


def _parts(names: Mapping[str, tuple[int, int]]) -> str:
    return ", ".join(f"{part} ({stop - start})" for part, (start, stop) in names.items())


def check_action(action: Tensor, wanted: Field | Discrete) -> None:
    """Actions are those of an env. Errors: ValueError."""
    shape = tuple(action.shape[1:])
    if isinstance(wanted, Discrete):
        if action.dtype != torch.int64 or shape or bool(((action < 0) | (action >= wanted.n)).any()):
            raise ValueError(f"its actions are {action.dtype} {shape}, env wants int64 () of 0 to {wanted.n - 1}")
        return
    if shape != wanted.shape or action.dtype != torch.float32:
        raise ValueError(f"its actions are {action.dtype} {shape}, env wants float32 {wanted.shape}")
    if bool((action.abs() > 1 + 1e-5).any()):
        raise ValueError(f"its actions reach {float(action.abs().max()):g}: they must be scaled to [-1, 1]")
