"""The batched env: Gymnasium's `VectorEnv` over rows that live in this process or in worker processes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from envs.facts import known, metadata
from envs.memory import Arrays
from envs.pixels import PIXELS
from envs.pool import Local, Pool
from envs.slice import layout
from envs.task import Picture, Task, num_actions, team, whole

Step = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]


class BatchedEnv(VectorEnv):
    """`num_envs` rows of a task, with autoreset `SAME_STEP`.

    Where a row is a team, observations, actions and rewards are (num_envs, agents, ...), and `metadata["agents"]` says
    how many. An episode ends for all of them.

    In the step that ends a row's episode, `obs` is already the next episode's first observation;
    `info["final_obs"]` (num_envs, d) has the true last one, and `info["final_info"]` the true last infos. In rows that
    did not end they equal `obs` and `info`. The masks are `info["_final_obs"]` and `info["_final_info"]`.

    Args:
        task: what is seen, rewarded and ended.
        num_envs: rows.
        workers: processes that step them, at most one for each row: this one and, from 2 on, others. Results are equal
            bit for bit. `step_apart` leaves all of it to others.
        horizon: env steps until truncation.
        dtype: of the observations, "float32" or "float64"; not of pictures.
        observe: the parts of the observation, in order; or [pixels] alone: a picture of the row, (64, 64, 3) uint8,
            as `render_rows` draws it with the camera "track".
        views: name -> parts, for whoever looks at some of the state only.
        coverage: {"key": info key, "cell": side of a cell}.
        record: info keys that replays store.
    """

    def __init__(
        self,
        task: Task,
        *,
        num_envs: int,
        workers: int,
        horizon: int,
        dtype: str,
        observe: Sequence[str],
        views: Mapping[str, Sequence[str]],
        coverage: Mapping[str, Any],
        record: Sequence[str],
    ):
        whole(1, num_envs=num_envs, horizon=horizon)
        whole(0, workers=workers)
        if dtype not in ("float32", "float64"):
            raise ValueError(f"dtype={dtype!r}: must be float32 or float64")
        parts = task.parts()
        known("observe", observe, [*parts, PIXELS])
        if not observe:
            raise ValueError(f"observe=[]: must name at least one of {', '.join(parts)}")
        entries, widths = layout(task, observe, dtype, num_envs)
        self.metadata = dict(task.facts) | metadata(
            horizon=int(horizon),
            widths=widths,
            parts=parts,
            infos=task.infos(),
            views=views,
            coverage=coverage,
            record=record,
            fps=round(1 / task.simulator(1).dt),
            exact_resume=True,
        )
        self.num_envs = int(num_envs)
        self.render_mode = "rgb_array"
        lead = team(task.simulator(1))
        self.metadata |= {"agents": lead[0]} if lead else {}
        shape, of = entries["obs"]
        low, high = (0.0, 255.0) if PIXELS in observe else (-np.inf, np.inf)
        self.single_observation_space = Box(low, high, shape[1:], np.dtype(of).type)
        self._num_actions = num_actions(task.simulator(1))
        self.single_action_space = (
            Box(-1.0, 1.0, entries["action"][0][1:], np.float32)
            if self._num_actions is None
            else Discrete(self._num_actions)
        )
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._task = task
        self._infos = list(task.infos())
        self._picture: Picture | None = None
        self._in_flight = False
        self._was_reset = False
        self._apart = False
        self._workers = min(int(workers), self.num_envs)
        self._dealt: dict[str, Any] = {"task": task, "layout": entries, "horizon": int(horizon), "observe": [*observe]}
        self._rows: Local | Pool = (
            Pool(workers=self._workers, **self._dealt) if self._workers > 1 else Local(**self._dealt)
        )
        self._arrays: Arrays = self._rows.arrays

    def step_apart(self) -> None:
        """From now on as many others as there are `workers` step all rows: for whoever does something else between
        `step_async` and `step_wait`. Episodes go on; without workers nothing changes."""
        self._idle("step_apart")
        if not self._workers or self._apart:
            return
        state = self._rows.state() if self._was_reset else None
        self._rows.close()
        self._rows, self._apart = Pool(workers=self._workers, apart=True, **self._dealt), True
        self._arrays = self._rows.arrays
        if state is not None:
            self._rows.load(state)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts new episodes, in all rows or in those of `options["reset_mask"]` (num_envs,) bool.

        Args:
            seed: an integer gives each row a generator made from (seed, row); a sequence has one seed for each row.
                None goes on with the generators as they are.
        """
        self._idle("reset")
        mask = reset_mask(options, self.num_envs)
        if not self._was_reset and not mask.all():
            raise ResetNeeded("the first reset must be of all rows: call reset() without a reset_mask")
        if seed is None and not self._was_reset:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        seeds = row_seeds(seed, self.num_envs)
        rows = np.flatnonzero(mask).tolist()
        self._rows.reset(rows, {row: own for row in rows if (own := seeds[row]) is not None})
        self._was_reset = True
        return self._arrays["obs"].copy(), self._info("info/", np.ones(self.num_envs, dtype=bool))

    def step(self, actions: np.ndarray, active: np.ndarray | None = None) -> Step:
        """One env step of the rows in `active` (num_envs,) bool; the other rows do not move in any respect.

        Args:
            actions: (num_envs, action_dim), of teams (num_envs, agents, action_dim), in [-1, 1]; beyond that it is
                clipped. Where actions are discrete, (num_envs,) whole numbers from 0.
        """
        self.step_async(actions, active)
        return self.step_wait()

    def step_async(self, actions: np.ndarray, active: np.ndarray | None = None) -> None:
        """Starts a step; `step_wait` returns what comes of it."""
        self._idle("step_async")
        if not self._was_reset:
            raise ResetNeeded("call reset() before step()")
        actions = np.asarray(actions)
        if actions.shape != self._arrays["action"].shape:
            raise ValueError(f"actions of shape {actions.shape}: must be {self._arrays['action'].shape}")
        rows = slice(None) if active is None else np.flatnonzero(active)
        if self._num_actions is not None and not np.isin(actions[rows], np.arange(self._num_actions)).all():
            raise ValueError(f"actions: must be whole numbers from 0 to {self._num_actions - 1}")
        self._arrays["action"][rows] = actions[rows]
        self._arrays["active"][:] = True if active is None else active
        self._in_flight = True
        self._rows.step_async()

    def step_wait(self) -> Step:
        """What `step` returns, for the step that `step_async` started."""
        if not self._in_flight:
            raise RuntimeError("step_wait() without step_async()")
        self._in_flight = False
        self._rows.step_wait()
        arrays = self._arrays
        reward, terminated, truncated = (arrays[name].copy() for name in ("reward", "terminated", "truncated"))
        ended = terminated | truncated
        info = self._info("info/", np.ones(self.num_envs, dtype=bool))
        info["final_obs"], info["_final_obs"] = arrays["final_obs"].copy(), ended
        info["final_info"], info["_final_info"] = self._info("final_info/", ended), ended.copy()
        return arrays["obs"].copy(), reward, terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Physics with its warm start, clocks, generators, goals: arrays with a row for each env, for any `workers`."""
        self._idle("state_dict")
        if not self._was_reset:
            raise ResetNeeded("call reset() before state_dict()")
        return self._rows.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state_dict()` bit for bit.

        Raises:
            ValueError: the state is of another env or of another num_envs.
        """
        self._idle("load_state_dict")
        fit(state, self.num_envs, {name: array.shape for name, array in self._arrays.items()})
        self._rows.load(state)
        self._was_reset = True

    def render(self) -> tuple[np.ndarray, ...]:
        """A frame of each row."""
        return tuple(self.render_rows(range(self.num_envs)))

    def render_rows(
        self, rows: Sequence[int], *, width: int = 240, height: int = 240, camera: str = "track"
    ) -> list[np.ndarray]:
        """Frames (height, width, 3) uint8 of some rows, drawn in this process.

        Args:
            camera: "track" follows the body; "top" looks down on the world around the start. Tasks with goals show the
                goals as well: all of the area that they lie in or, where it is large, the body's surroundings.

        Raises:
            RuntimeError: this machine has no off-screen OpenGL.
        """
        self._idle("render_rows")
        if camera not in ("track", "top"):
            raise ValueError(f"camera={camera!r}: must be track or top")
        if self._picture is None:
            self._picture = self._task.picture()
        now = {name[len("now/") :]: array for name, array in self._arrays.items() if name.startswith("now/")}
        frames = []
        for row in rows:
            one = {name: array[row] for name, array in now.items()}
            frames.append(self._picture.frame(one, width=width, height=height, camera=camera))
        return frames

    def close_extras(self, **kwargs: Any) -> None:
        picture, rows = getattr(self, "_picture", None), getattr(self, "_rows", None)  # absent if building failed
        if picture is not None:
            picture.close()
        if rows is not None:
            rows.close()

    def __del__(self) -> None:
        self.close()

    def _idle(self, what: str) -> None:
        if self.closed:
            raise RuntimeError(f"{what}(): the env is closed")
        if self._in_flight:
            raise RuntimeError(f"{what}() while a step is in flight: call step_wait() first")

    def _info(self, prefix: str, mask: np.ndarray) -> dict[str, Any]:
        info: dict[str, Any] = {}
        for name in self._infos:
            info[name], info[f"_{name}"] = self._arrays[prefix + name].copy(), mask.copy()
        return info


