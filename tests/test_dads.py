"""DADS: its dynamics and reward against cases made by hand, and whether skills say where they lead, beside a twin's."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from checks import Check
from torch import Generator, Tensor

from envs.goal import PointGoal
from envs.point import Point
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.controllers.planner import Planner
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.dads import DADS, EPS
from skillrl.skill_library import load, save
from skillrl.skill_policy import PredictsNext
from skillrl.skill_spaces import Box, Discrete, Sphere
from skillrl.spec import Batch, Field, Need, Spec
from skillrl.training import Schedule, train

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)
NAMED = Spec(Field((4,), names={"xy": (0, 2), "rest": (2, 4)}, views={"xy": ("xy",)}), Field((2,)), horizon=50)


def drawn(learner: DADS, rows: int, seed: int = 0) -> Batch:
    generator = Generator().manual_seed(seed)
    obs = torch.randn(rows, learner.spec.obs.dim, generator=generator)
    z = learner.skill_space.sample(rows, generator)
    action, extras = learner.policy.act(obs[..., learner.columns or slice(None)], z, generator=generator)
    return Batch(
        obs=obs,
        next_obs=obs + 0.3 * torch.randn(obs.shape, generator=generator) + 1,
        z=z,
        action=action,
        reward=torch.zeros(rows),
        terminated=torch.zeros(rows, dtype=torch.bool),
        discount=torch.full((rows,), 0.99),
        **extras,
    )


def perfect(space: Box | Sphere) -> tuple[DADS, float]:
    """q knows that the step is z, made to have a unit deviation: every component's mean is that."""
    learner = DADS(SPEC, skill_space=space, hidden_dims=())  # (z, s) → log-weights and means, linear
    deviation = float(space.sample(200_000, Generator().manual_seed(1)).std())
    layer = learner.policy.dynamics.net[0]
    layer.weight.data.zero_()
    layer.bias.data.zero_()
    layer.weight.data[4:, :2] = torch.eye(2).repeat(4, 1) / deviation
    learner.policy.dynamics.step_norm.running_var.fill_(deviation**2 - EPS)
    return learner, deviation


@pytest.mark.parametrize(("space", "nats"), [(Box(2), 1.186), (Sphere(2), 1.156)])
def test_a_perfect_model_earns_what_unit_variance_allows(space: Box | Sphere, nats: float):
    """Of steps that are z itself, evenly over a square or a circle: found by other code, in numpy."""
    learner, _ = perfect(space)
    learner.generator.manual_seed(0)
    z = space.sample(20_000, Generator().manual_seed(2))
    obs = torch.zeros(20_000, 2)
    reward = learner.intrinsic_reward(Batch(obs=obs, next_obs=obs + z, z=z))
    assert reward.mean().item() == pytest.approx(nats, abs=0.02)
    assert 1.12 <= reward.mean() <= 1.20 and reward.max() <= math.log(101)
    other = learner.intrinsic_reward(Batch(obs=obs, next_obs=obs + z.roll(1, 0), z=z))
    assert other.mean() < 0, "a step that another skill brought about"


def test_the_reward_by_hand():
    """Two skills of which each row's other samples are known: the generator is wound back."""
    learner, deviation = perfect(Box(2))
    learner.prior_samples = 3
    obs, z = torch.tensor([[5.0, -2.0]] * 4), Box(2).sample(4, Generator().manual_seed(3))
    step = z + 0.2
    learner.generator.manual_seed(7)
    reward = learner.intrinsic_reward(Batch(obs=obs, next_obs=obs + step, z=z))
    others = Box(2).sample(12, Generator().manual_seed(7)).view(4, 3, 2)

    def log_q(skill: Tensor) -> Tensor:  # but for the constant, which cancels
        return -0.5 * ((step.view(4, *[1] * (skill.dim() - 2), 2) - skill) / deviation).square().sum(-1)

    apart = log_q(others) - log_q(z).unsqueeze(1)
    wanted = math.log(4) - (1 + apart.exp().sum(1)).log()
    torch.testing.assert_close(reward, wanted, rtol=1e-4, atol=1e-4)


