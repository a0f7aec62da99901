"""DQN: one update is Stable-Baselines3's; its target, its clock and its ε are right by hand; it solves a chain."""

from copy import deepcopy
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from skillrl.agents.base import build
from skillrl.agents.dqn import DQN
from skillrl.networks import EpsilonGreedy
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Field, Spec
from skillrl.spec import Discrete as DiscreteAction

torch.set_num_threads(1)
SPEC, ONE_SKILL = Spec(Field((3,)), DiscreteAction(4)), Discrete(1)


def make(spec: Spec = SPEC, space: Discrete = ONE_SKILL, hidden_dims=(16, 16), **hyper) -> DQN:
    return build(
        partial(DQN, **hyper),
        spec,
        obs=spec.obs,
        action=spec.action,
        space=space,
        hidden_dims=hidden_dims,
    )[1]


def random_batch(n: int = 64, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    return Batch(
        obs=torch.randn(n, 3, generator=rng),
        next_obs=torch.randn(n, 3, generator=rng),
        action=torch.randint(4, (n,), generator=rng),
        reward=3 * torch.randn(n, generator=rng),  # both sides of Huber's corner
        discount=0.97 * (torch.rand(n, generator=rng) < 0.7),
        z=torch.zeros(n, dtype=torch.int64),
    )


class Env(gym.Env):
    """Spaces for Stable-Baselines3 to read; it is never stepped."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (3,))
    action_space = gym.spaces.Discrete(4)


def sb3_updates(batches: list[Batch], max_grad_norm: float) -> tuple[list[dict], list[float], nn.Module]:
    """Its weights before, its losses, and its network after."""
    from stable_baselines3 import DQN as Reference
    from stable_baselines3.common.logger import configure
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    reference = Reference(
        "MlpPolicy",
        Env(),
        gamma=0.97,
        seed=1,
        device="cpu",
        buffer_size=8,
        max_grad_norm=max_grad_norm,
        policy_kwargs={"net_arch": [16, 16]},
    )
    reference.set_logger(configure(format_strings=[]))
    with torch.no_grad():
        for parameter in reference.q_net_target.parameters():  # a target that has fallen behind
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = [deepcopy(net.q_net.state_dict()) for net in (reference.q_net, reference.q_net_target)]
    losses = []
    for batch in batches:
        done = (batch["discount"] == 0).float().unsqueeze(-1)
        sample = ReplayBufferSamples(
            batch["obs"], batch["action"].unsqueeze(-1), batch["next_obs"], done, batch["reward"].unsqueeze(-1), None
        )
        reference.replay_buffer.sample = lambda *_, sample=sample, **__: sample
        reference.train(1, len(done))
        losses.append(reference.logger.name_to_value["train/loss"])
    return before, losses, reference.q_net.q_net


@pytest.mark.parametrize("max_grad_norm", [10.0, 0.1])  # inactive, active
def test_update_is_stable_baselines3s(max_grad_norm):
    batches = [random_batch(seed=seed) for seed in range(3)]
    (online, target), losses, after = sb3_updates(batches, max_grad_norm)
    agent = make(gamma=0.97, max_grad_norm=max_grad_norm)
    agent.critic.nets[0].load_state_dict(online)
    agent.target_critic.nets[0].load_state_dict(target)
    for batch, loss in zip(batches, losses):
        assert agent.update(batch)["critic/loss"].item() == pytest.approx(loss, abs=1e-5)
    for name, expected in after.state_dict().items():
        assert torch.allclose(agent.critic.nets[0].state_dict()[name], expected, rtol=0, atol=1e-5)
        assert (expected - online[name]).abs().max() > 1e-4  # it did move
        assert torch.equal(agent.target_critic.nets[0].state_dict()[name], target[name])


class Table(nn.Module):
    """Q read from the observation itself: member e values action a at obs[:, e, a]."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, obs, z):
        return self.scale * obs.transpose(0, 1)


def table_agent(**hyper) -> DQN:
    table = Table()
    return DQN(Spec(Field((2, 3)), DiscreteAction(3)), actor=EpsilonGreedy(table), critic=table, **hyper)


def test_target_by_hand():
    values = torch.tensor([[[1.0, 5.0, 2.0], [4.0, 0.0, 3.0]]])  # two members; their minimum is 1, 0, 2
    batch = Batch(
        obs=torch.zeros(3, 2, 3),
        next_obs=values.expand(3, 2, 3),
        reward=torch.tensor([1.0, 1.0, 1.0]),
        discount=torch.tensor([0.9, 0.9**4, 0.0]),  # one step, four steps, terminated
        z=torch.zeros(3, dtype=torch.int64),
    )
    assert table_agent().target(batch).tolist() == pytest.approx([1 + 0.9 * 2, 1 + 0.9**4 * 2, 1])


def test_double_q_values_the_critics_choice_by_the_target():
    batch = Batch(
        obs=torch.zeros(1, 2, 3),
        next_obs=torch.tensor([[[1.0, 5.0, 2.0], [1.0, 5.0, 2.0]]]),
        reward=torch.zeros(1),
        discount=torch.ones(1),
        z=torch.zeros(1, dtype=torch.int64),
    )
    for double_q, expected in ((False, -1.0), (True, -5.0)):
        agent = table_agent(double_q=double_q)
        agent.target_critic.scale.fill_(-1.0)  # it values the actions at -1, -5, -2: the critic would take the second
        assert agent.target(batch).item() == expected


def test_next_z_is_the_skill_of_the_next_step():
    agent = make(space=Discrete(2))
    batch = random_batch()
    other = agent.target(batch.replace(next_z=torch.ones(64, dtype=torch.int64)))
    alive = batch["discount"] > 0
    assert not torch.allclose(other[alive], agent.target(batch)[alive])
    assert torch.equal(agent.target(batch.replace(next_z=batch["z"])), agent.target(batch))


def test_target_is_copied_on_its_clock_and_epsilon_anneals():
    agent = make(target_every=3, epsilon_final=0.2, epsilon_updates=4)
    first = deepcopy(agent.critic.state_dict())
    epsilons, copied = [], []
    for step in range(6):
        agent.update(random_batch(seed=step))
        epsilons.append(agent.actor.epsilon.item())
        pairs = zip(agent.target_critic.parameters(), agent.critic.parameters())
        copied.append(all(torch.equal(a, b) for a, b in pairs))
        if step == 1:
            assert all(torch.equal(v, first[k]) for k, v in agent.target_critic.state_dict().items())
    assert copied == [False, False, True, False, False, True]
    assert epsilons == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2, 0.2])


