"""The loop: what a round does, and in which order."""

from typing import Any

import pytest
import torch

from envs.point import Point
from skillrl import Replay, Schedule, Spec, train
from skillrl.learners.base import Learner
from skillrl.learners.diayn import DIAYN
from skillrl.skill_spaces import Discrete
from skillrl.spec import Need
from skillrl.training import State


class Watched(Point):
    """A point env that tells whether a step is in flight."""

    flying = False

    def step_async(self, *arguments: Any) -> None:
        self.flying = True
        super().step_async(*arguments)

    def step_wait(self) -> Any:
        self.flying = False
        return super().step_wait()


class Watcher(DIAYN):
    """Keeps, for each update, whether the env was at work and how much data there was."""

    def watch(self, env: Watched, data: Replay) -> None:
        self.watched: list[tuple[bool, int]] = []
        self.note = lambda: self.watched.append((env.flying, len(data)))

    def update(self, batches: Any) -> Any:
        self.note()
        return super().update(batches)


def run(overlap: bool, **schedule: int) -> tuple[State, list[tuple[bool, int]]]:
    torch.manual_seed(0)
    env = Watched(num_envs=4)
    learner = Watcher(Spec.from_env(env), skill_space=Discrete(4), hidden_dims=[8], batch_size=8)
    learner.generator.manual_seed(1)
    data = Replay(1000, 4, gamma=learner.gamma, seed=2)
    learner.watch(env, data)
    return train(env=env, learner=learner, data=data, schedule=Schedule(**schedule, overlap=overlap)), learner.watched


def test_it_learns_from_all_that_was_collected():
    _, seen = run(overlap=False, total=32, collect=8, warmup=16)
    assert seen == [(False, 16), (False, 24), (False, 32)]


def test_with_overlap_it_learns_while_the_envs_step_without_that_step():
    state, seen = run(overlap=True, total=32, collect=8, warmup=16)
    assert seen == [(True, 12), (True, 20), (True, 28)]
    assert len(state.data) == 32 and state.env_steps == 32


def test_overlap_changes_nothing_that_is_collected_as_long_as_nothing_is_learned():
    one, other = (run(overlap, total=400, collect=8, updates=0)[0] for overlap in (False, True))
    need = {"batch": Need("transitions", 64)}
    one_batch, other_batch = one.data.sample(need)["batch"], other.data.sample(need)["batch"]
    for name, value in one_batch.items():
        assert torch.equal(value, other_batch[name]), name


def test_a_round_of_one_step_overlaps_from_the_first():
    _, seen = run(overlap=True, total=12, collect=4)
    assert seen == [(True, 4), (True, 8)]  # in the first round there was nothing to learn from


class Fresh(Learner):
    source: Any = "fresh"

    def needs(self) -> dict[str, Need]:
        return {"batch": Need(self.source, 100)}

    def behaviour(self) -> Any:
        return DIAYN(self.spec, skill_space=Discrete(4), hidden_dims=[8]).policy


class FreshChoices(Fresh):
    source = "fresh_decisions"


@pytest.mark.parametrize("kind", [Fresh, FreshChoices])
@pytest.mark.parametrize(
    ("schedule", "capacity", "message"),
    [
        ({"overlap": True}, 1000, "schedule.overlap is true, but this learner needs all that was collected"),
        ({"updates": 2}, 1000, "schedule.updates is 2, but this learner learns once from what is fresh"),
        ({}, 196, "schedule.capacity is 196: an update of 100 fresh ones needs twice that many"),
    ],
)
def test_a_schedule_that_cannot_serve_what_is_fresh_is_refused(kind: Any, schedule: Any, capacity: int, message: str):
    env = Point(num_envs=4)
    arguments = {"env": env, "learner": kind(Spec.from_env(env)), "data": Replay(capacity, 4)}
    with pytest.raises(ValueError, match=f"^{message}"):
        train(**arguments, schedule=Schedule(16, collect=4, **schedule))


def test_a_round_is_of_whole_ticks():
    env = Point(num_envs=4)
    with pytest.raises(ValueError, match=r"^schedule\.collect is 6: it must be a multiple of num_envs, 4$"):
        train(env=env, learner=Fresh(Spec.from_env(env)), data=Replay(1000, 4), schedule=Schedule(16, collect=6))


def test_overlap_is_true_or_false():
    with pytest.raises(ValueError, match="overlap of the schedule is 'yes': it must be true or false"):
        Schedule(16, overlap="yes")  # type: ignore[arg-type]
