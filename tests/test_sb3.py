"""Stable-Baselines3 both ways: our skills in its scripts, and its algorithms as guests of a run."""

import base64
import csv
import io
import json
import os
import re
import signal
import sys
import zipfile
from contextlib import suppress
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from counting_env import CountingEnv
from stable_baselines3 import DQN, PPO, SAC, TD3
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import eval as eval_script
import skillrl
import train as train_script
from envs.goal import PointGoal
from envs.point import Point
from skillrl.controllers.sb3 import SB3, Rounds
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.primitive import Primitive
from skillrl.record import read_config
from skillrl.run import Run
from skillrl.selector import Prior
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Box, Discrete, Gaussian, Sphere
from skillrl.spec import Spec
from skillrl.training import Guest, Schedule, State, begin

NET = {"policy_kwargs": {"net_arch": [8]}}


def untrained(env: Any, space: Any) -> ActorPolicy:
    torch.manual_seed(0)
    spec = Spec.from_env(env)
    return ActorPolicy(obs=spec.obs, action=spec.action, space=space, hidden_dims=[8])


# ---- our skills in its scripts


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize(
    ("algorithm", "space", "settings"),
    [
        (PPO, Discrete(3), {"n_steps": 32, "batch_size": 32}),
        (DQN, Discrete(3), {"learning_starts": 32}),
        (PPO, Sphere(3), {"n_steps": 32, "batch_size": 32}),
        (SAC, Box(2), {"learning_starts": 32}),
        (TD3, Gaussian(2), {"learning_starts": 32}),
    ],
)
def test_its_algorithms_train_over_skills(algorithm: Any, space: Any, settings: Any, vectorised: bool):
    env = PointGoal(num_envs=4 if vectorised else 1, horizon=13)
    skills = untrained(env, space)
    if vectorised:
        face: Any = VecMonitor(skillrl.SB3VecEnv(skillrl.SkillVectorEnv(env, skills, hold=5)))
    else:
        face = skillrl.SkillEnv(env, skills, hold=5)
        check_env(face, warn=False)
    model = algorithm("MlpPolicy", face, seed=0, device="cpu", **deepcopy(NET), **settings)
    before = [value.clone() for value in model.policy.parameters()]
    model.learn(160)
    assert model.num_timesteps >= 160
    assert any(not torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))
    assert {episode["l"] for episode in model.ep_info_buffer} == {3}  # decisions of 5, 5 and 3 env steps
    assert not any(value.requires_grad for value in skills.parameters())


def test_the_vec_env_says_what_a_gymnasium_env_says():
    """Against Stable-Baselines3's own way from Gymnasium: rows stepped together, and one by one in its DummyVecEnv."""
    policy = untrained(Point(num_envs=1), Discrete(4))
    ours = skillrl.SB3VecEnv(skillrl.SkillVectorEnv(Point(num_envs=3, horizon=12), policy, hold=5))
    theirs = DummyVecEnv([lambda: skillrl.SkillEnv(Point(num_envs=1, horizon=12), policy, hold=5)] * 3)
    assert np.array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(9):
        action = rng.integers(4, size=3)
        left, right = ours.step(action), theirs.step(action)
        for a, b in zip(left[:3], right[:3], strict=True):
            assert np.allclose(a, b, atol=1e-6) and a.dtype == b.dtype
        for a, b in zip(left[3], right[3], strict=True):
            assert a.keys() == b.keys()
            assert all(np.allclose(a[key], b[key], atol=1e-6) for key in b)
            ends += "terminal_observation" in a
    assert ends == 9


def test_truncation_is_told_from_termination():
    lengths, terminates = (5, 7, 12), (True, False, False)
    env = CountingEnv(lengths, terminates)
    spec = Spec.from_env(env)
    policy = Primitive(spec).policy
    face = skillrl.SB3VecEnv(skillrl.SkillVectorEnv(env, policy, hold=4))
    face.reset()
    seen = set()
    for _ in range(8):
        obs, _, done, infos = face.step(np.zeros((3, *spec.action.shape), np.float32))
        for row in range(3):
            assert infos[row]["TimeLimit.truncated"] == (done[row] and not terminates[row])
            assert ("terminal_observation" in infos[row]) == done[row]
            if done[row]:
                assert infos[row]["terminal_observation"][2] == lengths[row] and obs[row][2] == 0
                seen.add(row)
    assert seen == {0, 1, 2}


def test_an_env_that_hides_the_last_observation_is_refused():
    import gymnasium as gym

    env = gym.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(ValueError, match="SAME_STEP"):
        skillrl.SB3VecEnv(env)
    env.close()


