"""train(): collect → add → update → hooks, round after round. It names no algorithm."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from skillrl.data.collector import Collector
from skillrl.data.replay import Replay
from skillrl.data.visited import Visited, visited
from skillrl.spec import Batch, Metrics, Need

if TYPE_CHECKING:
    from skillrl.learners.base import Learner


@dataclass(frozen=True)
class Schedule:
    """A round is ``collect`` env steps over all envs, then ``updates`` updates (UTD = updates / collect).

    total: the budget in env steps; in updates when there is no env. warmup: env steps before the first update.
    overlap: learn while the physics of a round's last step goes on (in worker processes), from data without that step.
    """

    total: int
    warmup: int = 0
    collect: int = 8
    updates: int = 1
    overlap: bool = False

    def __post_init__(self) -> None:
        for name, low in {"total": 0, "warmup": 0, "collect": 1, "updates": 0}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < low:
                key = "env_steps" if name == "total" else name
                raise ValueError(f"{key} of the schedule is {value!r}: it must be a whole number of at least {low}")
        if not isinstance(self.overlap, bool):
            raise ValueError(f"overlap of the schedule is {self.overlap!r}: it must be true or false")

    def check(self, needs: Mapping[str, Need], num_envs: int, capacity: int, budget: str = "schedule") -> None:
        """That it fits the envs, and what is to be learnt from. budget: what a config calls it.

        Errors: ValueError that names ``budget.key``.
        """
        if self.total and self.collect % num_envs:
            raise ValueError(f"{budget}.collect is {self.collect}: it must be a multiple of num_envs, {num_envs}")
        fresh = [need.batch_size for need in needs.values() if need.fresh]
        if fresh and self.overlap:
            raise ValueError(
                f"{budget}.overlap is true, but this learner needs all that was collected: set it to false"
            )
        if fresh and self.updates > 1:
            raise ValueError(
                f"{budget}.updates is {self.updates}, but this learner learns once from what is fresh: set it to 1"
            )
        if fresh and capacity < 2 * max(fresh):  # an episode of one step takes two observations
            raise ValueError(
                f"{budget}.capacity is {capacity}: an update of {max(fresh)} fresh ones needs twice that many"
            )


def one_by_one(learner: "Learner", data: Replay, needs: Mapping[str, Need], count: int) -> Metrics:
    """``count`` updates, each from a sample of its own. The metrics are the last one's."""
    metrics: Metrics = {}
    for _ in range(count):
        metrics = learner.update(data.sample(needs))
    return metrics


Updating = Callable[["Learner", Replay, Mapping[str, Need], int], Metrics]
"""How a round's updates are made: ``one_by_one``, or noted once and done again."""


@dataclass
class State:
    """Where a run stands, between rounds: all that a hook can read and a checkpoint must hold."""

    learner: "Learner"
    data: Replay
    collector: Collector | None
    schedule: Schedule
    updating: Updating = one_by_one
    env_steps: int = 0
    grad_steps: int = 0
    metrics: Metrics = field(default_factory=dict)
    """Of the newest round that learned."""
    episodes: list[dict[str, float]] = field(default_factory=list)
    """That ended in the newest round."""
    visited: Visited | None = None
    """Where it has been, if the env says what to count."""

    @property
    def steps(self) -> int:
        """What the budget counts: env steps, or updates when there is no env."""
        return self.env_steps if self.collector else self.grad_steps

    @property
    def steps_before(self) -> int:
        """At the start of the newest round."""
        return self.steps - (self.schedule.collect if self.collector else 1)

    def finished(self) -> bool:
        return self.steps >= self.schedule.total

    def counters(self) -> dict[str, int]:
        return {"env_steps": self.env_steps, "grad_steps": self.grad_steps}


Hook = Callable[[State], Any]


