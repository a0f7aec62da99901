"""What a CUDA graph asks of an update, checked without a GPU: on the meta device nothing has a value, so whatever would
wait for the GPU, branch on a value, or mix in a tensor of the host, raises."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_configs import of, option

from skillrl.cuda_graph import CudaGraph, generators
from skillrl.data.replay import Replay
from skillrl.data.ring import Ring
from skillrl.errors import BadInput, bad_input
from skillrl.learners.base import Learner
from skillrl.learners.choreographer import ChoreographerPolicy
from skillrl.precision import in_bfloat16
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Box, Codebook, Discrete, Hybrid
from skillrl.spec import Batch, Field, Need, Spec
from skillrl.training import Schedule, begin, one_by_one, play
from train import build

OPTIONS = [
    *(("learner", name) for name in of("learner")),
    *(("controller", name) for name in of("controller") if name != "sb3"),  # a guest makes its own updates
]
EAGER = {"ppo", "random", "primitive", "valor", "option_critic", "zero_shot", "planner", "skill_blender"}
"""That learn nothing, or from what is fresh, which has no fixed shape."""


TEAMS, CHOICES = {"masd"}, {"h_dqn"}
"""That are for teams alone, and for discrete actions alone."""


def world(name: str = "") -> Any:
    body = "sides" if name in TEAMS else "rooms" if name in CHOICES else "point"
    return build({**option(f"env/{body}"), "num_envs": 4, "horizon": 8})


def skills(space: Any, spec: Spec) -> SkillPolicy:
    """Codes come with a world model."""
    shapes: dict[str, Any] = {"obs": spec.obs, "action": spec.action, "space": space, "hidden_dims": [8]}
    if isinstance(space, Codebook):
        return ChoreographerPolicy(depth=2, deter=4, stoch=2, classes=2, hidden=4, **shapes)
    return ActorPolicy(**shapes)


def makers(group: str, name: str, spec: Spec) -> Iterator[Any]:
    """Functions that build it; controllers over skills of every kind that they take."""
    if group == "learner":
        yield lambda: build(option(f"learner/{name}"), spec)
        return
    for space in (Discrete(3), Box(2), Hybrid(2, 2), Codebook(3, 2)):
        try:
            with bad_input("controller"):
                build(option(f"controller/{name}"), spec, skills(space, spec))
        except BadInput:
            continue
        node = option(f"controller/{name}")
        node = {**node, "hold": 2} if "hold" in node else node
        yield lambda node=node, space=space: build(node, spec, skills(space, spec))


def filled(learner: Learner, env: Any, needs: dict[str, Need]) -> Replay:
    """With what a real run would have for one update."""
    data = Replay(400, env.num_envs, gamma=learner.gamma)
    state = begin(env=env, learner=learner, data=data, schedule=Schedule(400, collect=env.num_envs, updates=0))
    while not data.ready(needs):
        play(state)
    return data


def to_meta(data: Replay) -> None:
    """Move all that it holds; adding needs values, sampling must not."""

    def moved(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to("meta")
        if isinstance(value, torch.device):
            return torch.device("meta")
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if isinstance(value, Ring):
            vars(value).update(moved(vars(value)))
        return value

    vars(data).update(moved(vars(data)) | {"generator": None})


def copying(*_: Any, **__: Any) -> Any:
    raise AssertionError("an update copies from the host, which no graph can capture")


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_an_update_never_looks_at_a_value(group: str, name: str, monkeypatch: pytest.MonkeyPatch):
    env, tried = world(name), 0
    for make in makers(group, name, Spec.from_env(env)):
        learner = make()
        if not learner.needs() or any(need.fresh for need in learner.needs().values()):
            continue
        data = filled(learner, env, learner.needs())
        to_meta(data)
        with torch.device("meta"):
            abroad = make()
        for module in abroad.modules():
            if hasattr(module, "generator"):
                module.generator = None
        one_by_one(abroad, data, learner.needs(), 1)  # what is copied once and kept may be copied now
        with monkeypatch.context() as patch:
            for maker in ("tensor", "as_tensor", "from_numpy"):
                patch.setattr(torch, maker, copying)
            metrics = one_by_one(abroad, data, learner.needs(), 2)
            in_bfloat16(abroad, data, learner.needs(), 1)
        assert metrics and all(value.device.type == "meta" and value.dim() == 0 for value in metrics.values())
        tried += 1
    assert bool(tried) != (name in EAGER)


@pytest.mark.parametrize(
    "need",
    [
        Need("transitions", 8),
        Need("transitions", 8, future=0.9),
        Need("sequences", 8, length=5),
        Need("episodes", 8, length=8),
        Need("decisions", 8, length=3),
        Need("transitions", 8, repeats=3),
    ],
)
def test_sampling_never_looks_at_a_value(need: Need):
    env = world()
    learner = build(
        {**option("controller/dqn"), "hold": 2}, Spec.from_env(env), skills(Discrete(3), Spec.from_env(env))
    )
    data = filled(learner, env, {"it": need})
    wanted = data.sample({"it": need})["it"]
    to_meta(data)
    found = data.sample({"it": need})["it"]
    for one, other in zip(*([x] if isinstance(x, Batch) else x for x in (wanted, found)), strict=True):
        assert {k: (v.shape, v.dtype) for k, v in one.items()} == {k: (v.shape, v.dtype) for k, v in other.items()}


def test_every_generator_of_an_update_is_known():
    """One that the graph does not know would draw the same numbers at every replay."""
    learner, data = build(option("learner/diayn"), Spec(Field((3,)), Field((2,)), horizon=5)), Replay(100, 2)
    assert generators(learner, data) == [data.generator, learner.generator]


def test_what_is_fresh_is_learnt_from_without_a_graph():
    class Counting:
        updates = 0

        def update(self, batches: Any) -> dict[str, torch.Tensor]:
            self.updates += 1
            return {}

        def sample(self, needs: Any) -> dict[str, Any]:
            return {}

    both: Any = Counting()
    CudaGraph()(both, both, {"fresh": Need("fresh", 8)}, 2)
    assert both.updates == 2