def test_differences_are_clipped_at_fifty():
    """A step that is 100 deviations off the own skill's, and where all others say it should be."""
    learner, deviation = perfect(Box(2))
    learner.skill_space = Box(2, -1e-6, 1e-6)
    obs, z = torch.zeros(1, 2), torch.tensor([[100.0 * deviation, 0.0]])
    reward = learner.intrinsic_reward(Batch(obs=obs, next_obs=obs, z=z))
    assert reward.item() == pytest.approx(math.log(101) - math.log1p(100 * math.exp(50)), abs=1e-3)
    reward = learner.intrinsic_reward(Batch(obs=obs, next_obs=obs + z, z=z))
    assert reward.item() == pytest.approx(math.log(101), abs=1e-5), "the most there can be"


def test_the_mixture_is_the_one_of_torch():
    learner = DADS(SPEC, hidden_dims=(8,))
    dynamics, batch = learner.policy.dynamics, drawn(learner, 16)
    weights, means = dynamics.mixture(batch["obs"], batch["z"])
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(logits=weights),
        torch.distributions.Independent(torch.distributions.Normal(means, 1.0), 1),
    )
    step = (batch["next_obs"] - batch["obs"]) / (1 + EPS) ** 0.5
    wanted = mixture.log_prob(step)
    torch.testing.assert_close(dynamics.log_prob(batch["obs"], batch["z"], batch["next_obs"]), wanted)


def statistics(learner: DADS) -> Tensor:
    dynamics = learner.policy.dynamics
    norms = [norm for norm in (dynamics.input_norm, dynamics.step_norm) if norm is not None]
    return torch.cat([torch.cat([norm.running_mean, norm.running_var]) for norm in norms]).clone()


@pytest.mark.parametrize("mode", [True, False])
def test_statistics_of_a_batch_are_for_the_dynamics_update_alone(mode: bool):
    """Whatever mode the module is in: a row's reward must not depend on its neighbours, nor move the statistics."""
    learner = DADS(SPEC, hidden_dims=(8,), prior_samples=5).train(mode)
    batch, fresh = drawn(learner, 64), statistics(learner)
    metrics = learner.fit(batch)
    moved = statistics(learner)
    step = batch["next_obs"] - batch["obs"]
    assert (moved != fresh).all()
    torch.testing.assert_close(moved[4:6], 0.01 * step.mean(0))
    torch.testing.assert_close(moved[6:8], 0.99 + 0.01 * step.var(0))
    again = learner.policy.dynamics.log_prob(batch["obs"], batch["z"], batch["next_obs"], fitting=True).mean()
    assert metrics["dynamics/log_q"] != again and not torch.equal(statistics(learner), moved)

    before = statistics(learner)
    learner.generator.manual_seed(0)
    whole = learner.intrinsic_reward(batch)
    learner.generator.manual_seed(0)
    first = learner.intrinsic_reward(Batch({key: value[:1] for key, value in batch.items()}))
    torch.testing.assert_close(first, whole[:1])
    learner.policy.predict(batch["obs"], batch["z"])
    learner.teach(batch)
    assert torch.equal(statistics(learner), before)


def test_fitting_sees_the_batch_normalised():
    """At the first step the running statistics are 0 and 1: the loss of the batch's own is another."""
    learner = DADS(SPEC, hidden_dims=(8,))
    batch = drawn(learner, 64)
    dynamics = learner.policy.dynamics
    scaled = Batch({**batch, "next_obs": batch["obs"] + 1000 * (batch["next_obs"] - batch["obs"])})
    one = dynamics.log_prob(batch["obs"], batch["z"], batch["next_obs"], fitting=True)
    other = dynamics.log_prob(scaled["obs"], scaled["z"], scaled["next_obs"], fitting=True)
    torch.testing.assert_close(one, other, rtol=0.02, atol=0.05)


def test_prediction_is_the_most_likely_components_mean_in_the_units_of_the_observation():
    learner = DADS(NAMED, hidden_dims=(), dynamics_view="xy", components=2)
    dynamics = learner.policy.dynamics
    layer = dynamics.net[0]
    layer.weight.data.zero_()
    layer.bias.data = torch.tensor([0.0, 1.0, 9.0, 9.0, 2.0, -1.0])  # log-weights, then means: the second is likelier
    dynamics.step_norm.running_mean.copy_(torch.tensor([0.5, 0.0]))
    dynamics.step_norm.running_var.copy_(torch.tensor([4.0, 0.25]) - EPS)
    assert isinstance(learner.policy, PredictsNext) and learner.policy.predict_obs.shape == (2,)
    told = learner.policy.predict(torch.tensor([[10.0, 20.0]]), torch.zeros(1, 2))
    assert told.tolist() == [pytest.approx([10 + 2 * 2.0 + 0.5, 20 - 0.5])]