@runtime_checkable
class Guest(Protocol):
    """A learner of a library that owns its loop: it runs in place of ``train``, over the same State and hooks."""

    luggage: Any
    """Has ``state_dict`` and ``load_state_dict``: what a checkpoint needs beyond the learner's tensors."""

    def rehearse(self, num_envs: int, env_steps: int) -> None:
        """Errors: ValueError, where it could not learn from ``num_envs`` rows within ``env_steps``."""

    def learn(self, state: State, hooks: Iterable[Hook], *, stop: Callable[[], bool]) -> None:
        """Step ``state.collector`` and learn until ``state.finished()``.

        hooks are called between two rounds of its own, with all of State brought up to date. When ``stop()`` turns true
        it ends at the newest of these moments: what came after has not been.
        """

    def export(self, folder: Path) -> None:
        """Write what was learnt in the library's own format, for its own users."""


def begin(*, env: Any, learner: "Learner", data: Replay, schedule: Schedule, seed: int = 0) -> State:
    """A run at its first round: the env reset, nothing collected. ``env=None`` learns from ``data`` alone."""
    if env is None:
        return State(learner, data, None, schedule)
    schedule.check(learner.needs(), env.num_envs, data.num_envs * data.slots)
    if schedule.overlap and hasattr(env, "step_apart"):
        env.step_apart()
    collector = Collector(
        env,
        learner.behaviour(),
        learner.prior(),
        spec=learner.spec,
        gamma=learner.gamma,
        seed=seed,
        deterministic=learner.deterministic,
        device=data.device,
    )
    collector.reset(seed)
    return State(learner, data, collector, schedule, visited=visited(env))


def train(
    *,
    env: Any,
    learner: "Learner",
    data: Replay,
    schedule: Schedule,
    hooks: Iterable[Hook] = (),
    seed: int = 0,
    state: State | None = None,
) -> State:
    """Train until the budget is spent, and return where it ended.

    Args:
        env: a vector env, or None to learn from ``data`` alone.
        hooks: called with the State after every round: logging, checkpoints, snapshots.
        seed: of the env, the skills and the policy's noise. The learner has its own generator.
        state: a State to go on from, as ``begin`` or a checkpoint gives it.
    """
    state = state or begin(env=env, learner=learner, data=data, schedule=schedule, seed=seed)
    hooks = list(hooks)
    if state.collector is not None and state.env_steps == 0:
        learner.prepare(state)
    while not state.finished():
        play(state)
        for hook in hooks:
            hook(state)
    return state


def play(state: State) -> None:
    """A round: collect and learn, one after the other, or both at once for its last step."""
    collector, schedule = state.collector, state.schedule
    if collector is None:
        return learn(state)
    for _ in range(schedule.collect // collector.num_envs - 1):
        store(state, *collector.tick())
    collector.send()
    state.env_steps += schedule.collect
    if not schedule.overlap:
        store(state, *collector.receive())
    if state.env_steps >= schedule.warmup:
        learn(state)
    if schedule.overlap:
        store(state, *collector.receive())
    state.episodes = collector.drain()


def store(state: State, step: Batch, decisions: Batch | None) -> None:
    """Into the data: infos that the env records, decisions where they are needed."""
    assert state.collector is not None
    if state.visited is not None:
        state.visited.add(step)
    recorded = {f"info/{key}" for key in state.collector.env.metadata.get("record", ())}
    decide = any(need.decisions for need in state.learner.needs().values())
    kept = Batch({key: value for key, value in step.items() if not key.startswith("info/") or key in recorded})
    state.data.add(kept, decisions if decide else None)


def learn(state: State) -> None:
    """``schedule.updates`` updates; with an env, none while there is too little data for one."""
    needs = state.learner.needs()
    if state.collector is None and not (needs and state.data.ready(needs)):
        raise ValueError(f"data holds {len(state.data)} transitions: too few for one update of this learner")
    if not needs or not state.data.ready(needs):
        return
    count = state.schedule.updates if state.collector else 1
    if count and state.grad_steps == 0:
        state.learner.look(state.data)
    if count:
        state.metrics = state.updating(state.learner, state.data, needs, count)
    state.grad_steps += count
    state.metrics = state.metrics | state.learner.maintain(state.env_steps)
