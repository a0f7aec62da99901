"""SkillBlender: shares sum to 1, one skill is itself, gradients pass through what stays as it is."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_uses import main, rows
from torch import Tensor

from envs.arm_goals import ArmDrive, ArmFarReach, ArmReach
from skillrl.agents.ppo import PPO
from skillrl.agents.sac import SAC
from skillrl.composition.blending import Blend, Commanded, union
from skillrl.config import located
from skillrl.controllers.skill_blender import SkillBlender
from skillrl.data.replay import Replay
from skillrl.errors import BadInput
from skillrl.learners.primitive import PrimitivePolicy
from skillrl.networks import OnPolicyActor
from skillrl.resume import check_same
from skillrl.skill_library import save
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Box, Discrete, Sphere
from skillrl.spec import Field, Spec
from skillrl.training import Schedule, train

OBS = Field((7,), names={"xy": (0, 2), "goal": (2, 4), "rest": (4, 7)})
ACTION = Field((3,))


class Linear(SkillPolicy):
    """Its mode is a matrix times what it sees, and z where it has one."""

    def __init__(self, matrix: Tensor, obs: Field = OBS, space: Any = Discrete(1), action: Any = ACTION):
        super().__init__(obs=obs, action=action, space=space)
        self.matrix = torch.nn.Parameter(matrix)

    def dist(self, obs: Tensor, z: Tensor, carry: Any = ()) -> Any:
        return Certain(torch.cat([obs, self.space.embed(z)], -1) @ self.matrix)


class Certain:
    def __init__(self, action: Tensor):
        self.mode = lambda: action


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def blend_of(*skills: SkillPolicy, weights: str = "joint", reach: float = 2.0) -> Blend:
    return Blend([Commanded(one, name="skills", goal="goal", reach=reach) for one in skills], weights=weights)


def two() -> list[SkillPolicy]:
    return [Linear(drawn(7, 3, seed=1)), Linear(drawn(7, 3, seed=2))]


# ---- the blend


@pytest.mark.parametrize(("weights", "joints"), [("joint", 3), ("skill", 1)])
def test_the_shares_of_each_joint_sum_to_one(weights: str, joints: int):
    blend = blend_of(*two(), Linear(drawn(7, 3, seed=3)), weights=weights)
    assert blend.space.embed_dim == 3 * 2 + 3 * joints
    shares = blend.shares(10 * drawn(50, blend.space.embed_dim))
    assert shares.shape == (50, 3, joints) and (shares >= 0).all()
    assert torch.allclose(shares.sum(1), torch.ones(50, joints), atol=1e-6)
    assert (shares.max(1).values > 0.99).any() and (shares.std(0) > 0.1).all()


@pytest.mark.parametrize("weights", ["joint", "skill"])
def test_the_average_is_that_of_a_case_by_hand(weights: str):
    skills = two()
    blend = blend_of(*skills, weights=weights, reach=2.0)
    obs, command = drawn(4, 5), torch.tensor([0.5, -3.0, 1.0, 0.25])
    w = torch.tensor([[1.0, 0.0, -2.0], [0.0, 0.5, 3.0]]) if weights == "joint" else torch.tensor([[1.0], [-0.5]])
    z = torch.cat([command, w.flatten()]).expand(4, -1)
    assert blend.obs.names == {"xy": (0, 2), "rest": (2, 5)}
    expected = torch.zeros(4, 3)
    for i, (skill, goal) in enumerate(zip(skills, ([1.0, -2.0], [2.0, 0.5]), strict=True)):  # clamped, times 2
        seen = torch.cat([obs[:, :2], torch.tensor(goal).expand(4, -1), obs[:, 2:]], -1)
        expected += (w.exp() / w.exp().sum(0))[i] * (seen @ skill.matrix)
    assert torch.allclose(blend.mean(obs, z), expected, atol=1e-5)
    action, extras = blend.act(obs, z)
    assert torch.equal(action, blend.mean(obs, z).clamp(-1, 1)) and not extras


def test_skills_see_their_own_columns_and_z_is_a_command_too():
    """Of other orders and parts; a skill without a goal is told its z, one with both is told both."""
    turned = Field((5,), names={"rest": (0, 3), "goal": (3, 5)})
    free = Field((2,), names={"xy": (0, 2)})
    skills = [
        Linear(drawn(5, 3, seed=1), turned),
        Linear(drawn(2 + 4, 3, seed=2), free, Box(4)),
        Linear(drawn(7 + 2, 3, seed=3), OBS, Sphere(2)),
    ]
    blend = blend_of(*skills, reach=1.0)
    assert blend.obs.names == {"rest": (0, 3), "xy": (3, 5)}
    obs, z = drawn(6, 5), torch.cat([drawn(6, 2 + 4 + 4).clamp(-1, 1), torch.zeros(6, 9)], -1)
    rest, xy, (a, b, c, _) = obs[:, :3], obs[:, 3:], z.split([2, 4, 4, 9], -1)
    direction = c[:, 2:] / c[:, 2:].norm(dim=-1, keepdim=True)
    modes = [
        torch.cat([rest, a], -1) @ skills[0].matrix,
        torch.cat([xy, b], -1) @ skills[1].matrix,
        torch.cat([xy, c[:, :2], rest, direction], -1) @ skills[2].matrix,
    ]
    assert torch.allclose(blend.mean(obs, z), sum(modes) / 3, atol=1e-5)


def test_what_cannot_be_blended_is_refused_in_a_line():
    def refused(line: str, *skills: SkillPolicy, **settings: Any) -> None:
        with pytest.raises(ValueError, match=line):
            blend_of(*skills, **settings)

    no_goal = Field((2,), names={"xy": (0, 2)})
    matrix, policy = drawn(7, 3), {"obs": OBS, "action": ACTION, "hidden_dims": [4]}
    refused(
        "skills: blending needs skills of a box action, and of a continuous z", ActorPolicy(space=Discrete(3), **policy)
    )
    refused("skills: blending needs skills that can be told something, by 'goal' or by z", Linear(drawn(2, 3), no_goal))
    refused("that give a distribution", PrimitivePolicy(obs=OBS, action=ACTION, space=Box(3)))
    refused(r"skill 1 acts with", *two()[:1], Linear(drawn(7, 2), action=Field((2,))))
    refused(
        "'xy' is 2 wide for one of the skills",
        Linear(drawn(5, 3), Field((5,), names={"xy": (0, 3), "goal": (3, 5)})),
        Linear(matrix),
    )
    refused(r"controller.weights is 'all': it can be joint, skill", *two(), weights="all")
    with pytest.raises(ValueError, match="no named parts"):
        union([OBS, Field((3,))])


# ---- the controller


def spec_of(make: Any = ArmFarReach) -> Spec:
    with closing(make(num_envs=1)) as env:
        return Spec.from_env(env)


def fresh(make: Any, seed: int = 0) -> ActorPolicy:
    """A primitive that has learnt nothing, by PPO's actor; its last layer as large as others."""
    torch.manual_seed(seed)
    spec = spec_of(make)
    policy = ActorPolicy(obs=spec.obs, action=spec.action, space=Discrete(1), hidden_dims=[16], actor=OnPolicyActor)
    with torch.no_grad():
        policy.actor.net[-1].weight.mul_(30)
    return policy


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    return [str(save(fresh(make, i), tmp_path / str(i))) for i, make in enumerate((ArmDrive, ArmReach))]