# ---- its algorithms as guests: by Python


def begun(env: Any, controller: SB3, total: int, seed: int = 0) -> State:
    data = Replay(1000, env.num_envs, gamma=controller.gamma)
    return begin(env=env, learner=controller, data=data, schedule=Schedule(total, collect=env.num_envs), seed=seed)


def never() -> bool:
    return False


def test_over_primitive_actions_with_hold_1_it_is_the_plain_algorithm():
    """The same weights, bit for bit, as without anything of ours but the env."""
    small = {"n_steps": 32, "batch_size": 64, "n_epochs": 2}
    env = PointGoal(num_envs=4, horizon=9)
    spec = Spec.from_env(env)
    guest = SB3(spec, Primitive(spec).policy, algorithm="PPO", hold=1, gamma=0.97, kwargs={**small, **NET})
    state = begun(env, guest, total=3 * 4 * 32, seed=5)
    torch.manual_seed(11)
    guest.learn(state, [], stop=never)
    assert state.finished() and state.env_steps == 384

    torch.manual_seed(11)
    face = skillrl.SB3VecEnv(PointGoal(num_envs=4, horizon=9))
    seed = int(torch.randint(2**31, ()))
    plain = PPO("MlpPolicy", face, gamma=0.97, seed=seed, device="cpu", **small, **deepcopy(NET))
    face.seed(5)
    plain.learn(256)  # the last rollout ends the budget, and so is not learnt from
    ours, theirs = guest.model.policy.state_dict(), plain.policy.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_it_is_told_gamma_of_a_whole_decision_and_rewards_within_are_discounted_alike():
    env = PointGoal(num_envs=2)
    controller = SB3(Spec.from_env(env), untrained(env, Discrete(3)), algorithm="DQN", hold=7, gamma=0.9)
    assert controller.model.gamma == pytest.approx(0.9**7)
    assert begun(env, controller, 100).collector.gamma == 0.9
    assert isinstance(controller, Guest)


CASES = [
    ("PPO", Discrete(3), {"n_steps": 8, "batch_size": 16}),
    ("DQN", Discrete(3), {"learning_starts": 16, "target_update_interval": 10}),
    ("SAC", Box(2), {"learning_starts": 16}),
    ("TD3", Gaussian(2), {"learning_starts": 16, "action_noise": 0.1, "n_steps": 3}),
]


@pytest.mark.parametrize(("name", "space", "kwargs"), CASES)
def test_everything_that_it_learnt_comes_back(name: str, space: Any, kwargs: Any):
    env = PointGoal(num_envs=2, horizon=13)
    spec, skills = Spec.from_env(env), untrained(env, space)
    one = SB3(spec, skills, algorithm=name, hold=5, kwargs={**kwargs, **NET})
    one.learn(begun(env, one, 500), [], stop=never)
    file = io.BytesIO()
    torch.save(one.luggage.state_dict(), file)
    other = SB3(spec, skills, algorithm=name, hold=5, kwargs={**kwargs, **NET})
    other.luggage.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    state = begun(env, other, 500)
    state.env_steps = 500
    other.learn(state, [], stop=never)  # nothing is left to do
    same(one.model.get_parameters(), other.model.get_parameters())
    for key in one.model._get_torch_save_params()[1]:
        assert torch.equal(getattr(one.model, key), getattr(other.model, key))
    assert one.model.num_timesteps == other.model.num_timesteps > 0
    assert one.model._n_updates == other.model._n_updates > 0
    if name != "PPO":
        left, right = one.model.replay_buffer, other.model.replay_buffer
        assert left.size() == right.size() > 16
        for key in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
            assert np.array_equal(getattr(left, key)[: left.size()], getattr(right, key)[: right.size()])
    if name == "DQN":
        assert one.model.exploration_rate == other.model.exploration_rate < 1


def same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
    for key in left if isinstance(left, dict) else range(len(left)) if isinstance(left, list | tuple) else ():
        same(left[key], right[key])
    if isinstance(left, torch.Tensor):
        assert torch.equal(left, right)


