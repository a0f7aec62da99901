"""DUSDi: its rewards, discriminators and critic against cases made by hand, and what factors tell, beside a twin's."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from torch import Generator, Tensor, nn

from envs.point import COVERAGE, RECORD, PointSimulator, PointTask
from envs.vector import BatchedEnv
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.evaluation.metrics import cell_table, recognise
from skillrl.evaluation.rollouts import Trajectories, rollout
from skillrl.learners.dusdi import DUSDi, columns_of
from skillrl.networks import Actor, Critic, FactoredCritic
from skillrl.skill_library import load, save
from skillrl.skill_policy import InfersSkills
from skillrl.skill_spaces import Discrete, MultiDiscrete
from skillrl.spec import Batch, Field, Spec
from skillrl.training import Schedule, train

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)
NAMED = Spec(
    Field((4,), names={"arm": (0, 1), "xy": (1, 3), "leg": (3, 4)}, views={"body": ("arm", "leg")}), Field((2,))
)
SPACE = MultiDiscrete(n=3, factors=2)


def small(spec: Spec = SPEC, **arguments: object) -> DUSDi:
    return DUSDi(spec, **{"hidden_dims": (8,), "skill_space": SPACE, "batch_size": 16, **arguments})  # type: ignore[arg-type]


def batch(learner: DUSDi, rows: int = 32, skill_step: int | None = 20) -> Batch:
    generator = Generator().manual_seed(0)
    obs, next_obs = torch.randn(2, rows, learner.spec.obs.dim, generator=generator)
    z = SPACE.sample(rows, generator)
    step = torch.arange(rows) % 20 if skill_step is None else torch.full((rows,), skill_step)
    action = torch.rand(rows, 2, generator=generator) * 2 - 1
    paid = {"reward": torch.zeros(rows), "discount": torch.full((rows,), 0.9), "skill_step": step}
    return Batch(obs=obs, next_obs=next_obs, z=z, action=action, **paid)


def made_to_say(net: nn.Module, logits: list[float]) -> None:
    """The same log-weights, whatever it sees."""
    for parameter in net.parameters():
        parameter.data.zero_()
    net[-1].bias.data = torch.tensor(logits)  # type: ignore[index]


def test_the_reward_has_a_channel_a_factor():
    learner = small()
    one, other = learner.policy.discriminators.nets
    made_to_say(one, [0.0, math.log(2), 0.0])  # 1/4, 1/2, 1/4
    made_to_say(other, [0.0, 0.0, math.log(8)])  # 1/10, 1/10, 8/10
    told = Batch(next_obs=torch.zeros(2, 2), z=torch.tensor([[1, 2], [0, 1]]), skill_step=torch.tensor([10, 30]))
    wanted = [[math.log(3 / 2), math.log(24 / 10)], [math.log(3 / 4), math.log(3 / 10)]]
    assert learner.intrinsic_reward(told).tolist() == [pytest.approx(row) for row in wanted]


def test_what_the_rest_of_the_state_tells_is_paid_for():
    learner = small(anti_coef=0.5)
    for net in learner.policy.discriminators.nets:
        made_to_say(net, [0.0, 0.0, 0.0])
    made_to_say(learner.anti.nets[0], [0.0, math.log(2), 0.0])
    made_to_say(learner.anti.nets[1], [0.0, 0.0, 0.0])
    told = Batch(next_obs=torch.zeros(1, 2), z=torch.tensor([[1, 2]]), skill_step=torch.tensor([10]))
    assert learner.intrinsic_reward(told).tolist() == [
        [pytest.approx(-0.5 * math.log(3 / 2)), pytest.approx(0, abs=1e-6)]
    ]


def test_each_discriminator_sees_its_own_factor_and_its_opposite_all_others():
    learner = small(NAMED, skill_space=MultiDiscrete(3, 3), factors=("arm", "xy", "leg"), anti_coef=0.1)
    obs = torch.randn(1, 4)
    for column, factor in enumerate([0, 1, 1, 2]):
        moved = obs.clone()
        moved[0, column] += 1
        changed = (learner.policy.discriminators(moved) != learner.policy.discriminators(obs)).any(-1)[0]
        assert changed.tolist() == [i == factor for i in range(3)]
        changed = (learner.anti(moved) != learner.anti(obs)).any(-1)[0]
        assert changed.tolist() == [i != factor for i in range(3)]


def test_factors_are_views_parts_or_equal_pieces():
    assert columns_of(NAMED.obs, ["body", "xy"], 2) == [[0, 3], [1, 2]]
    assert columns_of(NAMED.obs, None, 3) == [[0, 1], [2], [3]]
    assert columns_of(SPEC.obs, None, 2) == [[0], [1]]
    with pytest.raises(ValueError, match=r"^learner\.factors is \['arm'\]: it must list a view for each of 2"):
        columns_of(NAMED.obs, ["arm"], 2)
    with pytest.raises(ValueError, match="view 'wing' is not known"):
        columns_of(NAMED.obs, ["arm", "wing"], 2)
    with pytest.raises(ValueError, match=r"^learner\.skill_space\.factors is 3: the observation has 2 columns only"):
        columns_of(SPEC.obs, None, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"skill_space": Discrete(3)}, r"^learner\.skill_space is Discrete: DUSDi's is a MultiDiscrete"),
        ({"settle_steps": 50}, r"^learner\.settle_steps is 50"),
        ({"hold": 5}, r"^learner\.settle_steps is 10"),
        ({"anti_coef": 0.1, "spec": NAMED, "factors": ("xy", "xy")}, r"^learner\.anti_coef is above 0"),
        ({"agent": SAC, "anti_coef": -1.0}, r"^learner\.anti_coef is -1"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words):
        small(**arguments)


def test_the_first_steps_of_a_skill_count_for_nothing():
    learner, told = small(), batch(small(), skill_step=None)
    settled = told["skill_step"] >= 10
    reward = learner.intrinsic_reward(told)
    assert (reward[~settled] == 0).all() and (reward[settled] != 0).all()
    log_q = learner.policy.discriminators.log_prob(told["next_obs"], told["z"])
    assert learner.fit(told)["discriminator/loss"].item() == pytest.approx(-log_q[settled].sum(-1).mean().item())
    metrics = small().fit(batch(learner, skill_step=0))
    assert metrics["discriminator/loss"] == 0 and all(math.isfinite(value) for value in metrics.values())


def test_fitting_learns_what_a_factor_tells():
    learner = small(discriminator_lr=0.05)
    told = batch(learner, 256)
    told["next_obs"][:, 0] = told["z"][:, 0].float() - 1  # x tells the first factor, y nothing of the second
    for _ in range(200):
        metrics = learner.fit(told)
    assert metrics["discriminator/accuracy_0"] == 1 and metrics["discriminator/accuracy_1"] < 0.6
    reward = learner.intrinsic_reward(told).mean(0).tolist()
    assert reward[0] == pytest.approx(math.log(3), abs=0.05) and reward[1] < 0.3


# ---- the critic


def test_the_critics_channels_share_nothing_and_sum_to_q():
    critic = FactoredCritic(SPEC.obs, SPEC.action, SPACE, (8,))
    told = batch(small())
    q = critic(told["obs"], told["z"], told["action"])
    assert q.shape == (2, 32, 3)  # two factors and the entropy
    torch.testing.assert_close(critic.reduce(q, told["z"]), q[..., 0] + q[..., 1] + q[..., 2])
    for channel in range(3):
        gradients = torch.autograd.grad(
            q[..., channel].sum(), critic.parameters(), allow_unused=True, retain_graph=True
        )
        touched = [gradient is not None and bool((gradient != 0).any()) for gradient in gradients]
        owners = [int(name.split(".")[3]) for name, _ in critic.named_parameters()]
        assert touched == [owner == channel for owner in owners]


def agents(entropy_in_target: bool) -> tuple[SAC, SAC]:
    """One with channels; and one whose single channel is their sum."""

    class Summed(Critic):
        def forward(self, obs: Tensor, z: Tensor, action: Tensor) -> Tensor:
            return factored(obs, z, action).sum(-1, keepdim=True)

    torch.manual_seed(0)
    factored = FactoredCritic(SPEC.obs, SPEC.action, SPACE, (8,))
    actor = Actor(SPEC.obs, SPEC.action, SPACE, (8,))
    made = [Summed(SPEC.obs, SPEC.action, SPACE, (8,)), factored]
    one, channels = (SAC(SPEC, actor=actor, critic=c, alpha=0.3, entropy_in_target=entropy_in_target) for c in made)
    return channels, one


@pytest.mark.parametrize("entropy_in_target", [True, False])
def test_channels_sum_to_the_scalar(entropy_in_target: bool):
    """Targets of the channels sum to the target of the sum of the rewards, with the entropy and without it."""
    channels, one = agents(entropy_in_target)
    told, alpha = batch(small()), torch.tensor(0.3)
    rewards = torch.randn(32, 2, generator=Generator().manual_seed(1))
    whole = channels.target(told.replace(reward=rewards), alpha, Generator().manual_seed(2))
    scalar = one.target(told.replace(reward=rewards.sum(-1)), alpha, Generator().manual_seed(2))
    assert whole.shape == (32, 3) and scalar.shape == (32, 1)
    torch.testing.assert_close(whole.sum(-1, keepdim=True), scalar)
    action, log_prob = channels.actor(told["obs"], told["z"]).sample(Generator().manual_seed(3))
    losses = [agent.actor_loss(told, alpha, action, log_prob) for agent in (channels, one)]
    torch.testing.assert_close(*losses)


def test_entropy_goes_to_its_own_channel_alone():
    """The channels of the rewards have the same targets, whatever the temperature."""
    channels, _ = agents(True)
    told = batch(small()).replace(reward=torch.randn(32, 2, generator=Generator().manual_seed(1)))
    cold, warm = (channels.target(told, torch.tensor(a), Generator().manual_seed(2)) for a in (0.0, 1.0))
    assert torch.equal(cold[:, :2], warm[:, :2]) and (cold[:, 2] != warm[:, 2]).all()
    with pytest.raises(ValueError, match="reward has 4 channels, the critic has 3"):
        channels.target(told.replace(reward=torch.zeros(32, 3)), torch.tensor(0.3))


# ---- the policy


def test_the_posterior_of_all_combinations_is_the_product_of_the_factors(tmp_path):
    learner = small(NAMED, factors=("body", "xy"))
    obs = torch.randn(5, 4)
    assert isinstance(learner.policy, InfersSkills)
    every = learner.policy.log_posterior(obs)
    assert every.shape == (5, 9)
    torch.testing.assert_close(every.exp().sum(-1), torch.ones(5))
    for number, z in enumerate(SPACE.enumerate()):
        torch.testing.assert_close(every[:, number], learner.policy.log_posterior(obs, z.expand(5, 2)))
    save(learner.policy, tmp_path)
    assert torch.equal(load(tmp_path).log_posterior(obs), every)
    with pytest.raises(ValueError, match="cannot be counted"):
        small(skill_space=MultiDiscrete(40, 2)).policy.log_posterior(torch.zeros(1, 2))


# ---- learning


class TwoLines(PointSimulator):
    """x and y by themselves: of the point's disc, a step along one shortens that along the other."""

    def control(self, action: np.ndarray) -> np.ndarray:
        return self.radius * action.astype(np.float64)


