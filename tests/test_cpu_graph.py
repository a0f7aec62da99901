"""What is noted and done again does what the same does one by one, to the bit: updates, and actions. That every
learner's do, test_resume.py sees in its run."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from test_cuda_graph import EAGER, OPTIONS, filled, makers, world
from torch import Tensor

from skillrl.cpu_graph import WARMUP, CpuAct, CpuGraph
from skillrl.data.replay import Replay
from skillrl.learners.diayn import DIAYN
from skillrl.noted import Noted, Watching
from skillrl.precision import in_bfloat16
from skillrl.runtime import place, seed_everything
from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import Discrete
from skillrl.spec import Need, Spec
from skillrl.training import Schedule, State, Updating, begin, one_by_one, train

WARM, ROUNDS = 160, 6
SLOW = {"imagined"}  # at its paper's sizes
CONTROLLERS = [name for group, name in OPTIONS if group == "controller" and name not in EAGER | SLOW]


def trained(make: Any, updating: Updating) -> State:
    """For a few updates, from seeds of its own."""
    env = world()
    seed_everything(1)
    learner = place(make(), torch.device("cpu"), 1)
    data = Replay(1000, env.num_envs, gamma=learner.gamma, seed=1)
    schedule = Schedule(WARM + 8 * ROUNDS, warmup=WARM, collect=8, updates=2)
    state = begin(env=env, learner=learner, data=data, schedule=schedule, seed=1)
    state.updating = updating
    return train(env=env, learner=learner, data=data, schedule=schedule, state=state)


def assert_alike(one: State, other: State) -> None:
    assert one.grad_steps == other.grad_steps > 2 * WARMUP
    theirs = other.learner.state_dict()
    for name, value in one.learner.state_dict().items():
        assert torch.equal(value, theirs[name]), name
    assert one.metrics.keys() == other.metrics.keys()
    for name, value in one.metrics.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.metrics[name])), name


def small(kind: type[DIAYN] = DIAYN) -> Any:
    return lambda: kind(Spec.from_env(world()), skill_space=Discrete(3), hidden_dims=[8], batch_size=8)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_of_every_controller(name: str):
    for make in makers("controller", name, Spec.from_env(world())):
        graph = CpuGraph()
        assert_alike(trained(make, graph), trained(make, one_by_one))
        assert graph.update.trusted


def test_in_bfloat16():
    graph = CpuGraph(in_bfloat16)
    assert_alike(trained(small(), graph), trained(small(), in_bfloat16))
    assert graph.update.trusted


def test_results_that_are_done_with_leave_their_memory_to_later_ones():
    graph = CpuGraph()
    trained(small(), graph)
    assert graph.update.noted is not None
    pieces = list(graph.update.noted.memory.values())
    assert len({piece.data_ptr() for piece in pieces}) < len(pieces) / 2
    assert len(graph.update.noted.steps) < 300


class Counting(DIAYN):
    """Does something else each time, which no tensor says."""

    made = 0

    def intrinsic_reward(self, batch: Any) -> Tensor:
        self.made += 1
        return super().intrinsic_reward(batch) * self.made


class Looking(DIAYN):
    """Does what a tensor's value says."""

    def intrinsic_reward(self, batch: Any) -> Tensor:
        reward = super().intrinsic_reward(batch)
        return reward if reward.mean() > 0 else -reward


class Choosing(DIAYN):
    """Its shapes are what tensors' values say."""

    def intrinsic_reward(self, batch: Any) -> Tensor:
        reward = super().intrinsic_reward(batch)
        return reward - reward[reward > reward.mean()].mean()


@pytest.mark.parametrize(
    ("kind", "why"),
    [(Looking, "looks at a tensor's value"), (Choosing, "looks at a tensor's value"), (Counting, "not do the same")],
)
def test_what_cannot_be_noted_is_told_and_made_anew(kind: type[DIAYN], why: str, caplog: pytest.LogCaptureFixture):
    graph = CpuGraph()
    state = trained(small(kind), graph)
    assert graph.update.noted is None and not graph.update.trusted
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"runtime.graph: updates of {kind.__name__} are made anew") and why in said
    caplog.clear()
    if kind is not Counting:  # its count includes the update that was taken back
        assert_alike(state, trained(small(kind), one_by_one))


def test_another_batch_size_and_another_learner_are_learnt_from_as_ever():
    env = world()
    data = filled(small()(), env, small()().needs())

    def after(updating: Updating) -> list[dict[str, Tensor]]:
        learners = []
        for sizes in ((8, 8, 5, 8), (8,)):
            seed_everything(2)
            learners.append(place(small()(), torch.device("cpu"), 2))
            data.generator.manual_seed(3)
            for size in sizes:
                updating(learners[-1], data, {"batch": Need("transitions", size)}, WARMUP + 3)
        return [learner.state_dict() for learner in learners]

    for found, wanted in zip(after(CpuGraph()), after(one_by_one), strict=True):
        assert all(torch.equal(value, wanted[name]) for name, value in found.items())


def test_what_is_fresh_is_learnt_from_without_it():
    class Both:
        updates = 0

        def update(self, batches: Any) -> dict[str, Tensor]:
            self.updates += 1
            return {}

        def sample(self, needs: Any) -> dict[str, Any]:
            return {}

    both: Any = Both()
    CpuGraph()(both, both, {"fresh": Need("fresh", 8)}, 2)
    assert both.updates == 2


def test_a_large_update_is_made_anew_and_nothing_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr("skillrl.noted.LARGEST", 1000)
    graph = CpuGraph()
    assert_alike(trained(small(), graph), trained(small(), one_by_one))
    assert graph.update.noted is None and not caplog.records