class Trap:
    """What a stranger may put into a zip."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["TRAP"],)


def test_no_pickle_of_a_zip_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRAP", str(tmp_path / "sprung"))
    env = PointGoal(num_envs=2)
    controller = SB3(Spec.from_env(env), untrained(env, Discrete(3)), algorithm="DQN", kwargs=NET)
    state = controller.luggage.state_dict()
    evil = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(state["zip"].numpy().tobytes())) as old, zipfile.ZipFile(evil, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "data":
                pickled = base64.b64encode(cloudpickle.dumps(Trap())).decode()
                content = json.dumps({**json.loads(content), "lr_schedule": {":serialized:": pickled}}).encode()
            new.writestr(name, content)
    state["zip"] = torch.frombuffer(bytearray(evil.getvalue()), dtype=torch.uint8)
    controller.luggage.load_state_dict(state)
    controller.luggage.unpack()
    assert not (tmp_path / "sprung").exists()
    with suppress(Exception):  # the trap works: this is what loading it the usual way does
        DQN.load(io.BytesIO(evil.getvalue()))
    assert (tmp_path / "sprung").exists()


class Recurrent(PPO):
    """As sb3_contrib's RecurrentPPO answers."""

    def predict(self, *arguments: Any, **named: Any) -> Any:
        return super().predict(*arguments, **named)[0], (np.zeros(1),)


def test_what_it_cannot_keep_a_state_for_is_refused():
    env = PointGoal(num_envs=2)
    with pytest.raises(ValueError, match="which is recurrent"):
        SB3(Spec.from_env(env), untrained(env, Discrete(3)), algorithm=f"{__name__}.Recurrent")


def test_a_stop_in_a_rollout_goes_back_to_its_beginning():
    env = PointGoal(num_envs=2, horizon=13)
    spec, skills = Spec.from_env(env), untrained(env, Discrete(3))
    controller = SB3(spec, skills, algorithm="PPO", hold=5, kwargs={"n_steps": 8, "batch_size": 16, **NET})
    state = begun(env, controller, 10_000)
    rounds, stopping = [], []

    def hook(state: State) -> None:
        rounds.append((state.env_steps, controller.model.num_timesteps, state.collector.obs.clone()))

    def stop() -> bool:
        stopping.append(1)
        return len(stopping) > 22  # asked once before the loop, then at each step: in the third rollout of 8

    controller.learn(state, [hook], stop=stop)
    assert len(rounds) == 2
    steps, decisions, obs = rounds[-1]
    assert (state.env_steps, controller.model.num_timesteps) == (steps, decisions) == (steps, 32)
    assert torch.equal(state.collector.obs, obs)


# ---- its algorithms as guests: a run

TINY = ["learner.hidden_dims=[8]", "learner.batch_size=8", "learner.skill_space.n=3", "pretrain.env_steps=80"]
TINY += ["task=point_goal", "task.horizon=13", "env.horizon=13", "downstream=control", "controller=sb3"]
TINY += ["controller.hold=5", "logger.every=100", "checkpoint_every=100"]
SMALL = "policy_kwargs: {net_arch: [8]}"
PPO_RUN = [*TINY, f"+controller.kwargs={{n_steps: 4, batch_size: 16, {SMALL}}}"]
DQN_RUN = [*TINY, "controller.algorithm=DQN", f"+controller.kwargs={{learning_starts: 16, train_freq: 1, {SMALL}}}"]


def main(*arguments: str, script: Any = train_script) -> int:
    before, sys.argv = sys.argv, ["x.py", *arguments]
    try:
        return script.main()
    finally:
        sys.argv = before


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["phase"] == "control"]


@pytest.mark.parametrize(("run", "most", "evaluated"), [(DQN_RUN, 40, True), (PPO_RUN, 160, False)])
def test_a_run_with_a_guest(run: list[str], most: int, evaluated: bool, tmp_path: Path, caplog: Any):
    assert main(*run, "evaluate=false", "downstream.env_steps=960", f"hydra.run.dir={tmp_path}") == 0
    told = rows(tmp_path)
    assert 960 <= int(told[-1]["env_steps"]) < 960 + 8 * 5
    steps = [0, *[int(row["env_steps"]) for row in told]]
    assert max(b - a for a, b in pairwise(steps)) <= 100 + most
    learnt = [row for row in told if row["sb3/train/loss"]]
    assert learnt and int(told[-1]["grad_steps"]) > 0
    lengths = [float(row["episode/length"]) for row in told if row["episode/length"]]
    assert lengths and all(0 < length <= 13 for length in lengths)  # env steps, not decisions
    if evaluated:
        what_is_evaluated_is_what_its_own_library_loads(tmp_path)
    # a larger budget
    assert main(f"resume={tmp_path}", "downstream.env_steps=1600", "logger.every=100") == 0
    more = rows(tmp_path)
    assert more[: len(told)] == told and 1600 <= int(more[-1]["env_steps"]) < 1640
    assert int(more[-1]["grad_steps"]) > int(told[-1]["grad_steps"])
    assert caplog.text.count("goes on from its last finished rollout, not bit for bit") == 1


