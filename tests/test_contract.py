"""The contract, by nine small learners that each need something which DIAYN does not, run through ``train()``.

Each keeps what it received, and is checked for it. None is shipped.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from counting_env import CountingEnv
from torch import Tensor, nn

from envs.rooms import Rooms
from skillrl.agents.dqn import DQN
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.learners.base import Batches, Learner, RewardLearner
from skillrl.learners.diayn import DIAYN
from skillrl.networks import Actor, Critic, FactoredCritic
from skillrl.selector import Prior, Selector
from skillrl.skill_library import load, save
from skillrl.skill_policy import ActorPolicy, InfersSkills, SkillPolicy
from skillrl.skill_spaces import Box, Discrete, Gaussian, MultiDiscrete, Sphere
from skillrl.spec import Batch, Metrics, Need, Selection, Spec
from skillrl.training import Schedule, State, train

ROW, EPISODE, T, X = range(4)


def run(learner: Learner, env: Any, **schedule: int) -> State:
    data = Replay(10_000, env.num_envs, gamma=learner.gamma)
    return train(env=env, learner=learner, data=data, schedule=Schedule(**schedule), seed=0)


def small_policy(spec: Spec, space: Any) -> ActorPolicy:
    return ActorPolicy(obs=spec.obs, action=spec.action, space=space, hidden_dims=[8])


# ---- 1. fresh episodes: REINFORCE -------------------------------------------------------------------------------


class Recording(ActorPolicy):
    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        action, log_prob = self.dist(obs, z).sample(generator)
        return action, {"log_prob": log_prob}


class Reinforce(Learner):
    """A policy gradient on what was collected since the last update, and on nothing else."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.policy = Recording(obs=spec.obs, action=spec.action, space=Discrete(1), hidden_dims=[])
        self.optimizer = torch.optim.Adam(self.policy.parameters(), 0.05)
        self.received: list[Batch] = []

    def needs(self):
        return {"rollout": Need("fresh", 16 * 5)}

    def update(self, batches: Batches) -> Metrics:
        batch = batches["rollout"]
        self.received.append(batch)
        reward = batch["reward"]  # (N, T)
        to_go = reward.flip(1).cumsum(1).flip(1)
        dist = self.policy.dist(batch["obs"] * 0, batch["z"])
        loss = -(dist.log_prob(batch["action"]) * (to_go - to_go.mean(0))).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"policy/return": reward.sum(1).mean()}


def test_fresh_episodes_are_each_rounds_own_and_teach():
    torch.manual_seed(0)
    env = CountingEnv(lengths=[5] * 16, terminates=[False] * 16)
    learner = Reinforce(Spec.from_env(env))
    run(learner, env, total=16 * 5 * 120, collect=16 * 5, updates=1)
    episodes = [batch["obs"][..., EPISODE] for batch in learner.received]
    assert all((e == i).all() for i, e in enumerate(episodes))  # round i holds episode i of each env, whole
    for batch in learner.received:
        assert batch["first"][:, 0].all() and not batch["first"][:, 1:].any()
        assert batch["truncated"][:, -1].all() and not batch["truncated"][:, :-1].any()
        assert batch["log_prob"].shape == batch["reward"].shape == (16, 5)
        assert (batch["next_obs"][..., T] == torch.arange(1.0, 6.0)).all()
    returns = [batch["reward"].sum(1).mean() for batch in learner.received]
    assert returns[-1] > returns[0] + 3  # pushing right pays 1 a step, of 5


# ---- 2. vector reward, reducing critic --------------------------------------------------------------------------


class Psi(Critic):
    """Successor features: Q = ψ · z."""

    def reduce(self, q: Tensor, z: Tensor) -> Tensor:
        return (q * z).sum(-1)


class Features(RewardLearner):
    def __init__(self, spec: Spec):
        super().__init__(
            spec,
            skill_space=Sphere(2),
            agent=partial(SAC, entropy_in_target=False),
            hidden_dims=[16],
            policy_view="x",
            batch_size=32,
            hold=None,
            critic=partial(Psi, channels=2),
        )
        self.rewards: list[Tensor] = []

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        moved = batch["next_obs"][..., X] - batch["obs"][..., X]
        self.rewards.append(torch.stack([moved, 2 * moved], -1))
        return self.rewards[-1]


