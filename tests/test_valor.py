"""VALOR: what of an episode is read, what is paid for it, when K grows; skills grow on the point env, not a twin's."""

import math
from contextlib import closing
from functools import partial
from typing import Any

import pytest
import torch
from checks import Check
from torch import Generator

from envs.point import Point
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.data.replay import Replay
from skillrl.learners.valor import VALOR, episodes
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Field, Spec
from skillrl.training import Schedule, train

SPEC = Spec(Field((2,)), Field((2,)), horizon=50)


def small(**arguments: Any) -> VALOR:
    return VALOR(SPEC, **({"skill_space": Discrete(9), "hidden_dims": (8,), "decoder_dim": 4} | arguments))


def rollout(*lengths: int, first: bool = True, last: bool = True) -> Batch:
    """One row of episodes of these lengths, whose observation counts its steps; the outer ones may be cut."""
    t = torch.cat([torch.arange(length) for length in lengths]).float()
    ends = torch.cat([torch.arange(length) == length - 1 for length in lengths])
    begins = t == 0
    begins[0], ends[-1] = first, last
    z = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)) % 2
    steps = Batch(
        obs=torch.stack([t, t * t], -1),
        next_obs=torch.stack([t + 1, (t + 1) ** 2], -1),
        raw_action=torch.zeros(len(t), 2),
        log_prob=torch.zeros(len(t)),
        reward=torch.ones(len(t)),
        discount=torch.full((len(t),), 0.9),
        terminated=ends & False,
        truncated=ends,
        first=begins,
        z=z,
        mask=torch.ones(len(t), dtype=torch.bool),
    )
    return Batch({name: value.unsqueeze(0) for name, value in steps.items()})


def test_episodes_that_are_cut_are_known():
    start, end, whole = episodes(rollout(2, 3, 2, first=False, last=False))
    assert start.tolist() == [[-1, -1, 2, 2, 2, 5, 5]] and end.tolist() == [[1, 1, 4, 4, 4, 7, 7]]
    assert whole.tolist() == [[False, False, False, False, True, False, False]]


def test_the_decoder_reads_changes_between_states_spread_evenly_over_an_episode():
    batch = rollout(4, 8)
    start, _, whole = episodes(batch)
    changes = small(states=3).changes(batch, start, whole)
    assert changes.tolist() == [[[2, 4], [2, 12]], [[4, 16], [4, 48]]]  # to the state after the last step
    assert small().changes(batch, start, whole).shape == (2, 10, 2)


def test_contexts_that_are_not_there_are_not_drawn_and_not_decoded():
    learner = small(first_count=3)
    log_p = learner.decoder(torch.randn(5, 10, 2), learner.count)
    assert (log_p[:, 3:] == -torch.inf).all() and torch.allclose(log_p.exp().sum(-1), torch.ones(5))
    z = learner.prior().select(torch.zeros(900, 2), (), (), torch.ones(900), Generator().manual_seed(0), False).z
    assert set(z.tolist()) == {0, 1, 2} and torch.bincount(z).min() > 240


class Seeing(PPO):
    """Keeps what it is to learn from."""

    def update(self, batch, generator=None):
        self.seen = batch
        return super().update(batch, generator)


def test_an_episode_is_paid_at_its_end_and_nothing_follows():
    learner = small(agent=Seeing, threshold=1.0)
    batch = rollout(2, 3, 4, 2, first=False, last=False)
    start, _, whole = episodes(batch)
    log_p = learner.decoder(learner.changes(batch, start, whole), learner.count).detach()
    metrics = learner.update({"batch": batch})
    seen = learner.agent.seen
    paid = [log_p[0, 1].item() + math.log(2), log_p[1, 0].item() + math.log(2)]  # contexts 1 and 0, of K = 2
    assert seen["reward"].tolist() == [pytest.approx([0, 0, 0, 0, paid[0], 0, 0, 0, paid[1], 0, 0])]
    assert seen["mask"].tolist() == [[False] * 2 + [True] * 7 + [False] * 2]
    assert (seen["discount"][whole] == 0).all() and (seen["discount"][~whole] == batch["discount"][~whole]).all()
    probability = (math.exp(log_p[0, 1].item()) + math.exp(log_p[1, 0].item())) / 2
    assert metrics["decoder/probability"].item() == pytest.approx(probability) == learner.decoded.item()