def test_prediction_survives_saving(tmp_path):
    learner = DADS(NAMED, hidden_dims=(8,), dynamics_view="xy", blind_view="xy")
    for seed in range(3):
        learner.fit(drawn(learner, 32, seed))
    save(learner.policy, tmp_path)
    obs, z = torch.randn(5, 2), Box(2).sample(5)
    assert torch.equal(load(tmp_path).predict(obs, z), learner.policy.predict(obs, z))
    there = load(tmp_path).train()
    assert torch.equal(there.predict(obs, z), learner.policy.predict(obs, z))


def test_blind_dynamics_do_not_look_and_views_are_each_their_own():
    learner = DADS(NAMED, hidden_dims=(8,), policy_view="rest", dynamics_view=None, blind_view="xy")
    batch = drawn(learner, 8)
    moved = torch.zeros(8, 4)
    moved[:, :2] = 3.0
    dynamics = learner.policy.dynamics
    here = dynamics.log_prob(batch["obs"], batch["z"], batch["next_obs"])
    torch.testing.assert_close(dynamics.log_prob(batch["obs"] + moved, batch["z"], batch["next_obs"] + moved), here)
    assert not torch.allclose(dynamics.log_prob(batch["obs"] + 3, batch["z"], batch["next_obs"] + 3), here)
    assert learner.policy.obs.names == {"rest": (0, 2)} and learner.relabel(batch)["obs"].shape == (8, 2)
    with pytest.raises(ValueError, match="'rest' is wanted"):
        DADS(NAMED, hidden_dims=(8,), dynamics_view="xy", blind_view="rest")


def test_importance_weighs_by_what_the_policy_would_do_today():
    learner = DADS(SPEC, hidden_dims=(8,))
    batch = drawn(learner, 32)
    assert torch.allclose(learner.importance(batch), torch.ones(32), atol=1e-6), "the policy has not moved"
    batch["log_prob"] = batch["log_prob"] + torch.linspace(-5, 5, 32)
    wanted = torch.exp(-torch.linspace(-5, 5, 32)).clamp(0.1, 10)
    torch.testing.assert_close(learner.importance(batch), wanted, rtol=1e-4, atol=1e-5)
    learner.importance_clip = None
    del batch["log_prob"]
    assert torch.equal(learner.importance(batch), torch.ones(32))


def test_dynamics_and_agent_have_their_own_numbers_of_steps():
    learner = DADS(SPEC, hidden_dims=(8,), batch_size=16, dynamics_updates=3, agent_updates=2, prior_samples=4)
    assert learner.needs() == {
        "dynamics": Need("transitions", 16, repeats=3),
        "batch": Need("transitions", 16, repeats=2),
    }
    steps = []
    learner.dynamics_optimizer.step = lambda *_: steps.append("dynamics")
    learner.agent.actor_optimizer.step = lambda *_: steps.append("agent")
    some = [drawn(learner, 16, seed) for seed in range(5)]
    learner.update({"dynamics": some[:3], "batch": some[3:]})
    assert steps == ["dynamics"] * 3 + ["agent"] * 2


def test_an_on_policy_agent_learns_once_from_what_is_fresh():
    with pytest.raises(ValueError, match=r"^learner\.agent_updates is 64"):
        DADS(SPEC, agent=PPO, hidden_dims=(8,))
    learner = DADS(SPEC, agent=PPO, hidden_dims=(8,), agent_updates=1)
    batch = drawn(learner, 32)
    assert torch.allclose(learner.importance(batch), torch.ones(32), atol=1e-6), "of actions before they were clipped"


def test_any_space_will_do():
    learner = DADS(SPEC, skill_space=Discrete(3), hidden_dims=(8,))
    assert learner.intrinsic_reward(drawn(learner, 6)).shape == (6,)


class Permuted(DADS):
    """Twin: z is shuffled within each batch, so that it says nothing of the step. Transitions are weighed as ever, by
    the z that acted: or the weights would pick out those which happen to fit."""

    def update(self, batches):
        return super().update({name: [self.shuffled(batch) for batch in many] for name, many in batches.items()})

    def shuffled(self, batch):
        order = torch.randperm(len(batch["z"]), generator=self.generator)
        return batch.replace(z=batch["z"][order], acted=batch["z"])

    def importance(self, batch):
        return super().importance(batch.replace(z=batch["acted"]))