def test_vector_reward_reaches_a_reducing_critic():
    env = CountingEnv()
    learner = Features(Spec.from_env(env))
    before = [p.clone() for p in learner.agent.critic.parameters()]
    state = run(learner, env, total=400, warmup=40, collect=2)
    assert all(reward.shape == (32, 2) for reward in learner.rewards) and len(learner.rewards) == state.grad_steps > 150
    assert all((a != b).any() for a, b in zip(before, learner.agent.critic.parameters()))
    q = torch.randn(2, 5, 2)
    z = learner.policy.space.sample(5)
    assert torch.allclose(learner.agent.critic.reduce(q, z), torch.einsum("ebc,bc->eb", q, z))


class Factored(RewardLearner):
    """A channel a factor of z, and one for the entropy, which the agent keeps apart from them."""

    def __init__(self, spec: Spec):
        super().__init__(
            spec,
            skill_space=MultiDiscrete(3, 2),
            agent=SAC,
            hidden_dims=[8],
            policy_view=None,
            batch_size=32,
            hold=None,
            critic=FactoredCritic,
        )
        self.received: list[Batch] = []

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        self.received.append(batch)
        return batch["z"].float()


def test_skills_of_factors_and_an_entropy_channel():
    env = CountingEnv()
    learner = Factored(Spec.from_env(env))
    run(learner, env, total=400, warmup=40, collect=2)
    assert len(learner.received) > 150
    for batch in learner.received:
        assert batch["z"].shape == (32, 2) and batch["z"].dtype == torch.int64
        assert ((batch["z"] >= 0) & (batch["z"] < 3)).all()
    assert {tuple(z) for batch in learner.received for z in batch["z"].tolist()} > {(0, 2), (2, 0)}
    with pytest.raises(ValueError, match=r"^agent\.entropy_in_target is true, the critic has 2 channels"):
        SAC(learner.spec, actor=learner.policy.actor, critic=Critic(*shapes(learner), [8], channels=2))


def shapes(learner: Learner) -> tuple[Any, Any, Any]:
    return learner.policy.obs, learner.policy.action, learner.policy.space


# ---- 3. sequences, a recurrent policy, a recurrent and held selector --------------------------------------------


class Remembering(SkillPolicy):
    """Its carry counts the steps of the episode and adds up the actions."""

    def initial(self, n):
        return (torch.zeros(n, 2),)

    def observe(self, obs, prev_action, first, carry):
        fresh = torch.where(first[:, None], 0.0, carry[0])
        return (fresh + torch.stack([torch.ones(len(obs)), prev_action[:, 0]], -1),)

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        return z, {"counted": carry[0][:, 0], "pushed": carry[0][:, 1]}


class Recalling(Selector):
    """Chooses from the policy's carry and its own, which counts its choices."""

    hold = 3

    def initial(self, n):
        return (torch.zeros(n),)

    def observe(self, obs, prev_action, first, carry):
        return (torch.where(first, 0.0, carry[0]),)

    def select(self, obs, carry, policy_carry, first, generator, deterministic):
        chosen = carry[0] + 1
        z = torch.stack([chosen / 100 + policy_carry[0][:, 0] / 1000], -1)
        return Selection(z, carry=(chosen,))


class Sequences(Learner):
    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.policy = Remembering(obs=spec.obs, action=spec.action, space=Box(1))
        self.received: list[Batch] = []

    def prior(self):
        return Recalling()

    def needs(self):
        return {"sequences": Need("sequences", 16, length=8)}

    def update(self, batches):
        self.received.append(batches["sequences"])
        return {}


def test_sequences_come_in_order_with_recurrent_held_choices():
    env = CountingEnv(lengths=[5, 8])
    learner = Sequences(Spec.from_env(env))
    run(learner, env, total=200, warmup=60, collect=2)
    for batch in learner.received:
        t, mask = batch["obs"][..., T], batch["mask"]
        assert batch["obs"].shape == (16, 8, 4) and mask.any(1).all()
        assert (batch["first"] == (t == 0)).all()
        follows = (t[:, 1:] == t[:, :-1] + 1) | batch["first"][:, 1:] | ~mask[:, 1:]
        assert follows.all()
        assert (batch["counted"] == t + 1)[mask].all()  # the carry was reset with the episode, not with the hold
        assert (batch["skill_step"] == t % 3)[mask].all()
        chosen_at = t - t % 3
        expected = (chosen_at / 3 + 1) / 100 + (chosen_at + 1) / 1000
        assert torch.allclose(batch["z"][..., 0][mask], expected[mask])
        assert torch.allclose(batch["pushed"][mask & ~batch["first"]], batch["obs"][..., X][mask & ~batch["first"]])