SMALL: dict[str, Any] = {"hidden_dims": [16], "critic_dims": [16], "batch_size": 64}
SMALL_PPO = partial(PPO, minibatch_size=32, n_epochs=2, lr=1e-2)


def controller(*primitives: str, make: Any = ArmDrive, **settings: Any) -> SkillBlender:
    first = fresh(make)
    torch.manual_seed(5)
    return SkillBlender(spec_of(), first, primitives=primitives, **{"agent": SMALL_PPO, **SMALL, **settings})


def saying(learner: SkillBlender, z: Tensor) -> None:
    """f says ``z`` everywhere."""
    last = learner.blended.actor.net[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(z)


@pytest.mark.parametrize("weights", ["joint", "skill"])
def test_with_one_skill_it_is_that_skill(weights: str):
    learner = controller(ranges=[2.0], weights=weights)
    saying(learner, torch.cat([torch.tensor([0.3, -0.6]), drawn(6 if weights == "joint" else 1)]))
    spec = spec_of()
    obs = drawn(20, spec.obs.dim)
    goal = slice(*spec.obs.names["goal"])
    told = obs.clone()
    told[:, goal] = torch.tensor([0.6, -1.2])
    skill = fresh(ArmDrive)
    seen = told[:, spec.obs.columns(skill.obs)]
    nothing = torch.zeros(20, dtype=torch.int64)
    ours, theirs = (p.act(o, nothing, deterministic=True)[0] for p, o in ((learner.behaviour(), obs), (skill, seen)))
    assert torch.equal(ours, theirs) and (theirs.abs() > 0.1).any() and theirs.std(0).min() > 0.01
    assert not torch.equal(ours, skill.act(obs[:, spec.obs.columns(skill.obs)], nothing, deterministic=True)[0])


def test_a_weight_far_above_leaves_a_joint_to_one_skill(folders: list[str]):
    learner = controller(folders[1], ranges=[1.0])
    w = torch.full((2, 6), -100.0)
    chosen = [0, 1, 1, 0, 1, 0]
    w[chosen, range(6)] = 100.0
    saying(learner, torch.cat([torch.zeros(4), w.flatten()]))
    obs, spec, nothing = drawn(20, spec_of().obs.dim), spec_of(), torch.zeros(20, dtype=torch.int64)
    obs[:, slice(*spec.obs.names["goal"])] = 0.0
    action = learner.behaviour().act(obs, nothing, deterministic=True)[0]
    for i, make in enumerate((ArmDrive, ArmReach)):
        skill = fresh(make, i)
        alone = skill.act(obs[:, spec.obs.columns(skill.obs)], nothing, deterministic=True)[0]
        own = [joint for joint in range(6) if chosen[joint] == i]
        assert torch.allclose(action[:, own], alone[:, own], atol=1e-6)


def test_the_noise_is_on_the_blended_action(folders: list[str]):
    learner = controller(folders[1])
    obs, nothing = drawn(500, spec_of().obs.dim), torch.zeros(500, dtype=torch.int64)
    with torch.no_grad():
        learner.blended.actor.log_std.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]).log())
    action, extras = learner.behaviour().act(obs, nothing, generator=torch.Generator().manual_seed(0))
    blend = learner.skills
    mean = blend.mean(obs[:, spec_of().obs.columns(blend.obs)], learner.blended.actor.tells(obs))
    noise = extras["raw_action"] - mean
    assert torch.allclose(noise.std(0), torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), rtol=0.15)
    assert torch.equal(action, extras["raw_action"].clamp(-1, 1)) and not learner.deterministic
    normal = torch.distributions.Normal(mean, learner.blended.actor.log_std.exp())
    assert torch.allclose(extras["log_prob"], normal.log_prob(extras["raw_action"]).sum(-1), atol=1e-4)


