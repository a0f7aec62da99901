"""Rollouts for evaluation: one whole episode a row, as padded arrays. The option loop itself is the collector's."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skillrl.data.collector import Collector
from skillrl.selector import Fixed, Selector
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec


@dataclass(frozen=True)
class Film:
    """Which rows are filmed, every how many env steps, and how."""

    rows: Sequence[int]
    every: int = 1
    width: int = 240
    height: int = 240
    camera: str = "track"


@dataclass
class Trajectories:
    """R episodes, padded to the longest (T steps). After its end a row keeps its last observation and coordinates.

    coordinates are those of ``env.metadata["coverage"]["key"]``, D = 0 for an env that states none. Of a team they are
    those of its agents side by side; ``agents`` says how many that are.
    frames: row → one frame for each multiple of ``film.every`` before the row's end.
    """

    obs: np.ndarray  # (R, T + 1, ...); of pictures (R, T + 1, H, W, 0): of so many they would be too much
    coordinates: np.ndarray  # (R, T + 1, D)
    reward: np.ndarray  # (R, T) or (R, T, agents), 0 after the end
    length: np.ndarray  # (R,) env steps
    z: np.ndarray  # (R, T, ...) the skill at each step
    terminated: np.ndarray  # (R,) bool: ended by the env and not by its time limit
    success: np.ndarray | None  # (R,) bool: whether info["success"] was ever true; None for an env without it
    info: dict[str, np.ndarray] = field(default_factory=dict)  # (R, T, ...) what ``record`` asked for
    frames: dict[int, list[np.ndarray]] = field(default_factory=dict)
    agents: int = 1

    def __len__(self) -> int:
        return len(self.length)

    @property
    def returns(self) -> np.ndarray:
        """(R,): undiscounted, summed over agents where there are several."""
        return self.reward.sum(axis=tuple(range(1, self.reward.ndim)))

    def take(self, rows: Sequence[int] | np.ndarray) -> "Trajectories":
        """Some rows, in the given order; frames stay behind."""
        rows = np.asarray(rows)
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        taken = {name: value[rows] for name, value in values.items() if isinstance(value, np.ndarray)}
        info = {key: value[rows] for key, value in self.info.items()}
        return Trajectories(**{"success": None, **taken, "info": info, "agents": self.agents})


def rollout(
    env: Any,
    policy: SkillPolicy,
    skills: Selector | Tensor,
    *,
    seed: int,
    deterministic: bool = True,
    record: Sequence[str] = (),
    film: Film | None = None,
) -> Trajectories:
    """One episode in each row of ``env``; rows that have ended wait for the others.

    Args:
        env: a VectorEnv of ours; it is reset with ``seed`` and left somewhere in its next episodes.
        skills: who gives z; a tensor (num_envs, ...) deals row i its skill for the whole episode.
        record: info keys whose values at every step are kept.
    """
    spec = Spec.from_env(env)
    selector = Fixed(skills) if isinstance(skills, Tensor) else skills
    collector = Collector(
        env, policy, selector, spec=spec, seed=seed, deterministic=deterministic, greedy=deterministic
    )
    collector.reset(seed=seed)
    key = (env.metadata.get("coverage") or {}).get("key")
    start = _coordinates(collector.info[key]) if key else np.zeros((env.num_envs, 0))
    steps: list[dict[str, np.ndarray]] = []
    frames: dict[int, list[np.ndarray]] = {row: [] for row in (film.rows if film else ())}
    running = torch.ones(env.num_envs, dtype=torch.bool)
    while running.any() and len(steps) < spec.horizon:
        if film and len(steps) % film.every == 0:
            _shoot(env, film, running, frames)
        batch, _ = collector.tick(active=running)
        if len(spec.obs.shape) == 3:
            batch = batch.replace(obs=batch["obs"][..., :0], next_obs=batch["next_obs"][..., :0])
        step = {name: value.cpu().numpy() for name, value in batch.items()}
        steps.append({**step, "ran": running.numpy().copy()})
        running = running & ~(batch["terminated"] | batch["truncated"]).bool().cpu()
    trajectories = _pad(steps, start, key, record, frames)
    trajectories.agents = spec.agents
    return trajectories


def rollouts(
    env: Any, policy: SkillPolicy, z: Tensor, *, seed: int, record: Sequence[str] = (), film: Film | None = None
) -> Trajectories:
    """An episode for each z (R, ...), in as many rounds of ``env.num_envs`` rows as that takes.

    The same seed gives the same starts, whatever the policy is; ``film`` may name rows of the first round only.
    """
    rounds = []
    for first in range(0, len(z), env.num_envs):
        chosen = torch.arange(first, first + env.num_envs) % len(z)  # the last round is filled up, and cut below
        round_seed = int(np.random.SeedSequence([seed, first]).generate_state(1)[0])
        part = rollout(env, policy, z[chosen], seed=round_seed, record=record, film=None if first else film)
        rounds.append(part)
    whole = _join(rounds)
    result = whole.take(np.arange(len(z)))
    result.frames = rounds[0].frames
    return result


def _coordinates(value: Any) -> np.ndarray:
    """(N,) or (N, D) → (N, D) float64; of a team (N, agents, D) → (N, agents · D)."""
    array = np.asarray(value, dtype=np.float64)
    return array.reshape(len(array), -1)


def _shoot(env: Any, film: Film, running: Tensor, frames: dict[int, list[np.ndarray]]) -> None:
    rows = [row for row in film.rows if running[row]]  # a row that ended has been reset: it would show another episode
    shots = env.render_rows(rows, width=film.width, height=film.height, camera=film.camera)
    for row, shot in zip(rows, shots, strict=True):
        frames[row].append(shot)


def _pad(
    steps: list[dict[str, np.ndarray]],
    start: np.ndarray,
    key: str | None,
    record: Sequence[str],
    frames: dict[int, list[np.ndarray]],
) -> Trajectories:
    ran = np.stack([step["ran"] for step in steps], 1)  # (R, T)
    rows = np.arange(len(ran))
    length = ran.sum(1)
    last = length - 1
    obs, places = [steps[0]["obs"]], [start]
    for step in steps:
        alive = step["ran"]
        obs.append(_keep(step["next_obs"], obs[-1], alive))
        now = _coordinates(step[f"info/{key}"]) if key else start
        places.append(_keep(now, places[-1], alive))

    def stacked(name: str) -> np.ndarray:
        return np.stack([step[name] for step in steps], 1)  # (R, T, ...)

    success = None
    if "info/success" in steps[0]:
        success = ((stacked("info/success") > 0) & ran).any(1)
    return Trajectories(
        obs=np.stack(obs, 1),
        coordinates=np.stack(places, 1),
        reward=stacked("reward") * ran.reshape(ran.shape + (1,) * (steps[0]["reward"].ndim - 1)),
        length=length,
        z=stacked("z"),
        terminated=stacked("terminated")[rows, last].astype(bool),
        success=success,
        info={name: stacked(f"info/{name}") for name in record},
        frames=frames,
    )


def _keep(new: np.ndarray, old: np.ndarray, alive: np.ndarray) -> np.ndarray:
    return np.where(alive.reshape(-1, *[1] * (new.ndim - 1)), new, old)


def _join(parts: list[Trajectories]) -> Trajectories:
    """Rows one after another, each part padded to the longest by its last value (rewards by 0)."""
    if len(parts) == 1:
        return parts[0]
    steps = max(part.reward.shape[1] for part in parts)

    def joined(values: list[np.ndarray], columns: int, mode: Any) -> np.ndarray:
        pads = [[(0, 0), (0, columns - value.shape[1])] + [(0, 0)] * (value.ndim - 2) for value in values]
        return np.concatenate([np.pad(value, pad, mode=mode) for value, pad in zip(values, pads, strict=True)])

    successes = [part.success for part in parts]
    return Trajectories(
        obs=joined([part.obs for part in parts], steps + 1, "edge"),
        coordinates=joined([part.coordinates for part in parts], steps + 1, "edge"),
        reward=joined([part.reward for part in parts], steps, "constant"),
        length=np.concatenate([part.length for part in parts]),
        z=joined([part.z for part in parts], steps, "edge"),
        terminated=np.concatenate([part.terminated for part in parts]),
        success=None if successes[0] is None else np.concatenate([s for s in successes if s is not None]),
        info={key: joined([part.info[key] for part in parts], steps, "edge") for key in parts[0].info},
        agents=parts[0].agents,
    )