# ---- 4. an agents axis ------------------------------------------------------------------------------------------


class TeamPolicy(SkillPolicy):
    def __init__(self, **arguments: Any):
        super().__init__(**arguments)
        self.net = nn.Linear(4 + 2, 1)

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        shared = self.space.embed(z)[:, None].expand(-1, obs.shape[1], -1)  # one z for the team
        return torch.tanh(self.net(torch.cat([obs, shared], -1))), {}


class Team(Learner):
    gamma = torch.tensor([0.5, 0.9])  # one per agent

    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.policy = TeamPolicy(obs=spec.obs, action=spec.action, space=Discrete(2))
        self.received: list[Batches] = []

    def prior(self):
        return Prior(self.policy.space, hold=2)

    def needs(self):
        return {"steps": Need("transitions", 16), "decisions": Need("decisions", 16)}

    def update(self, batches):
        self.received.append(batches)
        return {}


def test_agents_have_their_own_reward_and_discount():
    env = CountingEnv(lengths=[4, 4], agents=2)
    spec = Spec.from_env(env)
    assert (spec.agents, spec.obs.shape) == (2, (2, 4))
    learner = Team(spec)
    run(learner, env, total=80, warmup=20, collect=2)
    for batches in learner.received:
        steps, decisions = batches["steps"], batches["decisions"]
        assert steps["obs"].shape == (16, 2, 4) and steps["action"].shape == (16, 2, 1) and steps["z"].shape == (16,)
        base = steps["obs"][..., ROW] + 10 * steps["obs"][..., T]  # (16, 2)
        paid = (base + steps["action"][..., 0]) * torch.tensor([1.0, 2.0])
        assert torch.allclose(steps["reward"], paid)
        goes_on = 1 - steps["terminated"].float()[:, None]
        assert torch.allclose(steps["discount"], learner.gamma * goes_on)
        assert torch.allclose(decisions["discount"][~decisions["terminated"]], learner.gamma**2)
        assert decisions["reward"].shape == (16, 2) and (decisions["duration"] == 2).all()


# ---- 5. offline data with future goals --------------------------------------------------------------------------


class Offline(Learner):
    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.received: list[Batch] = []

    def needs(self):
        return {"batch": Need("transitions", 64, future=0.8)}

    def update(self, batches):
        self.received.append(batches["batch"])
        return {}


def test_offline_data_with_future_goals_and_no_env():
    env = CountingEnv()
    collected = run(Sequences(Spec.from_env(env)), env, total=120, collect=2, updates=0).data
    learner = Offline(Spec.from_env(env))
    state = train(env=None, learner=learner, data=collected, schedule=Schedule(total=30))
    assert state.grad_steps == 30 == len(learner.received) and state.env_steps == 0
    for batch in learner.received:
        assert (batch["goal"][:, [ROW, EPISODE]] == batch["obs"][:, [ROW, EPISODE]]).all()
        assert (batch["goal"][:, T] > batch["obs"][:, T]).all()
    with pytest.raises(ValueError, match="data holds 0 transitions"):
        train(env=None, learner=learner, data=Replay(100, 2), schedule=Schedule(total=1))


# ---- 6. two levels learn from one rollout -----------------------------------------------------------------------


class Relative(Selector):
    """Subgoals relative to the body: they shrink as it moves (HIRO's h)."""

    hold = 3

    def select(self, obs, carry, policy_carry, first, generator, deterministic):
        return Selection(torch.full((len(obs), 1), 2.0), extras={"raw": obs[:, T].clone()})

    def advance(self, obs, z, next_obs):
        return z + (obs - next_obs)[:, [X]]


class TwoLevels(Learner):
    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.policy = small_policy(spec, Gaussian(1))
        self.received: list[Batches] = []

    def prior(self):
        return Relative()

    def needs(self):
        return {"low": Need("transitions", 32), "high": Need("decisions", 32, length=3)}

    def update(self, batches):
        self.received.append(batches)
        return {}


