"""Updates in bfloat16: what is rounded, what is not, and that every learner takes it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from checks import Check
from test_configs import composed, of, option, plain
from test_cuda_graph import filled, world
from test_diayn import K, discriminability, mean_reward, pretrained
from torch import Tensor, nn
from torch.nn import functional as F

import train as train_script
from skillrl import precision
from skillrl.config import complete
from skillrl.cpu_graph import CpuGraph
from skillrl.cuda_graph import CudaGraph
from skillrl.layers import mlp
from skillrl.learners.diayn import DIAYN
from skillrl.precision import hidden_layers, in_bfloat16, product, rounded, updating
from skillrl.resume import change, set_runtime
from skillrl.runtime import Runtime, place, seed_everything
from skillrl.settings import differences, fingerprint, settings
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Spec
from skillrl.training import one_by_one
from train import build

# ---- what is rounded


def by_hand(layer: nn.Linear, x: Tensor) -> Tensor:
    """Factors rounded, summed in double, the result rounded."""
    x, weight, bias = (value.bfloat16().double() for value in (x, layer.weight, layer.bias))
    return (x @ weight.T + bias).bfloat16().float()


def test_the_product_against_its_definition():
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 64), torch.randn(32, 96)
    found = product(layer, x)
    assert found.dtype == torch.float32
    # sums in another order may fall on the other side of a rounding: one unit of bfloat16's eight bits
    assert torch.allclose(found, by_hand(layer, x), rtol=2**-7, atol=1e-4)
    exact = F.linear(x, layer.weight, layer.bias)
    assert 0 < (found - exact).abs().max() < 0.05
    with torch.no_grad():
        assert torch.equal(product(layer, x), exact), "without a gradient nothing is rounded"
    unbiased = nn.Linear(96, 64, bias=False)
    assert product(unbiased, x).shape == (32, 64)


def test_gradients_are_those_of_the_rounded_product_and_float32():
    torch.manual_seed(0)
    layer, x = nn.Linear(96, 64), torch.randn(32, 96, requires_grad=True)
    back = torch.randn(32, 64)
    product(layer, x).backward(back)
    assert x.grad is not None and layer.weight.grad is not None and layer.bias.grad is not None
    g, w, seen = back.bfloat16().double(), layer.weight.bfloat16().double(), x.detach().bfloat16().double()
    assert torch.allclose(layer.weight.grad.double(), g.T @ seen, rtol=2**-7, atol=1e-2)
    assert torch.allclose(x.grad.double(), g @ w, rtol=2**-7, atol=1e-2)
    assert {layer.weight.grad.dtype, layer.bias.grad.dtype, x.grad.dtype} == {torch.float32}


def test_only_what_lies_between_hidden_layers_is_rounded_and_only_for_a_while():
    torch.manual_seed(0)
    network = nn.ModuleList([mlp(4, [16, 16, 16], 2), mlp(4, [16], 2), nn.Linear(4, 4)])
    inner = list(hidden_layers(network))
    assert inner == [network[0][2], network[0][4]]
    x = torch.randn(8, 4)
    exact = network[0](x)
    with pytest.raises(RuntimeError), rounded(inner):
        assert not torch.equal(network[0](x), exact) and torch.allclose(network[0](x), exact, atol=0.05)
        with torch.no_grad():
            assert torch.equal(network[0](x), exact)
        raise RuntimeError
    assert torch.equal(network[0](x), exact) and all("forward" not in vars(layer) for layer in inner)


def test_rewards_and_targets_are_exact():
    torch.manual_seed(0)
    spec = Spec.from_env(world())
    learner = DIAYN(spec, skill_space=Discrete(3), hidden_dims=(32, 32))
    obs, next_obs = torch.randn(2, 16, spec.obs.dim)
    batch = Batch(obs=obs, next_obs=next_obs, z=torch.arange(16) % 3, action=torch.zeros(16, 2))
    batch = batch.replace(discount=torch.ones(16), reward=torch.randn(16))

    def learnt_from() -> list[Tensor]:
        noise = torch.Generator().manual_seed(0)
        return [learner.relabel(batch)["reward"], learner.agent.target(batch, torch.tensor(0.1), noise)]

    def learnt() -> Tensor:
        return learner.agent.critic(obs, batch["z"], batch["action"])

    exact = [*learnt_from(), learnt()]
    with rounded(hidden_layers(learner)):
        found = [*learnt_from(), learnt()]
    assert [torch.equal(one, other) for one, other in zip(found, exact)] == [True, True, False]


# ---- who takes it


NOTHING_HIDDEN = {"option_critic", "primitive"}
"""Learners without a product between hidden layers: of linear options, or of no network."""


SMALL = {"hidden_dims": [16, 16], "encoder_dims": [16, 16], "batch_size": 64, "starts": 8, "length": 4, "horizon": 4}
SMALL |= dict.fromkeys(("deter", "hidden"), 16) | dict.fromkeys(("stoch", "classes", "neighbours"), 4)


def small(node: Any) -> Any:
    """A learner's node with narrow networks and small batches; of linear options it stays linear."""
    if not isinstance(node, dict):
        return node
    return {key: SMALL[key] if key in SMALL and value != [] else small(value) for key, value in node.items()}