def reset_mask(options: Mapping[str, Any] | None, num_envs: int) -> np.ndarray:
    """The rows to reset, from Gymnasium's option `reset_mask`: all where there is none."""
    if not options or options.get("reset_mask") is None:
        return np.ones(num_envs, dtype=bool)
    mask = np.asarray(options["reset_mask"])
    if mask.shape != (num_envs,) or mask.dtype != bool or not mask.any():
        raise ValueError(f"options['reset_mask']: must be bool of shape ({num_envs},) with at least one True")
    return mask


def row_seeds(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed for each row."""
    seeds = [seed] * num_envs if seed is None or isinstance(seed, (int, np.integer)) else list(seed)
    if len(seeds) != num_envs:
        raise ValueError(f"seed: {len(seeds)} seeds for {num_envs} rows")
    if any(seed is not None and seed < 0 for seed in seeds):
        raise ValueError(f"seed={seed!r}: must not be negative")
    return seeds


def fit(state: Mapping[str, Any], num_envs: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError unless `state` has the rows and named arrays of this env."""
    if set(state) != {"physics", "now", "clock", "generator"}:
        raise ValueError(f"env state with the entries {sorted(state)}: it is not one of this kind of env")
    if len(state["clock"]) != num_envs:
        raise ValueError(f"env state of {len(state['clock'])} rows: env.num_envs is {num_envs}")
    ours = {name[len("now/") :]: shape for name, shape in shapes.items() if name.startswith("now/")}
    theirs = {name: np.shape(array) for name, array in state["now"].items()}
    if ours != theirs:
        raise ValueError(f"env state of another env: its arrays are {theirs}, this env's are {ours}")