def test_two_levels_learn_from_one_rollout():
    env = CountingEnv(lengths=[5, 7], terminates=[True, False])
    learner = TwoLevels(Spec.from_env(env))
    learner.gamma = 0.9
    run(learner, env, total=200, warmup=40, collect=2)
    assert len(learner.received) > 50
    for batches in learner.received:
        low, high = batches["low"], batches["high"]
        began = low["obs"][:, T] - low["skill_step"]
        assert (began % 3 == 0).all()
        # within a hold, z + x stays what it was at the choice: here x is known at t = 0 only, where z must be 2
        assert torch.allclose(low["z"][low["skill_step"] == 0], torch.tensor(2.0))
        moving = (low["skill_step"] > 0) & (began == 0)
        assert torch.allclose((low["z"][:, 0] + low["obs"][:, X])[moving], torch.tensor(2.0), atol=1e-5)
        assert (high["z"] == 2.0).all() and (high["raw"] == high["obs"][:, T]).all()  # as chosen, not as moved
        k, mask = high["duration"], high["step_mask"]
        assert (mask.sum(1) == k).all() and (high["step_obs"][:, 0] == high["obs"]).all()
        base = high["step_obs"][..., ROW] + 10 * high["step_obs"][..., T] + high["step_action"][..., 0]
        discounts = 0.9 ** torch.arange(3)
        assert torch.allclose(high["reward"], (base * discounts * mask).sum(1), atol=1e-4)
        assert torch.allclose(high["discount"], 0.9**k * (1 - high["terminated"].float()))
        length = torch.where(high["obs"][:, ROW] == 0, 5, 7)
        assert (k == torch.minimum(torch.tensor(3.0), length - high["obs"][:, T])).all()  # ended early with the episode
        assert (high["next_obs"][:, T] == high["obs"][:, T] + k).all()


# ---- 7. several batches a round ---------------------------------------------------------------------------------


class Several(Learner):
    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.policy = small_policy(spec, Discrete(3))
        self.register_buffer("maintained", torch.zeros((), dtype=torch.int64))
        self.received: list[list[Batch]] = []

    def needs(self):
        return {"many": Need("transitions", 16, repeats=3)}

    def update(self, batches):
        self.received.append(batches["many"])
        return {}

    def maintain(self, env_steps):
        self.maintained += 1
        return {"maintain/env_steps": torch.tensor(float(env_steps))}


def test_several_fresh_batches_a_round():
    env = CountingEnv()
    learner = Several(Spec.from_env(env))
    state = run(learner, env, total=100, warmup=20, collect=4, updates=2)
    assert len(learner.received) == state.grad_steps == 42 and int(learner.maintained) == 21
    for batches in learner.received:
        assert len(batches) == 3 and not torch.equal(batches[0]["obs"], batches[1]["obs"])
    assert state.metrics["maintain/env_steps"] == 100


# ---- a learner's own policy, by whatever agent -------------------------------------------------------------------


@pytest.mark.parametrize("agent", [DQN, PPO])
def test_a_learners_own_policy_chooses_among_discrete_actions(agent: Any, tmp_path: Path):
    env = Rooms(num_envs=4, horizon=8)
    learner = DIAYN(Spec.from_env(env), skill_space=Discrete(3), agent=agent, hidden_dims=[16], batch_size=32)
    before = [p.clone() for p in learner.policy.actor.parameters()]
    state = run(learner, env, total=400, warmup=40, collect=4)
    assert state.grad_steps > 0 and any((a != b).any() for a, b in zip(before, learner.policy.actor.parameters()))
    saved = load(save(learner.policy, tmp_path))
    assert isinstance(saved, InfersSkills) and type(saved) is type(learner.policy)
    obs, z = torch.rand(5, 2), torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(saved.dist(obs, z).mode(), learner.policy.dist(obs, z).mode())


# ---- a policy that remembers what it drew -------------------------------------------------------------------------


class Muttering(SkillPolicy):
    """Draws a number beside its action, and knows the one before."""

    def initial(self, n):
        return (torch.full((n,), -1.0),)

    def observe(self, obs, prev_action, first, carry):
        return (torch.where(first, -1.0, carry[0]),)

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        return z[:, None] * torch.zeros(1), {"before": carry[0], "drawn": torch.rand(len(obs), generator=generator)}

    def remember(self, extras, carry):
        return (extras["drawn"],)


class Mutterer(Several):
    def __init__(self, spec: Spec):
        super().__init__(spec)
        self.policy = Muttering(obs=spec.obs, action=spec.action, space=Discrete(2))

    def needs(self):
        return {"many": Need("sequences", 16, length=4)}