class TwoLinesTask(PointTask):
    def simulator(self, n: int) -> TwoLines:
        return TwoLines(radius=self.step_radius)


def two_lines(num_envs: int) -> BatchedEnv:
    kept: dict[str, Any] = {"observe": ["x", "y"], "views": {"xy": ["x", "y"]}, "coverage": COVERAGE, "record": RECORD}
    task = TwoLinesTask(step_radius=0.2, horizon=50)
    return BatchedEnv(task, num_envs=num_envs, workers=0, horizon=50, dtype="float32", **kept)


class Joint(DUSDi):
    """Twin: both discriminators see all of the state."""

    def __init__(self, spec: Spec, *, factors: Sequence[str], **rest: Any):
        super().__init__(spec, factors=["xy" for _ in factors], **rest)


def told_by(told: Trajectories, z: Tensor, coordinate: int, factor: int) -> float:
    """How often the evaluation's fresh classifier knows a factor of z by one coordinate alone of held-out rollouts."""
    table = cell_table(told.coordinates[..., [coordinate]], told.length, cell=1.0)
    return recognise(table, z[:, factor].numpy(), 4, seed=0).accuracy


@pytest.mark.learning("skillrl/learners/dusdi.py", "skillrl/learners/base.py", "skillrl/agents/sac.py")
@pytest.mark.parametrize("kind", [DUSDi, Joint])
def test_dusdi_on_two_lines(kind: type[DUSDi], seed: int, check: Check):
    """Each factor is told by its own coordinate, and much better than the other factor by that coordinate; the twin's
    are not. By 24 episodes of each of 16 skills, as they are collected. With λ = 0 nothing forbids the other factor to
    show too, and in the cells of a whole episode this classifier finds a little of it."""
    torch.manual_seed(seed)
    env = two_lines(num_envs=8)
    space = MultiDiscrete(n=4, factors=2)
    learner = kind(
        Spec.from_env(env),
        skill_space=space,
        factors=("x", "y"),
        agent=partial(SAC, tau=0.01, lr=1e-3, alpha=0.1),
        hidden_dims=(64, 64),
        discriminator_lr=1e-3,
        batch_size=256,
        hold=None,
    )
    learner.generator.manual_seed(seed)
    data = Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    train(env=env, learner=learner, data=data, schedule=Schedule(24_000, warmup=1000), seed=seed)
    z = space.enumerate(24 * 16)
    told = rollout(two_lines(len(z)), learner.policy, z, seed=0, deterministic=False)
    right = (learner.policy.discriminators(torch.as_tensor(told.obs[:, -1])).argmax(-1) == z).float().mean(0)
    own = [told_by(told, z, i, i) for i in range(2)]
    other = [told_by(told, z, i, 1 - i) for i in range(2)]
    apart = min(mine - others for mine, others in zip(own, other, strict=True))
    if kind is Joint:
        return check(
            {
                "own factor by its coordinate": (min(own), "< 0.9"),
                "own factor less the other, by a coordinate": (apart, "< 0.4"),
            }
        )
    check(
        {
            "own factor by q": (float(right.min()), ">= 0.9"),
            "own factor by its coordinate": (min(own), ">= 0.9"),
            "own factor less the other, by a coordinate": (apart, ">= 0.4"),
        }
    )