def learnt(name: str, how: Any) -> tuple[Any, dict[str, Tensor]]:
    """The learner of one option after two rounds of two updates (of one, where it wants what is fresh)."""
    env = world(name)
    seed_everything(0)
    learner = place(build(small(option(f"learner/{name}")), Spec.from_env(env)), "cpu", 0)
    needs = learner.needs()
    data = filled(learner, env, needs) if needs else None
    metrics: dict[str, Tensor] = {}
    for _ in range(2 if needs else 0):
        fresh = any(need.fresh for need in needs.values())
        if fresh and not data.ready(needs):
            break
        metrics = how(learner, data, needs, 1 if fresh else 2)
    return learner, metrics


@pytest.mark.parametrize("name", of("learner"))
def test_every_learner_learns_in_bfloat16(name: str, monkeypatch: pytest.MonkeyPatch):
    rounds: list[bool] = []

    def counted(layer: nn.Linear, inputs: Tensor) -> Tensor:
        rounds.append(torch.is_grad_enabled())
        found = product(layer, inputs)
        assert found.dtype == inputs.dtype == torch.float32
        return found

    monkeypatch.setattr(precision, "product", counted)
    learner, metrics = learnt(name, in_bfloat16)
    assert (True in rounds) == (name not in NOTHING_HIDDEN), "products with a gradient"
    exact, wanted = learnt(name, one_by_one)
    found, theirs = ({**one.state_dict(), **told} for one, told in ((learner, metrics), (exact, wanted)))
    assert {key: value.dtype for key, value in found.items()} == {key: value.dtype for key, value in theirs.items()}
    assert torch.bfloat16 not in {value.dtype for value in found.values()}
    for key, value in found.items():  # a bound may be infinite, and stays so
        assert torch.equal(value.isfinite(), theirs[key].isfinite()), key
    assert all(value.isfinite().all() for value in (*learner.parameters(), *metrics.values()))
    optimizers = [one for one in vars(learner).values() if isinstance(one, torch.optim.Optimizer)]
    moments = [value for one in optimizers for state in one.state.values() for value in state.values()]
    assert all(value.dtype == torch.float32 for value in moments)
    if name not in NOTHING_HIDDEN:
        assert any(not torch.equal(value, theirs[key]) for key, value in found.items()), "it makes a difference"


def test_float32_is_one_by_one_and_a_graph_holds_either():
    ways = {"float32": one_by_one, "bfloat16": in_bfloat16}
    for name, way in ways.items():
        assert updating(Runtime(precision=name, graph=False)) is way
        for device, graph in (("cpu", CpuGraph), ("cuda", CudaGraph)):
            found = updating(Runtime(device=device, precision=name))
            assert isinstance(found, graph) and found.updating is way


# ---- a run


RUN = ["learner.hidden_dims=[8,8]", "learner.batch_size=8", "pretrain.warmup=80", "evaluate=false", "logger.every=80"]


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["train.py", *arguments])
    return train_script.main()


def test_a_run_learns_something_else_in_bfloat16_and_goes_on_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    asked = {"exact": [], "long": ["runtime.precision=bfloat16"], "short": ["runtime.precision=bfloat16"]}
    for name, more in asked.items():
        budget = f"pretrain.env_steps={160 if name == 'short' else 320}"
        assert main(monkeypatch, *RUN, budget, *more, f"hydra.run.dir={tmp_path / name}") == 0
    assert main(monkeypatch, f"resume={tmp_path / 'short'}", "runtime.precision=float32") == 2
    assert "this run learns in bfloat16, and with resume it goes on so" in capsys.readouterr().err
    assert main(monkeypatch, f"resume={tmp_path / 'short'}", "runtime=cpu", "pretrain.env_steps=320") == 0
    models = {name: (tmp_path / name / "skills" / "model.safetensors").read_bytes() for name in asked}
    assert models["short"] == models["long"] != models["exact"]


def test_guests_make_their_own_updates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    guest = ["downstream=control", "controller=sb3", "runtime.precision=bfloat16", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(monkeypatch, *RUN, *guest) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("error: runtime.precision is bfloat16, but this controller is of a library")
    assert not (tmp_path / "run").exists()


def test_another_precision_is_another_setting():
    config = plain_config()
    older = {**config, "runtime": {key: value for key, value in config["runtime"].items() if key != "precision"}}
    other = plain_config("runtime.precision=bfloat16")
    assert fingerprint(settings(older)) == fingerprint(settings(config)) != fingerprint(settings(other))
    assert settings(other) == settings(config) | {"runtime.precision": "bfloat16"}
    assert differences(settings(other), settings(config)) == ["runtime.precision is bfloat16, not not set"]
    assert not any(key.startswith("runtime") for key in settings(config))


def test_another_machine_keeps_the_precision():
    config = plain_config("runtime.precision=bfloat16")
    set_runtime(config, yaml.safe_load((train_script.CONF / "runtime" / "cpu.yaml").read_text()))
    assert config["runtime"]["precision"] == "bfloat16"
    assert not change(config, "runtime.precision=bfloat16", train_script.CONF)


def plain_config(*overrides: str) -> dict[str, Any]:
    return complete(plain(composed("train", *overrides)))


# ---- learning


@pytest.mark.learning("skillrl/precision.py")
def test_bfloat16_keeps_what_diayn_learns(seed: int, check: Check):
    """The gates of float32; its twins are in test_diayn.py."""
    learner = pretrained(DIAYN, Discrete(K), seed, in_bfloat16)
    measured = {"reward": (mean_reward(learner, seed), f">= {0.7 * math.log(K):.4f}")}
    check(measured | {"discriminability": (discriminability(learner, seed), ">= 0.8")})
