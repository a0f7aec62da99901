"""Observations in units of their spread: what is learnt does not depend on the units that an env measures in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from directed_skills import pretrained
from torch import Tensor

from skillrl import skill_library
from skillrl.downstream.finetune import Finetune
from skillrl.learners.base import LOOKED_AT, DirectedLearner
from skillrl.learners.csd import CSD
from skillrl.learners.csf import CSF
from skillrl.learners.dads import DADS
from skillrl.learners.diayn import DIAYN
from skillrl.learners.lsd import LSD
from skillrl.learners.metra import METRA
from skillrl.moments import Standardizer
from skillrl.skill_policy import ReachesGoals
from skillrl.skill_spaces import Gaussian
from skillrl.spec import Batch, Field, Need, Spec

SPEC = Spec(Field((3,), names={"x": (0, 1), "rest": (1, 3)}), Field((2,)), horizon=50)
UNITS, ORIGIN = torch.tensor([1000.0, 0.01, 1.0]), torch.tensor([5.0, -0.02, 0.0])
ON: dict[str, Any] = {"normalize_obs": True}
LEARNERS: dict[Any, dict[str, Any]] = {
    METRA: {},
    LSD: {},
    CSD: {"skill_space": Gaussian(2)},
    CSF: {},
    DIAYN: ON | {"skill_space": Gaussian(2)},
}


class Collected:
    """As much of a replay as ``look`` takes."""

    def __init__(self, batch: Batch):
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["obs"])

    def sample(self, needs: dict[str, Need]) -> dict[str, Batch]:
        return {name: Batch(obs=self.batch["obs"][: need.batch_size]) for name, need in needs.items()}


def transitions(n: int = 512) -> Batch:
    generator = torch.Generator().manual_seed(1)
    obs, step, z = (torch.randn(n, d, generator=generator) for d in (3, 3, 2))
    action = torch.rand(n, 2, generator=generator) * 2 - 1
    return Batch(obs=obs, next_obs=obs + 0.1 * step, action=action, z=z / z.norm(dim=-1, keepdim=True),
                 discount=torch.full((n,), 0.99))  # fmt: skip


def measured_otherwise(batch: Batch) -> Batch:
    return batch.replace(**{key: batch[key] * UNITS + ORIGIN for key in ("obs", "next_obs")})


def learnt(make: Any, batch: Batch, **arguments: Any) -> DirectedLearner:
    torch.manual_seed(0)
    learner = make(SPEC, hidden_dims=(16,), policy_view="rest", **LEARNERS[make] | arguments)
    learner.generator.manual_seed(0)
    learner.look(Collected(batch))
    for _ in range(5):
        learner.update({"batch": batch})
    return learner


def apart(one: DirectedLearner, other: DirectedLearner) -> float:
    """How far two parameters are apart on average: Adam takes a whole step where a gradient is 0 but for rounding."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return float(torch.cat([(a - b).detach().abs().flatten() for a, b in pairs]).mean())


@pytest.mark.parametrize("make", LEARNERS, ids=lambda make: make.__name__)
def test_what_is_learnt_does_not_depend_on_units(make: Any):
    own, other = transitions(), measured_otherwise(transitions())
    differ = apart(learnt(make, own), learnt(make, other))
    raw = [learnt(make, batch, normalize_obs=False) for batch in (own, other)]
    assert differ < 1e-2 * apart(*raw)


@pytest.mark.parametrize("make", LEARNERS, ids=lambda make: make.__name__)
def test_nor_what_is_done_and_known_also_when_loaded(make: Any, tmp_path: Path):
    own, other = transitions(), measured_otherwise(transitions())
    first, second = (learnt(make, batch).policy for batch in (own, other))
    skill_library.save(second, tmp_path)
    for policy in (second, skill_library.load(tmp_path)):
        mine, theirs = (known(*one) for one in ((first, own), (policy, other)))
        for value, expected in zip(theirs, mine, strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-2, atol=1e-2)


def known(policy: Any, batch: Batch) -> list[Tensor]:
    """What it does, and which skill it takes for the one to a goal, or how likely for the one in use."""
    acts = policy.dist(batch["obs"][:, 1:], batch["z"]).mode()
    if isinstance(policy, ReachesGoals):
        return [acts, policy.goal_to_skill(batch["obs"], batch["next_obs"])]
    return [acts, policy.log_posterior(batch["next_obs"], batch["z"])]


def test_dads_weighs_in_the_units_that_it_acts_in():
    """Its dynamics have a normalisation of their own; its agent and its importance weights have this one."""
    torch.manual_seed(0)
    learner = DADS(SPEC, hidden_dims=(16,), policy_view="rest", normalize_obs=True)
    batch = measured_otherwise(transitions()).replace(reward=torch.zeros(512))
    learner.look(Collected(batch))
    action, drawn = learner.policy.act(batch["obs"][:, 1:], batch["z"], generator=learner.generator)
    torch.testing.assert_close(learner.importance(batch.replace(action=action, **drawn)), torch.ones(512))
    seen = learner.relabel(batch)["obs"]
    torch.testing.assert_close(seen.mean(0), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(2), rtol=0, atol=1e-4)


def test_units_are_those_of_what_came_before_the_first_update():
    state = pretrained(lambda spec: METRA(spec, hidden_dims=(8,), batch_size=16), seed=0, env_steps=1200)
    policy = state.learner.policy
    assert state.grad_steps > 10
    assert policy.normalizer.count == policy.goal_normalizer.count  # once, and of as many as there were
    assert 900 <= policy.normalizer.count <= 1000 < LOOKED_AT


def test_a_column_that_did_not_vary_keeps_its_unit_and_the_unseen_are_left_alone():
    values = torch.tensor([[1.0, 3.0], [5.0, 3.0]])
    standardizer = Standardizer(2)
    assert torch.equal(standardizer(values), values)
    standardizer.update(values)
    assert standardizer(values).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    assert standardizer(torch.tensor([3.0, 4.0])).tolist() == [0.0, 1.0]


def test_finetuning_goes_on_in_the_same_units(monkeypatch: pytest.MonkeyPatch):
    batch = measured_otherwise(transitions())
    skills = learnt(METRA, batch).policy
    for keep in ("actor", "none"):
        use = Finetune(env_steps=0, keep=keep, skill=0)
        learner = use.learner(SPEC, skills, None, dict)
        seen: list[Tensor] = []
        monkeypatch.setattr(learner.agent, "update", lambda given, _, seen=seen: seen.append(given["obs"]) or {})
        learner.update({"batch": batch.replace(reward=torch.zeros(len(batch["obs"])))})
        assert abs(float(seen[0].mean())) < 1e-4 and float(seen[0].std()) == pytest.approx(1, abs=1e-2)
        torch.testing.assert_close(learner.policy.normalizer.mean, skills.normalizer.mean)


def test_whole_numbers_are_refused_in_a_line():
    places = Spec(Field((4,), dtype="int64"), Field((2,)), horizon=50)
    with pytest.raises(ValueError, match=r"learner\.normalize_obs is true, but what is seen, .*: set it to false"):
        METRA(places, hidden_dims=(8,))
