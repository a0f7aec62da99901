"""On a GPU, where there is one: a captured update does what the same update does one by one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from test_cuda_graph import EAGER, OPTIONS, makers, world

from skillrl.checkpoint import Checkpoints
from skillrl.cuda_graph import WARMUP, CudaGraph
from skillrl.data.packing import moved
from skillrl.data.replay import Replay
from skillrl.precision import in_bfloat16
from skillrl.runtime import place, seed_everything, setup_runtime
from skillrl.spec import Spec
from skillrl.training import Schedule, State, Updating, begin, one_by_one, train
from train import build

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
COLLECT, WARM, ROUNDS = 8, 160, 3 * WARMUP


def trained(make: Any, updating: Updating, rounds: int = ROUNDS, folder: Path | None = None) -> State:
    """On the GPU, from seeds of its own; from what ``folder`` holds, and kept there."""
    device = setup_runtime(build({"_target_": "skillrl.runtime.Runtime", "device": "cuda"}))
    env = world()
    seed_everything(1)
    learner = place(make(), device, 1)
    data = Replay(1000, env.num_envs, gamma=learner.gamma, device=device, seed=1)
    schedule = Schedule(WARM + COLLECT * rounds, warmup=WARM, collect=COLLECT, updates=2)
    state = begin(env=env, learner=learner, data=data, schedule=schedule, seed=1)
    state.updating = updating
    if folder:
        Checkpoints(folder).restore(state)
    train(env=env, learner=learner, data=data, schedule=schedule, state=state)
    if folder:
        Checkpoints(folder).save(state)
    return state


def assert_alike(one: State, other: State) -> None:
    assert one.grad_steps == other.grad_steps > 2 * WARMUP
    theirs = other.learner.state_dict()
    for name, value in one.learner.state_dict().items():
        assert torch.equal(value, theirs[name]), name
        assert value.isfinite().all(), name
    for name, value in one.metrics.items():
        assert torch.equal(torch.as_tensor(value).float(), torch.as_tensor(other.metrics[name]).float()), name


def first_that_learns(group: str, name: str) -> Any:
    for make in makers(group, name, Spec.from_env(world())):
        needs = make().needs()
        if needs and not any(need.fresh for need in needs.values()):
            return make
    return None


@pytest.mark.parametrize(("group", "name"), [option for option in OPTIONS if option[1] not in EAGER])
def test_captured_is_one_by_one_bit_for_bit(group: str, name: str):
    make = first_that_learns(group, name)
    graph = CudaGraph()
    assert_alike(trained(make, graph), trained(make, one_by_one))
    assert graph.rounds > WARMUP


def test_captured_in_bfloat16_is_the_same_one_by_one():
    make = first_that_learns("learner", "diayn")
    assert_alike(trained(make, CudaGraph(in_bfloat16)), trained(make, in_bfloat16))


def test_a_captured_run_that_is_stopped_goes_on_bit_for_bit(tmp_path: Path):
    make = first_that_learns("learner", "diayn")
    trained(make, CudaGraph(), ROUNDS // 2, tmp_path)
    assert_alike(trained(make, CudaGraph(), ROUNDS, tmp_path), trained(make, CudaGraph()))


def test_what_is_packed_arrives_as_it_was():
    values = {
        "flag": torch.tensor([True, False, True]),
        "obs": torch.randn(3, 5),
        "row": torch.arange(3),
        "pixel": torch.arange(9, dtype=torch.uint8).reshape(3, 3),
        "half": torch.randn(3).half(),
        "there": torch.randn(3, device="cuda"),
    }
    found = moved(values, torch.device("cuda"))
    for name, value in values.items():
        assert found[name].is_cuda and torch.equal(found[name].cpu(), value.cpu()), name
