"""Teams of particles in the plane, by MPE's physics (Lowe et al. 2017, arXiv:1706.02275): batched, in this process.

A row is a team: observations are (agents, d), actions (agents, 2) and rewards (agents,). What an agent sees of others
and of landmarks is where they are from itself.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from envs.memory import Arrays
from envs.plane import Canvas
from envs.task import Area, Picture, Read, Task, positive, whole
from envs.vector import BatchedEnv

DT, DAMPING, FORCE = (
    0.1,
    0.25,
    5.0,
)  # mpe2, _mpe_utils: seconds a step, share of the speed lost in it, force of action 1
CONTACT_FORCE, CONTACT_MARGIN = 100.0, 1e-3  # mpe2; particles push each other away, softly
VIEWS = {"xy": ["xy"], "body": ["xy", "velocity"]}
RECORD: list[str] = []
SIDES_OBSERVE = ["xy", "velocity", "others", "id"]
SIDES_COVERAGE = {"key": "xy", "cell": 1.0}  # a cell is a side
SPREAD_OBSERVE = ["velocity", "xy", "landmarks", "others"]
SPREAD_COVERAGE = {"key": "xy", "cell": 0.5}

_COLOURS = [(222, 98, 38), (66, 105, 208), (164, 99, 242), (255, 138, 183), (151, 187, 245), (156, 107, 78)]
_LANDMARK = (62, 72, 86)


class ParticleSimulator:
    """n teams of particles of mass 1. An action is a force along x and along y.

    Args:
        agents: of each team.
        radius: within twice of which two of them push each other away; 0: they pass through each other.
        walls: (half the width, half the height) of a box around the origin that nobody leaves, or None.
    """

    dt = DT
    action_dim = 2

    def __init__(self, *, agents: int, radius: float = 0.0, walls: Sequence[float] | np.ndarray | None = None):
        self.agents, self._radius = agents, radius
        self._walls = None if walls is None else np.array(walls, dtype=np.float64)
        self.shapes = {"xy": (agents, 2), "velocity": (agents, 2)}
        self.initial = {name: np.zeros(shape) for name, shape in self.shapes.items()}

    def bind(self, arrays: Arrays) -> None:
        self._xy, self._velocity = arrays["xy"], arrays["velocity"]

    def control(self, action: np.ndarray) -> np.ndarray:
        return FORCE * np.clip(action.astype(np.float64), -1, 1)

    def step(self, control: np.ndarray, rows: Sequence[int]) -> None:
        """As in MPE a particle moves by the speed that it had, and the forces are those at the place it leaves."""
        xy, velocity, force = self._xy[rows], self._velocity[rows], control[rows]
        for a, b in combinations(range(self.agents), 2) if self._radius > 0 else ():
            push = repulsion(xy[:, a] - xy[:, b], 2 * self._radius)
            force[:, a] += push
            force[:, b] -= push
        xy = xy + velocity * DT
        velocity = velocity * (1 - DAMPING) + force * DT
        if self._walls is not None:
            inside = np.clip(xy, -self._walls, self._walls)
            velocity = np.where((xy != inside) & (velocity * xy > 0), 0.0, velocity)
            xy = inside
        self._xy[rows], self._velocity[rows] = xy, velocity

    def restart(self, row: int, start: Mapping[str, np.ndarray]) -> None:
        self._xy[row], self._velocity[row] = start["xy"], 0.0

    def state(self) -> np.ndarray:
        return np.concatenate([self._xy, self._velocity], -1).reshape(len(self._xy), -1)

    def load(self, state: np.ndarray) -> None:
        whole = state.reshape(len(state), self.agents, 4)
        self._xy[:], self._velocity[:] = whole[..., :2], whole[..., 2:]


def repulsion(apart: np.ndarray, touching: float) -> np.ndarray:
    """The force (n, 2) on a particle that lies ``apart`` (n, 2) from another: soft, and large below ``touching``."""
    distance = np.sqrt(np.sum(np.square(apart), axis=-1, keepdims=True))
    depth = np.logaddexp(0, -(distance - touching) / CONTACT_MARGIN) * CONTACT_MARGIN
    return CONTACT_FORCE * apart / np.maximum(distance, 1e-12) * depth


def others(xy: np.ndarray) -> np.ndarray:
    """(n, agents, 2 (agents - 1)): where each agent sees the others, in their order."""
    agents = xy.shape[1]
    offset = xy[:, None] - xy[:, :, None]  # (n, seer, seen, 2)
    kept = np.array([[seen for seen in range(agents) if seen != seer] for seer in range(agents)])
    return offset[:, np.arange(agents)[:, None], kept].reshape(len(xy), agents, -1)


class ParticleTask(Task):
    """What every team of particles can be seen by."""

    def __init__(self, *, agents: int):
        whole(2, agents=agents)
        self.agents = agents

    def parts(self) -> dict[str, Read]:
        return {
            "xy": lambda now: now["xy"],
            "velocity": lambda now: now["velocity"],
            "others": lambda now: others(now["xy"]),
            "id": lambda now: np.broadcast_to(np.eye(self.agents), (len(now["xy"]), self.agents, self.agents)),
        }

    def infos(self) -> dict[str, Read]:
        return {"xy": lambda now: now["xy"]}


class SidesTask(ParticleTask):
    """A line along x, without reward: each agent starts anywhere on it, and can be on its left or its right side."""

    def __init__(self, *, agents: int, length: float):
        super().__init__(agents=agents)
        positive(length=length)
        self.walls = np.array([length / 2, 0.0])

    def simulator(self, n: int) -> ParticleSimulator:
        return ParticleSimulator(agents=self.agents, walls=self.walls)

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {"xy": generator.uniform(-self.walls, self.walls, (self.agents, 2))}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return np.zeros((len(control), self.agents))

    def picture(self) -> Picture:
        x = float(self.walls[0])
        return TeamPicture(extent=1.2 * x, inside=(-x, x, -x / 5, x / 5))  # of some width, to be seen


class SpreadTask(ParticleTask):
    """MPE's cooperative navigation, mpe2's simple_spread: as many landmarks as agents, each to be covered by somebody.

    All are paid minus the sum, over landmarks, of the distance of the nearest agent; and each minus 1 for every other
    that it touches. ``local_ratio`` is the share of the second.
    """

    def __init__(self, *, agents: int, local_ratio: float, radius: float, cover: float):
        super().__init__(agents=agents)
        positive(radius=radius, cover=cover)
        if not 0 <= local_ratio <= 1:
            raise ValueError(f"local_ratio={local_ratio!r}: must be a number from 0 to 1")
        self.local_ratio, self.radius, self.cover = local_ratio, radius, cover
        self.own = {"landmarks": (agents, 2)}

    def simulator(self, n: int) -> ParticleSimulator:
        return ParticleSimulator(agents=self.agents, radius=self.radius)

    def parts(self) -> dict[str, Read]:
        def landmarks(now: Arrays) -> np.ndarray:
            offset = now["landmarks"][:, None] - now["xy"][:, :, None]  # (n, agents, landmarks, 2)
            return offset.reshape(*offset.shape[:2], -1)

        return {**super().parts(), "landmarks": landmarks}

    def infos(self) -> dict[str, Read]:
        return {**super().infos(), "success": lambda now: np.all(nearest(now) < self.cover, axis=-1)}

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        return {name: generator.uniform(-1, 1, (self.agents, 2)) for name in ("xy", "landmarks")}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        shared = -nearest(now).sum(-1, keepdims=True)  # (n, 1)
        own = -touched(now["xy"], 2 * self.radius)  # (n, agents)
        return (1 - self.local_ratio) * shared + self.local_ratio * own

    def picture(self) -> Picture:
        return TeamPicture(extent=1.5, radius=self.radius)


def nearest(now: Arrays) -> np.ndarray:
    """(n, landmarks): the distance of the agent that is nearest to each."""
    offset = now["xy"][:, :, None] - now["landmarks"][:, None]  # (n, agents, landmarks, 2)
    return np.sqrt(np.sum(np.square(offset), axis=-1)).min(1)


def touched(xy: np.ndarray, touching: float) -> np.ndarray:
    """(n, agents): how many others are less than ``touching`` away."""
    distance = np.sqrt(np.sum(np.square(xy[:, :, None] - xy[:, None]), axis=-1))  # (n, agents, agents)
    return (distance < touching).sum(-1) - 1.0


class TeamPicture:
    """Agents in their own colours, and landmarks, around the origin.

    Args:
        extent: half of the shorter side that is shown. radius: of an agent, or None: as large as can be seen well.
        inside: the box that they cannot leave.
    """

    def __init__(self, *, extent: float, radius: float | None = None, inside: Area | None = None):
        self._extent, self._radius, self._walls = extent, radius, () if inside is None else frame_of(inside, 2 * extent)

    def show_goal(self, radius: float, area: Area) -> None:
        raise ValueError("a team of particles has no goal to show")

    def follow_goal(self, radius: float, extent: float) -> None:
        raise ValueError("a team of particles has no goal to show")

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray:
        """now (xy, and landmarks where there are any) to (height, width, 3) uint8. Any camera looks from above."""
        canvas = Canvas(width, height, extent=self._extent, centre=(0, 0))
        for wall in self._walls:
            canvas.wall(wall)
        radius = self._radius or canvas.small
        for place in now.get("landmarks", ()):
            canvas.disc(place, canvas.small / 2, _LANDMARK)
        for agent, place in enumerate(now["xy"]):
            colour = _COLOURS[agent % len(_COLOURS)]
            canvas.disc(place, radius, (*colour, 150 if "landmarks" in now else 255), (255, 255, 255))
        return canvas.finished()

    def close(self) -> None:
        pass


def frame_of(inside: Area, reach: float) -> tuple[Area, ...]:
    """Four walls around a box, as far as ``reach``."""
    left, right, bottom, top = inside
    across = [(-reach, reach, low, high) for low, high in ((-reach, bottom), (top, reach))]
    beside = [(low, high, bottom, top) for low, high in ((-reach, left), (right, reach))]
    return (*across, *beside)


class Sides(BatchedEnv):
    """A team on a line, without reward: the smallest world in which a skill can be a matter of two.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of each agent's xy (2), velocity (2), others (2 for each), and id (one-hot).
        agents: of a team.
        length: of the line, whose middle is the origin. Below 2, the two cells of coverage are its two sides.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 20,
        dtype: str = "float32",
        observe: Sequence[str] = SIDES_OBSERVE,
        views: Mapping[str, Sequence[str]] = VIEWS,
        coverage: Mapping[str, Any] = SIDES_COVERAGE,
        record: Sequence[str] = RECORD,
        agents: int = 2,
        length: float = 1.6,
    ):
        super().__init__(
            SidesTask(agents=agents, length=length),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )


class Spread(BatchedEnv):
    """Cooperative navigation: the numbers of mpe2's simple_spread, many teams at a time.

    Args:
        num_envs: rows.
        horizon: env steps until truncation.
        observe: out of each agent's velocity (2), xy (2), landmarks and others (2 for each), and id (one-hot).
        agents: of a team; there are as many landmarks.
        local_ratio: of an agent's own penalty for collisions, against what all are paid.
        radius: of an agent.
        cover: success is when every landmark has an agent as near as that.

    The remaining arguments are those of `BatchedEnv`.
    """

    def __init__(
        self,
        *,
        num_envs: int = 8,
        horizon: int = 25,
        dtype: str = "float32",
        observe: Sequence[str] = SPREAD_OBSERVE,
        views: Mapping[str, Sequence[str]] = VIEWS,
        coverage: Mapping[str, Any] = SPREAD_COVERAGE,
        record: Sequence[str] = RECORD,
        agents: int = 3,
        local_ratio: float = 0.5,
        radius: float = 0.15,
        cover: float = 0.1,
    ):
        super().__init__(
            SpreadTask(agents=agents, local_ratio=local_ratio, radius=radius, cover=cover),
            num_envs=num_envs,
            workers=0,  # a process would cost more than the arithmetic
            horizon=horizon,
            dtype=dtype,
            observe=observe,
            views=views,
            coverage=coverage,
            record=record,
        )
