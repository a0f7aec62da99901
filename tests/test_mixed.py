"""Skills beside actions: what is done and for how long, by hand; a goal that skills alone do not come to."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from test_uses import main
from torch import Tensor

from envs.point_maze import PointMaze
from envs.rooms import MOVES, PLANS
from envs.rooms_goal import RoomsGoal
from skillrl.agents.dqn import DQN
from skillrl.composition.mixed import Mixed
from skillrl.controllers.mixed import Mixed as Controller
from skillrl.controllers.rl import RL
from skillrl.data.replay import Replay
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Need, Spec
from skillrl.training import Schedule, train

torch.set_num_threads(1)
LARGE = PLANS["large"]
DOORS = torch.tensor([[5.0, -2.0], [1.0, -5.0], [8.0, -6.0], [5.0, -9.0]])
ACTIONS = 5


def rooms(n: int = 16, horizon: int = 60) -> RoomsGoal:
    """From the upper left corner to a state amid the lower right room: 18 steps, and on no way between doors."""
    env = {"goals": [[9, -9]], "observe": ["xy", "cell"], "layout": "large"}
    return RoomsGoal(num_envs=n, horizon=horizon, **env)


SPEC = Spec.from_env(rooms(1))
XY = SPEC.obs.select("xy")


def ways() -> Tensor:
    """The action that leads nearer to each door, (door, state)."""
    states = LARGE.states
    following = np.stack([LARGE.index(LARGE.moved(states, np.broadcast_to(move, states.shape))) for move in MOVES])
    far = np.full((len(DOORS), len(states)), np.inf)
    far[np.arange(len(DOORS)), LARGE.index(DOORS.numpy())] = 0
    for _ in states:
        far = np.minimum(far, 1 + far[:, following].min(1))
    return torch.as_tensor(far[:, following].argmin(1))


class ToDoors(SkillPolicy):
    """A skill for each door, which stays there."""

    def __init__(self) -> None:
        super().__init__(obs=XY, action=SPEC.action, space=Discrete(len(DOORS)))
        self.register_buffer("ways", ways())

    def act(self, obs: Tensor, z: Tensor, carry: Any = (), **_: Any) -> Any:
        return self.ways[z, torch.as_tensor(LARGE.index(obs.numpy()))], {}


class Stopping(ToDoors):
    """Ends for sure in its second step."""

    def stop(self, obs: Tensor, z: Tensor, skill_step: Tensor) -> Tensor:
        return (skill_step >= 2).float()


# ---- exact


def test_what_is_below_the_number_of_skills_is_a_skill_and_above_an_action():
    mixed = Mixed(ToDoors())
    assert mixed.space == Discrete(4 + ACTIONS)
    obs, z = torch.zeros(9, 2), torch.arange(9)
    action, extras = mixed.act(obs, z)
    assert action[4:].tolist() == [0, 1, 2, 3, 4] and extras == {}
    assert torch.equal(action[:4], ToDoors().act(obs[:4], z[:4])[0])
    assert mixed.stop(obs, z, torch.ones(9)).tolist() == [0] * 4 + [1] * 5
    assert Mixed(Stopping()).stop(obs, z, torch.tensor([1, 2] * 4 + [1])).tolist() == [0, 1, 0, 1] + [1] * 5


def test_of_a_box_the_ends_of_each_axis_are_actions():
    spec = Spec.from_env(PointMaze(num_envs=1))
    skills = ActorPolicy(obs=spec.obs, action=spec.action, space=Discrete(2), hidden_dims=[4])
    mixed, obs = Mixed(skills), torch.randn(6, 4)
    action, _ = mixed.act(obs, torch.arange(6), deterministic=True)
    assert action[2:].tolist() == [[1, 0], [0, 1], [-1, 0], [0, -1]]
    by_skill = skills.dist(obs, torch.arange(6).clamp(max=1)).mode()  # a batch of two may round otherwise
    assert torch.equal(action[:2], by_skill[:2])


@pytest.mark.parametrize("skills", [ToDoors(), Stopping()])
def test_a_skill_is_held_an_action_lasts_a_step_and_both_are_backed_up_by_it(skills: ToDoors):
    controller = Controller(SPEC, skills, hold=7, hidden_dims=[8])
    env = rooms(4)
    data = Replay(4000, 4, gamma=controller.gamma)
    train(env=env, learner=controller, data=data, schedule=Schedule(2000, collect=4, updates=0))
    told = data.sample_one(Need("decisions", 4000))
    action = told["z"] >= 4
    assert action.any() and not action.all() and torch.equal(told["z"], told["choice"])
    assert (told["duration"][action] == 1).all()
    ended = told["terminated"] | told["truncated"]
    length = 2 if isinstance(skills, Stopping) else 7
    assert (told["duration"][~action & ~ended] == length).all()
    assert torch.allclose(told["discount"], controller.gamma ** told["duration"] * (1 - told["terminated"].float()))


def test_what_cannot_stand_beside_actions_is_refused_in_a_line():
    with pytest.raises(ValueError, match="needs skills that can be counted"):
        Mixed(ActorPolicy(obs=SPEC.obs, action=SPEC.action, space=Box(2), hidden_dims=[4]))


def test_a_run_goes_on_exactly(tmp_path: Path):
    small = ["experiment=small/mixed", "pretrain.env_steps=160", "evaluate=false", "downstream.warmup=160"]
    for run, steps in (("long", 1600), ("short", 800)):
        assert main(*small, f"downstream.env_steps={steps}", f"hydra.run.dir={tmp_path / run}") == 0
    assert main(f"resume={tmp_path / 'short'}", "downstream.env_steps=1600") == 0
    long, short = (tmp_path / run / "controller" / "model.safetensors" for run in ("long", "short"))
    assert long.read_bytes() == short.read_bytes()


# ---- learning


ARMS = {"both": Controller, "skills": RL}
AGENT = partial(DQN, lr=5e-4, target_every=200, epsilon_updates=2500, double_q=True)


def success(arm: str, seed: int) -> float:
    """Of the last third of the episodes while learning, in which chance still has a part."""
    torch.manual_seed(seed)
    controller = ARMS[arm](SPEC, ToDoors(), agent=AGENT, hidden_dims=[64, 64], batch_size=64, hold=10)
    controller.generator.manual_seed(seed)
    data, told = Replay(200_000, 16, gamma=controller.gamma, seed=seed), list[float]()
    train(
        env=rooms(),
        learner=controller,
        data=data,
        schedule=Schedule(64_000, warmup=1600, collect=16, updates=1),
        hooks=[lambda state: told.extend(episode["episode/success"] for episode in state.episodes)],
        seed=seed,
    )
    return float(np.mean(told[-len(told) // 3 :]))


@pytest.mark.learning("skillrl/composition/mixed.py", "skillrl/controllers/", "skillrl/data/collector.py")
@pytest.mark.parametrize("arm", list(ARMS))
def test_mixed_actions(arm: str, seed: int, check: Check):
    """The goal lies off the doors, where skills alone never come."""
    check({"success": (success(arm, seed), ">= 0.1" if arm == "both" else "<= 0.02")})