def test_the_gradient_passes_through_the_frozen_skills_to_their_goals(folders: list[str]):
    learner = controller(folders[1], ranges=[2.0, 0.7])
    blend, obs = learner.skills, drawn(8, learner.skills.obs.dim)
    z = (0.3 * drawn(8, blend.space.embed_dim, seed=4)).requires_grad_()
    joints = drawn(6, seed=6)
    (blend.mean(obs, z) @ joints).sum().backward()
    assert z.grad is not None and (z.grad[:, :4].abs() > 1e-4).all(), "each entry of each goal counts"
    step = 1e-3 * torch.eye(z.shape[1])
    for k in range(z.shape[1]):
        ahead, behind = (blend.mean(obs, z.detach() + sign * step[k]) @ joints for sign in (1, -1))
        assert torch.allclose(z.grad[:, k], (ahead - behind) / 2e-3, atol=5e-3)
    assert all(not p.requires_grad and p.grad is None for p in blend.parameters())
    learner.behaviour().dist(drawn(8, spec_of().obs.dim), torch.zeros(8)).log_prob(drawn(8, 6)).sum().backward()
    f = learner.blended.actor.net[-1]
    assert (f.bias.grad.abs() > 0).all() and all(p.grad is None for p in blend.parameters())


def test_training_does_not_change_a_bit_of_the_skills(folders: list[str]):
    learner = controller(folders[1])
    before = {name: value.clone() for name, value in learner.skills.state_dict().items()}
    own = {name: value.clone() for name, value in learner.state_dict().items()}
    assert before and not any(name.startswith(("skills", "_skills", "parts")) or "parts" in name for name in own)
    with closing(ArmFarReach(num_envs=4)) as env:
        data = Replay(1000, 4, gamma=learner.gamma)
        state = train(env=env, learner=learner, data=data, schedule=Schedule(640, collect=4), seed=0)
    assert state.grad_steps == 10
    assert all(torch.equal(value, before[name]) for name, value in learner.skills.state_dict().items())
    assert all(not torch.equal(value, own[name]) for name, value in learner.state_dict().items())
    assert not learner.skills.training