@pytest.mark.parametrize(("decoded", "counts"), [(0.859, [2, 2, 2]), (0.861, [4, 4, 4]), (1.0, [4, 4, 4])])
def test_k_grows_only_past_its_threshold_and_once(decoded: float, counts: list[int]):
    learner = small()
    learner.decoded.fill_(decoded)
    grown = []
    for _ in counts:
        learner.maintain(0)
        grown.append(int(learner.count))
    assert grown == counts


def test_k_grows_by_half_and_one_up_to_all():
    learner, grown = small(), [2]
    while grown[-1] < 9:
        learner.decoded.fill_(0.9)
        learner.maintain(0)
        grown.append(int(learner.count))
    assert grown == [2, 4, 7, 9]
    learner.decoded.fill_(0.9)
    learner.maintain(0)
    assert int(learner.count) == 9 and learner.decoded > 0 and {"count", "decoded"} <= learner.state_dict().keys()


def test_what_cannot_be_is_said():
    with pytest.raises(ValueError, match="take agent ppo"):
        small(agent=SAC)
    with pytest.raises(ValueError, match="first_count is 3: skill_space must be Discrete, of at least as many"):
        small(skill_space=Discrete(2), first_count=3)
    with pytest.raises(ValueError, match=r"learner\.batch_size is 4096: no episode ended in so many fresh steps"):
        small().update({"batch": rollout(5, last=False)})


# ---- on the point env


class Shuffled(VALOR):
    """Twin: the decoder is fitted to the contexts of other episodes."""

    def fit_decoder(self, changes, z):
        return super().fit_decoder(changes, z[torch.randperm(len(z), generator=self.generator)])


def watched(learner: VALOR) -> dict[int, float]:
    """For each K, how many of the newest fresh episodes are decoded right, before the decoder is fitted to them."""
    fit, right = learner.fit_decoder, dict[int, float]()

    def fit_decoder(changes, z):
        said = learner.decoder(changes, learner.count).argmax(-1)
        right[int(learner.count)] = float((said == z).float().mean())
        return fit(changes, z)

    learner.fit_decoder = fit_decoder
    return right


@pytest.mark.learning("skillrl/learners/valor.py", "skillrl/learners/base.py", "skillrl/agents/ppo.py")
@pytest.mark.parametrize("kind", [VALOR, Shuffled])
def test_valor_on_the_point(kind: type[VALOR], seed: int, check: Check):
    """Skills grow from 2 to 8 and are told apart at each K, and the twin's are not and do not."""
    torch.manual_seed(seed)
    with closing(Point(num_envs=16, horizon=20)) as env:
        learner = kind(
            Spec.from_env(env),
            skill_space=Discrete(8),
            agent=partial(PPO, lr=1e-3, n_epochs=4, ent_coef=1e-3),
            decoder_dim=32,
            decoder_lr=3e-3,
            threshold=0.9,  # K grows where its contexts are told apart as well as the gate asks
            batch_size=640,
        )
        learner.generator.manual_seed(seed)
        right = watched(learner)
        data = Replay(4000, 16, gamma=learner.gamma, seed=seed)
        train(env=env, learner=learner, data=data, schedule=Schedule(96_000, collect=16), seed=seed)
    if kind is Shuffled:
        return check(
            {
                "K at the end": (int(learner.count), "<= 2"),
                "mean probability of the right context": (float(learner.decoded), "< 0.9"),
            }
        )
    check(
        {
            "K at the end": (int(learner.count), ">= 8"),
            "mean probability of the right context": (float(learner.decoded), ">= 0.9"),
            "decoded right, least of all K": (min(right.values()), ">= 0.9"),
        }
    )