def what_is_evaluated_is_what_its_own_library_loads(folder: Path) -> None:
    exported = DQN.load(folder / "controller" / "sb3.zip")
    assert exported.gamma == pytest.approx(0.99**5)
    run = Run(read_config(folder), folder, train_script.build, saved=True)
    ours = run._used(skillrl.load(folder))["controller"]
    obs = torch.randn(64, 4)
    chosen = ours.select(obs, (), (), torch.ones(64), torch.Generator(), True).z
    assert len(set(chosen.tolist())) > 1
    assert np.array_equal(chosen.numpy(), exported.predict(obs.numpy(), deterministic=True)[0])
    (folder / "controller" / "sb3.zip").write_bytes(b"nobody reads it")
    assert main(f"run={folder}", script=eval_script) == 0
    scores = json.loads((folder / "eval" / "metrics.json").read_text())
    assert scores["success_rate"] is not None and scores["success_rate_random"] is not None
    assert (folder / "report.html").is_file()


def test_a_guest_is_deterministic(tmp_path: Path):
    for name in ("a", "b"):
        assert main(*PPO_RUN, "evaluate=false", "downstream.env_steps=480", f"hydra.run.dir={tmp_path / name}") == 0
    left, right = ((tmp_path / name / "controller" / "model.safetensors").read_bytes() for name in ("a", "b"))
    assert left == right


@pytest.mark.parametrize(("run", "algorithm"), [(PPO_RUN, "PPO"), (DQN_RUN, "DQN")])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_the_run_goes_on(
    run: list[str], algorithm: str, number: int, code: int, tmp_path: Path, monkeypatch: Any, capsys: Any
):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    on_step, calls = Rounds._on_step, []

    def signalled(self: Rounds) -> bool:
        calls.append(1)
        if len(calls) == 10:
            os.kill(os.getpid(), number)
        return on_step(self)

    monkeypatch.setattr(Rounds, "_on_step", signalled)
    try:
        assert main(*run, "evaluate=false", "downstream.env_steps=960", f"hydra.run.dir={tmp_path}") == code
    finally:
        signal.signal(signal.SIGINT, before)
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith("stopped by SIG") and f"resume={tmp_path}" in said[-1]
    newest = int(max((tmp_path / "checkpoints" / "control").glob("*.pt")).stem)
    # 8 envs, hold 5: at most 40 env steps a step, and PPO has finished two rollouts of four
    assert 8 * 8 * 3 < newest <= (8 if algorithm == "PPO" else 10) * 40
    assert main(f"resume={tmp_path}") == 0
    end = rows(tmp_path)
    assert 960 <= int(end[-1]["env_steps"]) < 1000
    assert [int(row["env_steps"]) for row in end] == sorted(int(row["env_steps"]) for row in end)
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"


