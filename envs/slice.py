"""The stepping core: some rows of a batched env, in whichever process they live."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.memory import Arrays, Layout
from envs.pixels import PIXELS, eye, shape_of
from envs.task import Task, num_actions, team


def layout(task: Task, observe: Sequence[str], dtype: str, n: int) -> tuple[Layout, dict[str, int]]:
    """What n rows of `task` exchange with their stepper, and the width of each observed part."""
    simulator = task.simulator(1)
    shapes = {**simulator.shapes, **task.own}
    now = {name: np.zeros((1, *shape)) for name, shape in shapes.items()}
    seen, widths = shape_of(task, observe)
    lead, obs = (n, *team(simulator)), ((n, *seen), "uint8" if PIXELS in observe else dtype)
    entries: dict[str, tuple[tuple[int, ...], str]] = {
        "action": ((*lead, simulator.action_dim), "float32") if num_actions(simulator) is None else (lead, "int64"),
        "active": ((n,), "bool"),
        "obs": obs,
        "final_obs": obs,
        "reward": (lead, "float64"),
        "terminated": ((n,), "bool"),
        "truncated": ((n,), "bool"),
    }
    for name, read in task.infos().items():
        value = read(now)
        entries[f"info/{name}"] = entries[f"final_info/{name}"] = ((n, *value.shape[1:]), value.dtype.str)
    entries.update({f"now/{name}": ((n, *shape), "float64") for name, shape in shapes.items()})
    return entries, widths


class Slice:
    """Rows [first, first + n) of an env: physics, clocks, generators, autoreset.

    Args:
        task: what is seen, rewarded and ended.
        arrays: this slice's rows of the arrays that `layout` names; `step` reads action and active and writes the rest.
        first: the env-wide number of the first row; generators are derived from it, so that results do not depend on
            how rows are dealt to workers.
        horizon: env steps until an episode is truncated.
        observe: names of the parts that make the observation, in order; or [pixels].
    """

    def __init__(self, task: Task, arrays: Arrays, *, first: int, horizon: int, observe: Sequence[str]):
        self.n = len(arrays["reward"])
        self._task, self._arrays, self._first, self._horizon = task, arrays, first, horizon
        self._eye = eye(task, observe)
        self._infos = task.infos()
        self._now = {name[len("now/") :]: array for name, array in arrays.items() if name.startswith("now/")}
        self._before = {name: array.copy() for name, array in self._now.items()}
        self._clock = np.zeros(self.n, dtype=np.int64)
        self._generators = [generator_of(0, first + row) for row in range(self.n)]  # `reset` seeds them
        self._simulator = task.simulator(self.n)
        self._simulator.bind(self._now)

    def reset(self, rows: Sequence[int], seeds: Mapping[int, int]) -> None:
        """Starts new episodes in `rows` (local numbers); rows in `seeds` get a new generator first."""
        for row, seed in seeds.items():
            self._generators[row] = generator_of(seed, self._first + row)
        self._restart(rows)
        self._eye.see(self._now, self._arrays["obs"], rows, self._arrays["obs"])
        self._tell("info/")

    def step(self) -> None:
        """One step of the active rows; rows that end start their next episode at once."""
        arrays, now = self._arrays, self._now
        active = arrays["active"]
        moving = np.flatnonzero(active).tolist()
        control = self._simulator.control(arrays["action"])
        for name, array in now.items():
            self._before[name][...] = array
        self._simulator.step(control, moving)
        reward = self._task.reward(self._before, now, control, self._simulator.dt)
        self._task.advance(now, moving, self._generators)
        self._clock += active
        arrays["reward"][:] = np.where(active.reshape(-1, *[1] * (reward.ndim - 1)), reward, 0.0)
        np.logical_and(self._task.terminated(now), active, out=arrays["terminated"])
        np.logical_and(self._clock >= self._horizon, active, out=arrays["truncated"])
        self._eye.see(now, arrays["final_obs"], moving, arrays["obs"])
        self._tell("final_info/")
        ended = np.flatnonzero(arrays["terminated"] | arrays["truncated"]).tolist()
        if ended:
            self._restart(ended)
            self._eye.see(now, arrays["obs"], ended, arrays["final_obs"])
            self._tell("info/")
        else:
            arrays["obs"][:] = arrays["final_obs"]
            for name in self._infos:
                arrays[f"info/{name}"][:] = arrays[f"final_info/{name}"]

    def state(self) -> dict[str, Any]:
        """Everything that the future depends on: numpy arrays with n rows each."""
        return {
            "physics": self._simulator.state(),
            "now": {name: array.copy() for name, array in self._now.items()},
            "clock": self._clock.copy(),
            "generator": np.stack([pack(generator) for generator in self._generators]),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from `state`, bit for bit."""
        self._simulator.load(state["physics"])
        for name, array in self._now.items():
            array[...] = state["now"][name]
        self._clock[:] = state["clock"]
        for generator, packed in zip(self._generators, state["generator"], strict=True):
            unpack(generator, packed)
        self._eye.see(self._now, self._arrays["obs"], range(self.n), self._arrays["obs"])
        self._tell("info/")

    def close(self) -> None:
        self._eye.close()

    def _restart(self, rows: Sequence[int]) -> None:
        for row in rows:
            start = self._task.start(self._generators[row], self._simulator.initial)
            self._simulator.restart(row, start)
            for name in self._task.own:
                self._now[name][row] = start[name]
            self._clock[row] = 0

    def _tell(self, info: str) -> None:
        for name, read in self._infos.items():
            self._arrays[info + name][...] = read(self._now)


def generator_of(seed: int, row: int) -> np.random.Generator:
    """A row's own generator."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, row])))


def pack(generator: np.random.Generator) -> np.ndarray:
    """A PCG64 generator as (6,) int64, which every file format can hold."""
    state = generator.bit_generator.state
    words = [state["state"]["state"], state["state"]["inc"]]
    halves = [half for word in words for half in (word >> 64, word & (2**64 - 1))]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], dtype=np.uint64).view(np.int64)


def unpack(generator: np.random.Generator, packed: np.ndarray) -> None:
    """Puts `packed` into a PCG64 generator."""
    words = [int(word) for word in np.ascontiguousarray(packed, dtype=np.int64).view(np.uint64)]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": words[0] << 64 | words[1], "inc": words[2] << 64 | words[3]},
        "has_uint32": words[4],
        "uinteger": words[5],
    }