def test_settings_that_make_no_sense_are_named(folders: list[str], tmp_path: Path):
    def refused(line: str, *primitives: str, **settings: Any) -> None:
        with pytest.raises(ValueError, match=line):
            controller(*primitives, **settings)

    refused(r"controller\.primitives\[1\]: no skills at .*/nothing", folders[1], str(tmp_path / "nothing"))
    refused(r"controller\.ranges has 3 numbers for 2 skills: give one each", folders[1], ranges=[1.0, 2.0, 3.0])
    refused(r"controller\.ranges\[1\] is 0: it must be a number above 0", folders[1], ranges=[1.0, 0])
    refused(r"controller\.agent must be ppo", agent=SAC)
    refused(r"controller\.weights is 'limb'", weights="limb")
    counted = ActorPolicy(obs=spec_of().obs, action=spec_of().action, space=Discrete(3), hidden_dims=[4])
    path = str(save(counted, tmp_path / "counted"))
    refused(r"controller\.primitives\[0\]: blending needs skills of a box action", path)
    with closing(ArmFarReach(num_envs=1, observe=["joints", "velocities", "goal"])) as env:
        spec = Spec.from_env(env)
    with pytest.raises(ValueError, match="observation part 'hand' is wanted"):
        SkillBlender(spec, fresh(ArmDrive), **SMALL)
    wide = Spec(Field((17,), names={"joints": (0, 3), "hand": (3, 5), "velocities": (5, 11), "goal": (11, 14)}), ACTION)
    with pytest.raises(ValueError, match="part 'goal' is wanted 2 wide, in this env it is 3"):
        SkillBlender(wide, fresh(ArmDrive), **SMALL)


# ---- as a run


TINY = [
    "env.num_envs=16",
    "pretrain.collect=16",
    "pretrain.env_steps=320",
    "learner.batch_size=128",
    "learner.hidden_dims=[8]",
    "logger.every=160",
]
TINY_USE = [
    "task.num_envs=16",
    "downstream.collect=16",
    "controller.batch_size=128",
    "controller.hidden_dims=[8]",
    "controller.critic_dims=[8]",
]


def test_two_runs_make_one_which_goes_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    reach = ["experiment=skill_blender/reach", *TINY, "evaluate=false", "hydra.run.dir=reach"]
    assert main(*reach) == 0
    far = ["experiment=skill_blender/far_reach", *TINY, *TINY_USE, "controller.primitives=[reach]"]
    far += ["controller.ranges=[2.0,0.7]"]
    assert main(*far, "downstream.env_steps=1600", "evaluate=false", "hydra.run.dir=long") == 0
    assert main(*far, "downstream.env_steps=800", "evaluate=false", "hydra.run.dir=short") == 0  # amid a rollout
    config = yaml.safe_load(Path("short/config.yaml").read_text())
    assert config["controller"]["primitives"] == [str(tmp_path / "reach")], "wherever it is resumed from"
    monkeypatch.chdir(tmp_path / "reach")
    assert main(f"resume={tmp_path / 'short'}", "downstream.env_steps=1600") == 0
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    for file in ("skills/model.safetensors", "controller/model.safetensors"):
        assert (tmp_path / "short" / file).read_bytes() == (tmp_path / "long" / file).read_bytes(), file
    used = [row for row in rows(tmp_path / "long") if row["phase"] == "control"]
    assert int(used[-1]["grad_steps"]) == 12 and "episode/success" in used[-1] and "reward/task" in used[-1]


def test_a_sweep_that_is_asked_for_again_knows_its_runs_by_relative_paths(tmp_path: Path):
    asked = {"skills": "a", "data": None, "runtime": {"precision": "float32"}, "env": {}, "task": None, "logger": {}}
    asked |= {"downstream": {"expert": "b.npz"}, "controller": {"primitives": ["c", "../d"], "goal": "goal"}}
    written = located(asked)
    assert written["skills"] == str(Path("a").resolve()) and written["data"] is None
    assert written["controller"] == {"primitives": [str(Path(p).resolve()) for p in ("c", "../d")], "goal": "goal"}
    check_same(written, asked, tmp_path)
    with pytest.raises(BadInput, match=r"controller\.primitives is"):
        check_same(written, asked | {"controller": {"primitives": ["c"], "goal": "goal"}}, tmp_path)


def test_a_run_is_evaluated_and_bad_primitives_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture):
    short = ["env.horizon=10", "task.horizon=10", "downstream.env_steps=320"]
    far = ["experiment=skill_blender/far_reach", *TINY, *TINY_USE, *short]
    assert main(*far, f"controller.primitives=[{tmp_path}/no]", f"hydra.run.dir={tmp_path / 'bad'}") == 2
    assert f"controller.primitives[0]: no skills at {tmp_path}/no" in capsys.readouterr().err
    assert main(*far, f"hydra.run.dir={tmp_path / 'run'}") == 0
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "eval" / "videos" / "control.mp4").is_file()