def test_state_is_complete():
    agent = make(target_every=3, epsilon_updates=4)
    agent.update(random_batch())
    agent.update(random_batch(seed=1))
    twin = make(target_every=3, epsilon_updates=4)
    twin.load_state_dict(agent.state_dict())
    twin.optimizer.load_state_dict(deepcopy(agent.optimizer.state_dict()))  # it would share its moments
    for seed in (2, 3):
        ours, theirs = agent.update(random_batch(seed=seed)), twin.update(random_batch(seed=seed))
        assert ours == theirs and all(not value.requires_grad and value.dim() == 0 for value in ours.values())
    for a, b in zip(agent.state_dict().values(), twin.state_dict().values()):
        assert torch.equal(a, b)


def chain(*, terminates: bool = True) -> Batch:
    """Two states; action 1 goes on and pays 1 at the end, action 0 goes back to the first."""
    state = torch.tensor([0, 0, 1, 1])
    action = torch.tensor([0, 1, 0, 1])
    return Batch(
        obs=torch.eye(2)[state],
        next_obs=torch.eye(2)[action],  # of the last row it does not matter, for it terminates
        action=action,
        reward=torch.tensor([0.0, 0.0, 0.0, 1.0]),
        discount=torch.tensor([0.9, 0.9, 0.9, 0.0 if terminates else 0.9]),
        z=torch.zeros(4, dtype=torch.int64),
    )


def learned_values(batch: Batch) -> torch.Tensor:
    torch.manual_seed(0)
    agent = make(Spec(Field((2,)), DiscreteAction(2)), lr=5e-3, target_every=20)
    for _ in range(400):
        agent.update(batch)
    with torch.no_grad():
        return agent.critic(torch.eye(2), torch.zeros(2, dtype=torch.int64))[0]


def test_it_solves_a_chain():
    exact = torch.tensor([[0.81, 0.9], [0.81, 1.0]])
    assert (learned_values(chain()) - exact).abs().max() < 0.05
    assert (learned_values(chain(terminates=False)) - exact).abs().max() > 0.3  # its twin: no termination
    assert (learned_values(chain().replace(reward=torch.zeros(4))) - exact).abs().max() > 0.3  # and no reward


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gamma", 1.1),
        ("lr", -1e-3),
        ("target_every", 0),
        ("target_every", 2.5),
        ("max_grad_norm", 0.0),
        ("epsilon_final", 1.5),
        ("epsilon_updates", 0),
    ],
)
def test_an_impossible_value_is_an_error_of_one_line(key, value):
    with pytest.raises(ValueError, match=rf"^agent\.{key} is {value}: [^\n]*$"):
        make(**{key: value})


def test_a_box_action_is_refused():
    with pytest.raises(ValueError, match="discrete action"):
        make(Spec(Field((3,)), Field((2,))))