def test_views_are_not_noted():
    x = torch.randn(4, 6)
    with Watching() as watching:
        y = (x.t()[:3] * 2).unsqueeze(0).detach()
        y.add_(1)
    assert [str(each.call) for each in watching.operations] == ["aten.mul.Tensor", "aten.add_.Tensor"]
    assert watching.size > 0 and not watching.too_large


def test_operations_of_every_form_are_done_again():
    """Several results, a change beside a result, memory that is filled later, constants, and draws."""
    aten, generator = torch.ops.aten, torch.Generator().manual_seed(1)
    x, mean, var = torch.randn(6, 4), torch.zeros(4), torch.ones(4)

    def work() -> dict[str, Tensor]:
        normal, *_ = aten._native_batch_norm_legit(x, None, None, mean, var, True, 0.1, 1e-5)
        top = normal.topk(2, dim=0)
        filled = torch.empty(3, 4).fill_(2.0)
        filled[0] = top.values[0] * torch.arange(4)
        drawn = torch.randint(6, (5,), generator=generator)
        x[drawn] += torch.randn(5, 4, generator=generator)
        return {"a": filled.sum(), "b": x[top.indices].max(), "c": torch.nn.functional.mse_loss(normal, x)}

    with Watching() as watching:
        metrics = work()
    noted = Noted(watching.operations, metrics, [])
    before = noted.state()
    assert len(before) == 4  # x, mean, var; the generator
    wanted = [{name: value.clone() for name, value in work().items()} for _ in range(2)]
    after = noted.state()
    noted.restore(before)
    found = [{name: value.clone() for name, value in noted().items()} for _ in range(2)]
    assert wanted == found
    assert all(torch.equal(*pair) for pair in zip(after, noted.state(), strict=True))
    assert not torch.equal(before[0], after[0])


def test_what_nobody_needs_is_left_out_unless_it_draws():
    x, generator = torch.ones(3), torch.Generator().manual_seed(1)

    def work() -> dict[str, Tensor]:
        (x + 1).exp().sum()
        torch.randn(2, generator=generator)
        torch.zeros(3).add_(x)
        x.mul_(2)
        return {"a": x.sum()}

    with Watching() as watching:
        metrics = work()
    noted = Noted(watching.operations, metrics, [])
    assert len(noted.steps) == 3  # the draw, the change and what came of it
    assert noted()["a"] == 12 and x[0] == 4


def test_what_is_done_with_is_written_over_where_it_lies_alike():
    weight, x = torch.randn(4, 4, requires_grad=True), torch.randn(4, 4)

    def work() -> dict[str, Tensor]:
        weight.grad = None
        once = x @ x  # in memory of its own
        twice = once * 2  # there
        loss = (weight * twice.tanh()).sum()
        other = twice.t() + twice  # elsewhere: there it would read what it has written
        loss.backward()  # the gradient is no copy
        assert weight.grad is not None
        return {"a": other.sum(), "b": weight.grad.sum()}

    with Watching() as watching:
        metrics = work()
    noted = Noted(watching.operations, metrics, [])
    assert not any("copy" in step.func.__name__ for step in noted.steps if isinstance(step, partial))
    pieces = {piece.data_ptr() for piece in noted.memory.values() if piece.nbytes() == x.nbytes}
    assert len(pieces) == 3, len(pieces)
    found = noted()
    assert all(torch.equal(found[name], value) for name, value in metrics.items())


def actions(act: Any, policy: SkillPolicy, times: int, n: int = 5) -> list[Tensor]:
    """Of observations and skills that change, with weights that do."""
    given, drawn, found = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2), []
    with torch.no_grad():
        for _ in range(times):
            obs, z = torch.randn(n, policy.obs.dim, generator=given), policy.space.sample(n, given)
            action, extras = act(obs, z, generator=drawn)
            found += [action, *extras.values()]
            for parameter in policy.parameters():
                parameter.mul_(1.01)
    return found


def test_actions():
    made = [small()() for _ in range(2)]
    made[1].load_state_dict(made[0].state_dict())
    one, other = (learner.policy for learner in made)
    graph = CpuAct(one)
    found, wanted = actions(graph, one, WARMUP + 5), actions(other.act, other, WARMUP + 5)
    assert graph.act.trusted
    assert all(map(torch.equal, found, wanted)) and not torch.equal(found[-1], found[-2])
    assert all(map(torch.equal, actions(graph, one, 9, n=2), actions(other.act, other, 9, n=2)))  # fewer rows
    where = torch.zeros(2, one.obs.dim), torch.tensor([1, 2])
    assert torch.equal(graph(*where, deterministic=True)[0], other.act(*where, deterministic=True)[0])


class Elsewhere(SkillPolicy):
    """Asks numpy, as policies of other libraries do; here for the same each time."""

    def act(self, obs: Tensor, z: Tensor, carry: Any = (), **how: Any) -> tuple[Tensor, dict[str, Tensor]]:
        seen = obs.numpy()
        return torch.as_tensor(np.sign(seen[:, :2] ** 2)).float() + 0, {}


def test_actions_that_torch_does_not_see_made_are_made_anew(caplog: pytest.LogCaptureFixture):
    spec = Spec.from_env(world())
    policy = Elsewhere(obs=spec.obs, action=spec.action, space=Discrete(3))
    graph = CpuAct(policy)
    actions(graph, policy, WARMUP + 3)
    assert not graph.act.trusted and "actions of Elsewhere are made anew" in caplog.text
    assert graph(torch.zeros(5, policy.obs.dim), torch.zeros(5))[0].max() == 0