def test_the_flat_baseline_is_the_same_guest(tmp_path: Path):
    flat = ["learner=primitive", "pretrain.env_steps=0", "downstream=control", "controller=sb3", "controller.hold=1"]
    small = ["task=point_goal", "downstream.env_steps=400", f"+controller.kwargs={{n_steps: 16, {SMALL}}}"]
    assert main(*flat, *small, "evaluate=false", f"hydra.run.dir={tmp_path}") == 0
    assert int(rows(tmp_path)[-1]["env_steps"]) == 400


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["controller.algorithm=PPOO"],
            "controller.algorithm is 'PPOO', which does not exist: Stable-Baselines3 has A2C",
        ),
        (
            ["controller.algorithm=no_such.Thing"],
            r"controller.algorithm is 'no_such.Thing', which does not exist \(No mod",
        ),
        (["controller.algorithm=collections.OrderedDict"], "that is no algorithm"),
        (["controller.algorithm=SAC"], "SAC, which cannot choose among these skills: their choice is discrete"),
        (["learner=primitive", "controller.algorithm=DQN"], "DQN, .* their choice is a box, .* PPO, SAC and TD3"),
        (["+controller.kwargs={n_step: 4}"], "controller.kwargs.n_step is no argument of PPO: it has batch_size"),
        (
            ["+controller.kwargs={gamma: 0.9}"],
            "controller.kwargs.gamma is given by the run itself: set controller.gamma",
        ),
        (["+controller.kwargs={policy: Nope}"], "controller: Policy Nope unknown"),
        (["~controller.kwargs.n_steps"], "n_steps is 2048: a rollout of it takes 81920 env steps .*n_steps=24 or less"),
        (["controller.hold=0"], "controller.hold is 0"),
        (["controller.gamma=1.5"], "controller.gamma is 1.5"),
        (["controller.kwargs=3"], "controller.kwargs is 3: it must be"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(overrides: list[str], said: str, tmp_path: Path, capsys: Any):
    base = [override for override in TINY if not (overrides[0] == "learner=primitive" and "learner." in override)]
    start = [*base, "+controller.kwargs={n_steps: 4}", "downstream.env_steps=960", f"hydra.run.dir={tmp_path / 'run'}"]
    if "DQN" in overrides[-1] or "SAC" in overrides[-1]:
        start.remove("+controller.kwargs={n_steps: 4}")
    assert main(*start, *overrides) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and re.search(said, lines[0]), lines
    assert not (tmp_path / "run").exists()


class Mine(DQN):
    """Somebody's own algorithm."""


def test_a_saved_run_names_no_algorithm_that_was_not_trusted_again(tmp_path: Path, capsys: Any):
    own = [*DQN_RUN, f"controller.algorithm={__name__}.Mine", "evaluate=false", f"hydra.run.dir={tmp_path}"]
    assert main(*own, "downstream.env_steps=400") == 0
    assert main(f"resume={tmp_path}", "downstream.env_steps=480") == 2
    assert f"which runs {__name__}: allow it with runtime.trusted" in capsys.readouterr().err
    assert main(f"resume={tmp_path}", "downstream.env_steps=480", f"runtime.trusted=[{__name__}]") == 0


# ---- documentation and learning


def test_the_documented_scripts_run_over_a_run_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert main(*DQN_RUN, "evaluate=false", "downstream.env_steps=80", f"hydra.run.dir={tmp_path / 'run'}") == 0
    text = (Path(__file__).parents[1] / "docs" / "sb3.md").read_text()
    blocks = re.findall(r"<!-- run by tests/test_sb3.py -->\n```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    assert len([line for line in blocks[0].splitlines() if line and "import" not in line]) <= 5
    names: dict[str, Any] = {}
    for block in blocks:
        short = block.replace("10_000", "64").replace("outputs/...", str(tmp_path / "run")).replace("128", "8")
        exec(compile(short.replace("gamma=", "n_steps=64, gamma=", "n_steps" not in short), "sb3.md", "exec"), names)
        assert names["model"].num_timesteps >= 64
    assert isinstance(names["env"].rows.env, PointGoal)


def test_an_env_is_made_of_skills_alone_and_of_nothing_untrusted(tmp_path: Path):
    env = Point(num_envs=2)
    skillrl.save(untrained(env, Discrete(3)), tmp_path / "a", about={"env": {"_target_": "envs.point.Point"}})
    with pytest.raises(ValueError, match=r"^env\.coverage is missing"):
        skillrl.make_env(tmp_path / "a")
    for name, about, said in (
        ("b", {}, "does not say which env"),
        ("c", {"env": {"_target_": "os.system", "command": "true"}}, "is not allowed"),
        ("d", {"env": {"_target_": "skillrl.skill_spaces.Discrete", "n": 3}}, "no vector env"),
    ):
        skillrl.save(untrained(env, Discrete(3)), tmp_path / name, about=about)
        with pytest.raises(ValueError, match=said):
            skillrl.make_env(tmp_path / name)


class Directions(SkillPolicy):
    """Skill z walks in the direction of 2π z / 8."""

    def act(self, obs: Any, z: Any, carry: Any = (), *, deterministic: bool = False, generator: Any = None) -> Any:
        angle = 2 * torch.pi * z / 8
        return torch.stack([angle.cos(), angle.sin()], -1), {}


@pytest.mark.learning("skillrl/controllers/sb3.py", "skillrl/composition", "skillrl/data/collector.py")
@pytest.mark.parametrize(
    ("algorithm", "kwargs"),
    [
        ("PPO", {"n_steps": 64, "batch_size": 128, "ent_coef": 0.01, "learning_rate": 1e-3}),
    ],
)
def test_it_learns_which_skill_leads_to_the_goal(algorithm: str, kwargs: dict[str, Any]):
    env = PointGoal(num_envs=16)
    spec = Spec.from_env(env)
    skills = Directions(obs=spec.obs, action=spec.action, space=Discrete(8))
    torch.manual_seed(0)
    controller = SB3(spec, skills, algorithm=algorithm, hold=10, kwargs=kwargs)

    def success(selector: Any) -> float:
        found = rollout(PointGoal(num_envs=200), skills, selector, seed=1).success
        assert found is not None
        return float(found.mean())

    by_chance, before = success(Prior(skills.space, hold=10)), success(controller.prior())
    controller.learn(begun(env, controller, 200_000), [], stop=never)
    assert max(by_chance, before) < 0.4
    assert success(controller.prior()) > 0.9
