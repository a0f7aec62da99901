"""Parameterised skills: the posterior, the smoothness term, and what the term is good for."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from torch import Tensor

from envs.point import Point
from envs.point_families import PointFamilies
from skillrl.agents.dqn import DQN
from skillrl.agents.sac import SAC
from skillrl.data.collector import Collector
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.base import Learner
from skillrl.learners.mlps import MLPS
from skillrl.skill_library import load, save
from skillrl.skill_spaces import Gaussian
from skillrl.skill_spaces import Hybrid as HybridSpace
from skillrl.spec import Batch, Spec
from skillrl.training import Schedule, State, train

# ---- the tasks


def put(env: PointFamilies, **arrays: Any) -> None:
    state = env.state_dict()
    for name, value in arrays.items():
        state["now"][name][:] = value
    state["physics"] = state["now"]["xy"].copy()
    env.load_state_dict(state)


def test_what_each_family_pays_is_seen_in_the_next_step():
    env = PointFamilies(num_envs=2, step_radius=0.2, distance=2.0, observe=["xy", "family", "paid", "task"])
    env.reset(seed=0)
    put(env, xy=[1.0, 0.0], was=[1.0, 0.0], family=np.eye(2), task=[0.5, 0.5])
    action = np.array([[1.0, 0.0], [1.0, 0.0]], np.float32)
    obs, reward, terminated, _, info = env.step(action)
    assert reward == pytest.approx([0.0, 0.24]) and not terminated.any()
    assert obs[:, 2:4].tolist() == [[1, 0], [0, 1]] and obs[:, 4] == pytest.approx(reward) and (obs[:, 5:] == 0.5).all()
    _, again, *_ = env.step(0 * action)
    assert again == pytest.approx([0.0, 0.24])
    assert (info["task"] == 0.5).all() and info["family"].tolist() == [[1, 0], [0, 1]]


def test_families_and_tasks_are_drawn_in_each_episode_and_not_seen():
    env = PointFamilies(num_envs=50, horizon=1)
    obs, info = env.reset(seed=0)
    tasks, families = [], []
    for _ in range(40):
        assert obs.shape == (50, 5) and not obs[:, [0, 1, 4]].any()
        tasks.append(info["task"].copy()), families.append(info["family"].argmax(1))
        obs, _, _, truncated, info = env.step(np.zeros((50, 2), np.float32))
        assert truncated.all()
    far = np.linalg.norm(np.concatenate(tasks), axis=1)
    assert far.max() <= 1 and (far < math.sqrt(0.5)).mean() == pytest.approx(0.5, abs=0.05)  # evenly in the disc
    assert np.concatenate(families).mean() == pytest.approx(0.5, abs=0.05)


# ---- the posterior and the smoothness


def small(spec: Spec | None = None, **arguments: Any) -> MLPS:
    torch.manual_seed(0)
    spec = spec or Spec.from_env(PointFamilies(num_envs=1))
    sizes = {"hidden_dims": [8], "encoder_dims": [8], "episodes": 4, "skill_space": HybridSpace(2, 2)}
    views = {"policy_view": "xy", "family_view": "family", "paid_view": "paid"}
    return MLPS(spec, **{**sizes, **views, **arguments})


def run(learner: Learner, env: Any, seed: int = 0, **schedule: int) -> State:
    data = Replay(100_000, env.num_envs, gamma=learner.gamma, seed=seed)
    return train(env=env, learner=learner, data=data, schedule=Schedule(**schedule), seed=seed)


def test_the_posterior_is_the_product_of_its_factors_and_the_prior():
    policy = small().policy
    mean, std = policy.posterior(torch.zeros(3, 4))
    assert (mean == 0).all() and (std == 1).all()  # nothing seen: the prior
    factors = torch.tensor([[4.0, 1.0, 4.0 * 2.0, -1.0]])  # precision 4 and 1, means 2 and −1
    mean, std = policy.posterior(factors)
    assert mean.tolist() == [pytest.approx([8 / 5, -0.5])] and std.tolist() == [pytest.approx([5**-0.5, 2**-0.5])]
    grid = torch.linspace(-8, 8, 4001)
    density = (-0.5 * grid**2 - 0.5 * 4 * (grid - 2) ** 2).exp()
    assert (grid * density).sum() / density.sum() == pytest.approx(8 / 5, abs=1e-3)
    steps = [torch.randn(5, 7, n) for n in (2, 2, 2)]
    order = torch.randperm(7)
    family = torch.eye(2)[torch.ones(5, 7, dtype=torch.long)]
    whole = policy.factor(steps[0], steps[1], torch.ones(5, 7), steps[2], family).sum(1)
    shuffled = policy.factor(*[s[:, order] for s in steps[:2]], torch.ones(5, 7), steps[2][:, order], family).sum(1)
    assert torch.allclose(whole, shuffled, atol=1e-5)


def test_while_collecting_z_is_inferred_from_what_the_episode_has_shown():
    env = PointFamilies(num_envs=3, horizon=6)
    learner = small(hold=2)
    collector = Collector(env, learner.behaviour(), learner.prior(), gamma=0.99, seed=0, greedy=True)
    collector.reset(0)
    seen: list[Batch] = []
    for t in range(9):
        batch, _ = collector.tick()
        if t in (0, 6):
            seen = []
            assert (batch["z"][:, 1:] == 0).all()  # greedy: the prior's mean
        elif t % 2 == 0:
            told = sum(learner.factor(b["obs"], b["action"], b["reward"], b["next_obs"]) for b in seen)
            assert isinstance(told, Tensor)
            mean, _ = learner.policy.posterior(told)
            assert torch.allclose(batch["z"][:, 1:], mean, atol=1e-5) and mean.abs().max() > 0.01
        assert torch.equal(batch["z"][:, 0].long(), batch["obs"][:, 2:4].argmax(-1))  # the family that is asked for
        seen.append(batch)


def test_skills_are_as_far_apart_as_their_actions_at_the_same_states():
    learner = small()
    learner.policy.actor.net = torch.nn.Linear(6, 4)  # xy, family and parameter → mean and log std
    with torch.no_grad():
        learner.policy.actor.net.weight.zero_(), learner.policy.actor.net.bias.zero_()
        learner.policy.actor.net.weight[0, 4] = learner.policy.actor.net.weight[1, 0] = 1.0  # z's first axis, and x
    z = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.5, 0.0], [0.0, -1.0, 1.0]])
    distance = learner.distances(z, torch.rand(4, 2))
    led = torch.tanh(z[:, 1])  # the other axis does nothing, and where they are both do the same
    assert torch.allclose(distance, (led[:, None] - led).abs()) and not distance.requires_grad


def test_the_stress_is_that_within_a_family_and_the_prior_sets_its_scale():
    learner = small()
    distance = 2 * torch.tensor([[0, 1, 2], [1, 0, 5**0.5], [2, 5**0.5, 0]])
    one, two = torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 0])
    kappa = math.sqrt(4 / (4 * (1 + 4 + 5) / 3))
    places = kappa * torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    assert learner.stress(places, one, distance) == pytest.approx(0, abs=1e-6)  # isometric, at the prior's scale
    assert (torch.cdist(places, places)[[0, 0, 1], [1, 2, 2]] ** 2).mean() == pytest.approx(4)  # 2 dim
    apart, wanted = torch.tensor([1.0, 3.0, 10**0.5]) / kappa, distance[[0, 0, 1], [1, 2, 2]]
    mean = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
    assert learner.stress(mean, one, distance) == pytest.approx((apart - wanted).square().mean().item())
    assert learner.stress(mean, two, distance) == pytest.approx((4 * 3 / 2 - 4) ** 2)  # one pair: 2 is worth 4
    assert learner.stress(mean, one, 0 * distance) == 0  # skills that all do the same may lie anywhere
    assert learner.stress(mean, torch.arange(3), distance) == 0  # no pairs, and no division by nothing
    mean.requires_grad_()
    learner.stress(mean, one, distance).backward()
    assert mean.grad is not None and mean.grad.isfinite().all() and mean.grad.abs().sum() > 0


def test_the_smoothness_teaches_the_encoder_and_its_weight_is_all_that_differs():
    before, after = small(smoothness=0.0), small(smoothness=5.0)
    stresses = []
    for learner in (before, after):
        state = run(learner, PointFamilies(num_envs=4, horizon=6), total=1600, warmup=200, collect=8)
        assert state.grad_steps > 150 and all(value.isfinite() for value in state.metrics.values())
        stresses.append(float(state.metrics["context/stress"]))
    assert stresses[1] < stresses[0]


def test_episodes_that_end_early_and_one_family_will_do():
    env = Point(num_envs=2, horizon=7)
    learner = small(
        Spec.from_env(env), family_view=None, paid_view=None, policy_view=None, skill_space=HybridSpace(1, 3)
    )
    state = run(learner, env, total=400, warmup=60, collect=2)
    assert state.grad_steps > 100 and learner.prior().initial(3)[0].shape == (3, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"family_view": None}, r"learner\.skill_space\.n is 2, but family_view tells 1 families"),
        ({"family_view": "kind"}, "view 'kind' is not known to this env"),
        ({"skill_space": Gaussian(2)}, "learner mlps needs a skill_space of families and parameters: Hybrid"),
        ({"agent": partial(DQN)}, "agent dqn needs"),
        ({"smoothness": -1.0}, r"learner\.smoothness is -1\.0: it must be a number in \[0, inf\)"),
        ({"hold": 0}, r"learner\.hold is 0: it must be a whole number of at least 1"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(arguments: dict, message: str):
    with pytest.raises(ValueError, match=message):
        small(**arguments)


def test_skills_are_saved_with_what_tells_their_parameter(tmp_path: Path):
    policy = small().policy
    saved: Any = load(save(policy, tmp_path))
    obs, z = torch.rand(4, 2), policy.space.sample(4)
    assert torch.equal(saved.dist(obs, z).mode(), policy.dist(obs, z).mode()) and saved.space == policy.space
    given = (obs, obs, obs[:, 0], obs, obs)
    assert torch.equal(saved.factor(*given), policy.factor(*given))


# ---- learning


def pretrained(seed: int, smoothness: float, total: int) -> MLPS:
    """experiment=small/mlps, for so many env steps."""
    torch.manual_seed(seed)
    env = PointFamilies(num_envs=8)
    agent = partial(SAC, lr=3e-3, gamma=0.6, alpha=0.2, tau=0.05)
    learner = MLPS(
        Spec.from_env(env),
        skill_space=HybridSpace(2, 2),
        agent=agent,
        hidden_dims=[64, 64],
        encoder_dims=[64, 64],
        encoder_lr=1e-3,
        policy_view="xy",
        family_view="family",
        paid_view="paid",
        kl_weight=3e-4,
        smoothness=smoothness,
        episodes=64,
        hold=5,
    )
    learner.generator.manual_seed(seed)
    run(learner, env, seed, total=total, warmup=1000, collect=8)
    return learner


def inferred(learner: MLPS, tasks: int = 128) -> tuple[Tensor, np.ndarray]:
    """What an episode of each of so many new tasks tells of z, (tasks, 3), acting as in training; and the tasks."""
    env = PointFamilies(num_envs=tasks)
    collector = Collector(env, learner.behaviour(), learner.prior(), gamma=learner.gamma, seed=1)
    collector.reset(7)
    steps = [collector.tick()[0] for _ in range(19)]
    told = torch.stack([learner.factor(b["obs"], b["action"], b["reward"], b["next_obs"]) for b in steps]).sum(0)
    z = learner.space.pair(learner.family(steps[0]["obs"]).argmax(-1), learner.policy.posterior(told)[0])
    return z, env.state_dict()["now"]["task"]


@torch.no_grad()
def measured(learner: MLPS) -> dict[str, float]:
    """Of the skills for new tasks, without noise; all the mean over families.

    rank correlation: Spearman's ρ of how far apart two skills' paths are and how far apart their parameters.
    task done: 1 − mean squared miss in an episode's second half / that of staying at the start. exchanged: of the tasks
    of other episodes.
    """
    z, tasks = inferred(learner)
    path = rollout(PointFamilies(num_envs=len(z)), learner.policy, z, seed=0).coordinates  # (tasks, 21, 2)
    reached = {0: np.diff(path, axis=1) / 0.2, 1: path[:, 1:]}  # what a family asks to be w
    found: dict[str, list[float]] = {"rank correlation": [], "task done": [], "exchanged": []}
    for k in range(learner.space.n):
        own = (learner.space.family(z) == k).numpy()
        parameter, upper = z[own, 1:].numpy(), np.triu_indices(own.sum(), 1)
        apart = np.linalg.norm(parameter[:, None] - parameter[None], axis=-1)[upper]
        distance = np.linalg.norm(path[own][:, None] - path[own][None], axis=-1).mean(-1)[upper]
        ranks = [value.argsort().argsort() for value in (apart, distance)]
        found["rank correlation"].append(np.corrcoef(*ranks)[0, 1])
        for name, task in {"task done": tasks[own], "exchanged": np.roll(tasks[own], 1, axis=0)}.items():
            missed = np.square(reached[k][own, 10:] - task[:, None]).sum(-1).mean()
            found[name].append(1 - missed / np.square(task).sum(-1).mean())
    return {name: float(np.mean(values)) for name, values in found.items()}


@pytest.mark.learning("skillrl/learners/mlps.py", "skillrl/agents/sac.py", "envs/point_families.py")
def test_new_tasks_are_told_by_what_their_episodes_have_shown(seed: int, check: Check):
    found = measured(pretrained(seed, smoothness=0.0, total=14_000))
    check({"task done": (found["task done"], ">= 0.3"), "task of another episode": (found["exchanged"], "< 0")})


@pytest.mark.proof
def test_paths_are_as_far_apart_as_their_parameters_by_the_smoothness(seed: int, check: Check):
    found = {arm: measured(pretrained(seed, weight, 24_000)) for arm, weight in {"": 2.0, " without": 0.0}.items()}
    ours, twin = (found[arm]["rank correlation"] for arm in found)
    check(
        {
            "rank correlation": (ours, ">= 0.85"),  # both gates lie between the arms on 100 to 104
            "rank correlation without": (twin, "<= 0.85"),
            "what the smoothness adds": (ours - twin, ">= 0.1"),  # half of what is claimed of the mean
            **{"task done" + arm: (found[arm]["task done"], ">= 0.3") for arm in found},
        }
    )