def test_a_policy_remembers_what_it_drew_until_the_episode_ends():
    env = CountingEnv(lengths=[5, 8])
    learner = Mutterer(Spec.from_env(env))
    state = run(learner, env, total=200, warmup=40, collect=2)
    for batch in learner.received:
        goes_on = batch["mask"][:, 1:] & ~batch["first"][:, 1:]
        assert goes_on.any() and (batch["before"][batch["first"]] == -1).all()
        assert (batch["before"][:, 1:] == batch["drawn"][:, :-1])[goes_on].all()
    before = state.collector.carry[0].clone()
    state.collector.tick(active=torch.tensor([True, False]))
    assert state.collector.carry[0][1] == before[1] and state.collector.carry[0][0] != before[0]  # a row that waits


# ---- 8. fresh decisions of uneven length ------------------------------------------------------------------------


class FreshDecisions(TwoLevels):
    def needs(self):
        return {"high": Need("fresh_decisions", 12, length=3)}


def test_fresh_decisions_come_once_each_row_in_order():
    env = CountingEnv(lengths=[5, 7], terminates=[True, False])
    learner = FreshDecisions(Spec.from_env(env))
    learner.gamma = 0.9
    state = run(learner, env, total=400, collect=2)
    seen: list[list[tuple[int, int]]] = [[], []]
    for batches in learner.received:
        batch = batches["high"]
        mask, k = batch["mask"], batch["duration"]
        assert mask.sum() in (12, 13) and mask.any(1).all() and mask.shape == batch["reward"].shape
        assert (batch["raw"] == batch["obs"][..., T])[mask].all() and (batch["z"] == 2.0)[mask].all()
        assert torch.allclose(batch["discount"], 0.9**k * (1 - batch["terminated"].float()))
        assert (batch["step_mask"].sum(-1) == k).all() and (batch["next_obs"][..., T] == batch["obs"][..., T] + k).all()
        assert (batch["first"] == (batch["obs"][..., T] == 0)).all()
        for row in (0, 1):
            assert (batch["obs"][row, :, ROW] == row).all()
            starts = batch["obs"][row][mask[row]][:, [EPISODE, T]].int().tolist()
            seen[row] += [(episode, t) for episode, t in starts]
    for row, starts in ((0, (0, 3)), (1, (0, 3, 6))):  # all that began, one after the other, none twice
        expected = [(episode, t) for episode in range(99) for t in starts]
        assert seen[row] == expected[: len(seen[row])] and len(seen[row]) > 60
    assert sum(map(len, seen)) > 12 * (len(learner.received) - 1) and state.grad_steps == len(learner.received) > 10


def test_actor_of_a_view_gets_that_view_alone():
    env = CountingEnv()
    spec = Spec.from_env(env)
    learner = Features(spec)
    assert learner.policy.obs.names == {"x": (0, 1)} and isinstance(learner.policy.actor, Actor)
    batch = Batch(obs=torch.rand(3, 4), next_obs=torch.rand(3, 4), reward=torch.rand(3), z=Sphere(2).sample(3))
    assert torch.equal(learner.relabel(batch)["obs"], batch["obs"][:, [X]])


# ---- 9. an explorer collects, skills are learnt beside it --------------------------------------------------------


class Pushing(SkillPolicy):
    """Always the same action."""

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        return torch.full((len(obs), 1), 0.25), {}


class Exploring(Learner):
    def __init__(self, spec: Spec, own: bool):
        super().__init__(spec)
        self.explorer = Pushing(obs=spec.obs, action=spec.action, space=Discrete(1))
        self.policy = small_policy(spec, Discrete(3)) if own else None
        self.received: list[Batch] = []

    def behaviour(self):
        return self.explorer

    def needs(self):
        return {"batch": Need("transitions", 16)}

    def update(self, batches):
        self.received.append(batches["batch"])
        return {}


@pytest.mark.parametrize("own", [True, False])
def test_who_explores_collects_and_the_skills_are_kept(own: bool):
    env = CountingEnv()
    learner = Exploring(Spec.from_env(env), own)
    run(learner, env, total=100, warmup=20, collect=2)
    assert all((batch["action"] == 0.25).all() and (batch["z"] == 0).all() for batch in learner.received)
    assert learner.kept_policy() is (learner.policy if own else learner.explorer)
