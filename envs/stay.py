"""The task of staying in a goal, for every env whose infos have `xy`: each step inside its disc pays; nothing ends."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from envs.goal import inside
from envs.memory import Arrays
from envs.task import Picture, Read, Simulator, Task, positive, whole


class StayTask(Task):
    """Another task's body, start and parts; a step that ends inside the goal's disc gives 1, any other 0.

    The goal is drawn uniformly from [-goal_range, goal_range] along each axis at each start, from the row's generator.

    Args:
        body: whose falling ends nothing.
        goal_range: half the side of the square that goals are drawn from.
        radius: of the disc.
        axes: 2, or 1 for a body that moves along x alone.
        every: env steps after which the goal is drawn again; 0 is never.
        around: what the next goals' square lies around: "goal" is the goal before, "body" where the body is.
        extent: half the width of a picture, in metres.
    """

    own = MappingProxyType({"goal": (2,), "inside": (), "age": ()})  # age: steps that the goal has been there

    def __init__(
        self,
        body: Task,
        *,
        goal_range: float,
        radius: float,
        extent: float,
        axes: int = 2,
        every: int = 0,
        around: str = "goal",
    ):
        positive(goal_range=goal_range, radius=radius)
        whole(0, every=every)
        if around not in ("goal", "body"):
            raise ValueError(f"around={around!r}: must be goal or body")
        self.body, self.goal_range, self.radius, self.extent = body, goal_range, radius, extent
        self.axes, self.every, self.around = axes, every, around
        self.facts = {"goal_radius": float(radius)}

    def simulator(self, n: int) -> Simulator:
        return self.body.simulator(n)

    def parts(self) -> dict[str, Read]:
        goal: dict[str, Read] = {"goal": lambda now: now["goal"][:, : self.axes]}
        if self.every:
            goal["age"] = lambda now: now["age"][:, None] / self.every
        return {**self.body.parts(), **goal}

    def infos(self) -> dict[str, Read]:
        return {**self.body.infos(), "success": lambda now: now["inside"] > 0}  # of the step that was last

    def start(self, generator: np.random.Generator, initial: Mapping[str, np.ndarray]) -> Arrays:
        start = self.body.start(generator, initial)
        return {**start, "goal": self._draw(generator), "inside": np.zeros(()), "age": np.zeros(())}

    def reward(self, before: Arrays, now: Arrays, control: np.ndarray, dt: float) -> np.ndarray:
        return self._inside(now).astype(np.float64)

    def advance(self, now: Arrays, rows: Sequence[int], generators: Sequence[np.random.Generator]) -> None:
        now["inside"][rows] = self._inside(now)[rows]
        now["age"][rows] += 1
        for row in rows if self.every else ():
            if now["age"][row] >= self.every:
                centre = now["goal"][row] if self.around == "goal" else self.body.infos()["xy"](now)[row]
                now["goal"][row] = centre + self._draw(generators[row])
                now["age"][row] = 0

    def picture(self) -> Picture:
        picture = self.body.picture()
        picture.follow_goal(self.radius, self.extent)
        return picture

    def _draw(self, generator: np.random.Generator) -> np.ndarray:
        offset = np.zeros(2)
        offset[: self.axes] = generator.uniform(-self.goal_range, self.goal_range, size=self.axes)
        return offset

    def _inside(self, now: Arrays) -> np.ndarray:
        return inside(self.body.infos()["xy"](now), now["goal"], self.radius)