def canonical(a: np.ndarray, b: np.ndarray) -> float:
    """The first canonical correlation of (R, D) and (R, E)."""
    (qa, _), (qb, _) = (np.linalg.qr(value - value.mean(0)) for value in (a, b))
    return float(np.linalg.svd(qa.T @ qb, compute_uv=False)[0])


def test_a_canonical_correlation_by_hand():
    x = np.random.default_rng(0).normal(size=(5000, 2))
    noise = np.random.default_rng(1).normal(size=(5000, 2))
    assert canonical(x, x @ np.array([[2.0, 1.0], [0.0, 3.0]]) + 7) == pytest.approx(1)
    assert canonical(x, noise) < 0.1
    assert canonical(x, x + noise) == pytest.approx(0.5**0.5, abs=0.03)


SMALL = {
    "agent": partial(SAC, lr=1e-3, alpha=0.2),
    "hidden_dims": (64, 64),
    "dynamics_view": "xy",
    "blind_view": "xy",
    "dynamics_lr": 1e-3,
    "prior_samples": 50,
    "dynamics_updates": 4,
    "agent_updates": 8,
    "batch_size": 128,
}


@pytest.mark.learning(
    "skillrl/learners/dads.py", "skillrl/learners/base.py", "skillrl/agents/sac.py", "skillrl/controllers/planner.py"
)
@pytest.mark.parametrize("kind", [DADS, Permuted])
def test_dads_on_the_point(kind: type[DADS], seed: int, check: Check):
    """Skills say where they lead, and the twin's do not: by 256 episodes as they are collected, noise and all, since of
    a policy that goes nowhere it is noise. A perfect model earns 1.19 at most; a step is 0.2 long."""
    torch.manual_seed(seed)
    env = Point(num_envs=8)
    learner = kind(Spec.from_env(env), **SMALL)  # type: ignore[arg-type]
    learner.generator.manual_seed(seed)
    data = Replay(10_000, 8, gamma=learner.gamma, seed=seed)
    train(env=env, learner=learner, data=data, schedule=Schedule(14_000, warmup=1000, collect=32), seed=seed)
    z = Box(2).sample(256, Generator().manual_seed(0))
    told = rollout(Point(num_envs=256), learner.policy, z, seed=0, deterministic=False)
    obs = torch.as_tensor(told.obs)  # (256, 51, 2)
    steps = Batch(obs=obs[:, :-1].flatten(0, 1), next_obs=obs[:, 1:].flatten(0, 1), z=z.repeat_interleave(50, 0))
    with torch.no_grad():
        reward = float(learner.intrinsic_reward(steps).mean())
        off = learner.policy.predict(steps["obs"], steps["z"]) - steps["next_obs"]
    real, far = kind is DADS, float(off.norm(dim=-1).mean())
    reached, left = planned(learner)
    _, by_chance = planned(learner, candidates=1, refinements=1)
    check(
        {
            "reward, in nats": (reward, ">= 0.8" if real else "< 0.8"),
            "reward, no more than can be": (reward, "<= 1.3"),
            "canonical correlation of z and the end": (
                canonical(z.numpy(), told.obs[:, -1]),
                ">= 0.9" if real else "< 0.9",
            ),
            "length of the prediction's error": (far, "< 0.1" if real else "> 0.1"),
            "goals reached by the planner": (reached, ">= 0.9" if real else "< 0.9"),
            "distance left by the planner": (left, "<= 0.3" if real else "> 0.3"),
            "distance left by a random plan": (by_chance, ">= 0.7"),
        }
    )


def planned(learner: DADS, **search: int) -> tuple[float, float]:
    """40 goals, 4 away in eight directions: the share to which the planner comes within 0.5, where an episode ends, and
    the mean distance to them at the end, as a share of that at the start."""
    env = PointGoal(num_envs=40, radius=0.5)
    spec = Spec.from_env(env)
    planner = Planner(spec, learner.policy, hold=5, **search)
    went = rollout(env, planner.behaviour(), planner.prior(), seed=0)
    goal = went.obs[:, :1, slice(*spec.obs.names["goal"])]
    away = np.linalg.norm(went.coordinates - goal, axis=-1)  # (40, T + 1)
    return float(went.returns.mean()), float((away[:, -1] / away[:, 0]).mean())
