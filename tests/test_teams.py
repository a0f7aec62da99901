"""A team in use: controllers, SMDP faces, finetuning and imitation hold an agents axis, and so does the report."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from counting_env import CountingEnv
from test_uses import main

import skillrl
from skillrl.agents.dqn import DQN
from skillrl.agents.sac import SAC
from skillrl.composition.skill_env import SkillVectorEnv
from skillrl.controllers.rl import RL
from skillrl.data.replay import Replay
from skillrl.evaluation import figures
from skillrl.evaluation.metrics import displacement, of_each
from skillrl.evaluation.rollouts import rollout
from skillrl.evaluation.theme import INK
from skillrl.learners.flat import Flat
from skillrl.learners.primitive import Primitive
from skillrl.networks import TeamCritic
from skillrl.skill_policy import ActorPolicy, SkillPolicy
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Batch, Field, Spec
from skillrl.training import Schedule, State, train

HOLD, GAMMA = 2, 0.9


class Push(SkillPolicy):
    """Skill z has agent i push by (z + 1)(i + 1) / 10."""

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        return (z + 1.0)[:, None, None] * torch.tensor([[0.1], [0.2]]), {}


def team() -> tuple[CountingEnv, Spec]:
    env = CountingEnv(lengths=[5, 7], terminates=[True, False], agents=2)
    return env, Spec.from_env(env)


def run(learner: Any, env: Any, **schedule: int) -> State:
    data = Replay(10_000, env.num_envs, gamma=learner.gamma)
    return train(env=env, learner=learner, data=data, schedule=Schedule(**schedule), seed=0)


def paid(row: int, start: int, steps: int, z: int) -> float:
    """Σ γ^i of both agents' rewards: the second's are twice the first's."""
    pushed = [(z + 1) * (i + 1) / 10 for i in range(2)]
    return sum(GAMMA**i * (3 * (row + 10 * (start + i)) + pushed[0] + 2 * pushed[1]) for i in range(steps))


def test_a_team_as_one_has_everything_side_by_side():
    batch = Batch(obs=torch.arange(12.0).reshape(1, 2, 6), next_obs=torch.zeros(1, 2, 6))
    batch = batch.replace(reward=torch.tensor([[1.0, 2.0]]), discount=torch.tensor([[0.9, 0.9]]), z=torch.tensor([3]))
    one = batch.as_one()
    assert one["obs"].tolist() == [list(range(12))] and one["reward"].tolist() == [3.0] and one["z"].tolist() == [3]
    assert one["discount"].tolist() == pytest.approx([0.9])
    assert Field((2, 6)).as_one() == Field((12,)) and Field((6,)).as_one() == Field((6,))


def test_a_controller_sees_all_of_the_team_and_is_paid_for_all_of_it(monkeypatch: pytest.MonkeyPatch):
    env, spec = team()
    skills = Push(obs=spec.obs, action=spec.action, space=Discrete(3))
    chooser = RL(spec, skills, agent=DQN, hold=HOLD, hidden_dims=[8], batch_size=16, obs_view="clock")
    chooser.gamma = GAMMA
    seen: list[Batch] = []
    learn = chooser.agent.update
    monkeypatch.setattr(
        chooser.agent, "update", lambda batch, generator: (seen.append(batch), learn(batch, generator))[1]
    )
    run(chooser, env, total=200, warmup=40, collect=2)
    assert len(seen) > 50
    for batch in seen:
        assert batch["obs"].shape == batch["next_obs"].shape == (16, 4)  # two parts of each agent's
        assert torch.equal(batch["obs"][:, :2], batch["obs"][:, 2:])
        for i in range(16):
            steps, start = int(batch["duration"][i]), int(batch["obs"][i, 1])
            row = 0 if steps == 1 and start == 4 else None
            wanted = [paid(r, start, steps, int(batch["action"][i])) for r in ((0, 1) if row is None else (row, 1))]
            assert min(abs(batch["reward"][i].item() - value) for value in wanted) < 1e-3
            assert batch["discount"][i] == pytest.approx(GAMMA**steps * (not batch["terminated"][i]))


def test_the_smdp_face_of_a_team_pays_the_sum():
    env, spec = team()
    skills = Push(obs=spec.obs, action=spec.action, space=Discrete(3))
    face = SkillVectorEnv(env, skills, hold=HOLD, gamma=GAMMA)
    obs, _ = face.reset(seed=0)
    assert obs.shape == (2, 2, 4)
    for start in (0, 2):
        obs, reward, *_, info = face.step(np.array([0, 2]))
        assert reward == pytest.approx([paid(0, start, 2, 0), paid(1, start, 2, 2)], abs=1e-4)
        assert info["discount"] == pytest.approx([GAMMA**2] * 2) and obs.shape == (2, 2, 4)


def test_ordinary_rl_of_a_team_has_a_critic_that_sees_all():
    env, spec = team()
    learner = Flat(spec, agent=SAC, hidden_dims=[8], batch_size=16)
    assert isinstance(learner.agent.critic, TeamCritic) and learner.agent.critic.nets[0][0].in_features == 2 * (4 + 1)
    before = [p.clone() for p in learner.policy.parameters()]
    state = run(learner, env, total=100, warmup=20, collect=2)
    assert state.grad_steps > 30 and any((a != b).any() for a, b in zip(before, learner.policy.parameters()))


def test_primitive_actions_of_a_team_are_all_agents_actions():
    _, spec = team()
    policy = Primitive(spec).policy
    assert policy.space == Box(2)
    assert policy.act(torch.zeros(3, 2, 4), torch.arange(6.0).reshape(3, 2))[0].tolist() == [
        [[0], [1]],
        [[2], [3]],
        [[4], [5]],
    ]


# ---- what is measured and drawn


def test_a_teams_rollout_has_the_places_of_all_agents():
    from envs.particles import Sides

    env = Sides(num_envs=3, horizon=4)
    spec = Spec.from_env(env)
    policy = ActorPolicy(obs=spec.obs, action=spec.action, space=Discrete(2), hidden_dims=[8])
    told = rollout(env, policy, torch.tensor([0, 1, 1]), seed=0)
    assert told.agents == 2 and told.coordinates.shape == (3, 5, 4) and told.take([2]).agents == 2
    each = of_each(told.coordinates, 2)
    assert np.allclose(each[1], told.obs[:, :, 1, :2], atol=1e-6) and told.reward.shape == (3, 4, 2)
    far = np.linalg.norm(each[:, :, -1] - each[:, :, 0], axis=-1).mean(0)
    assert displacement(told.coordinates, told.length, 2) == pytest.approx(far)


def test_each_agents_path_is_drawn_with_a_mark_of_its_own():
    coordinates = np.zeros((2, 3, 4))
    coordinates[..., 0], coordinates[..., 3] = np.arange(3), -np.arange(3)  # one goes right, the other down
    arrays = {"coordinates": coordinates, "length": np.full(2, 2), "label": np.arange(2), "spread": np.arange(2)}
    axes = figures.trajectories(arrays | {"agents": np.array(2)}, {"coverage_cell": 1.0}, INK["light"]).axes[0]
    lines, marks, other_lines, other_marks = axes.collections
    assert [curve[-1].tolist() for curve in lines.get_segments()] == [[2, 0]] * 2
    assert [curve[-1].tolist() for curve in other_lines.get_segments()] == [[0, -2]] * 2
    assert len(marks.get_paths()[0]) != len(other_marks.get_paths()[0])


# ---- whole runs


SMALL = [
    *["experiment=small/masd", "env.num_envs=8", "env.horizon=8", "learner.hidden_dims=[8]", "learner.batch_size=8"],
    *["pretrain.env_steps=320", "pretrain.warmup=160", "pretrain.collect=8", "logger.every=80"],
]
CONTROL = [
    *["downstream=control", "downstream.env_steps=160", "downstream.warmup=0"],
    *["controller=dqn", "controller.hidden_dims=[8]", "controller.batch_size=8"],
]
FINETUNE = [
    *["downstream=finetune", "downstream.env_steps=400", "downstream.choice_env_steps=200", "downstream.warmup=0"],
    *["downstream.batch_size=8", "downstream.keep=both"],
]
SPREAD = ["task=none", "env=spread", "env.agents=2"]


def scores_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "eval" / "metrics.json").read_text())


def test_a_controller_over_team_skills_is_evaluated_and_reported(tmp_path: Path):
    assert main(*SMALL, *SPREAD, *CONTROL, f"hydra.run.dir={tmp_path}") == 0
    scores = scores_of(tmp_path)
    assert len(scores["discriminability_agents"]) == 2 and scores["return_mean"] < 0
    assert scores["success_rate"] is not None and scores["notes"] == []
    report = re.sub(r"<[^>]*>", " ", (tmp_path / "report.html").read_text())
    assert "from agent 1 alone" in report
    files = {path.name for path in (tmp_path / "eval").rglob("*") if path.is_file()}
    assert {"skills.mp4", "control.mp4", "trajectories.png", "control_trajectories.png"} <= files


def test_a_team_skill_is_trained_further_and_imitated(tmp_path: Path):
    run, again = tmp_path / "run", tmp_path / "again"
    assert main(*SMALL, *SPREAD, *FINETUNE, f"hydra.run.dir={run}") == 0
    scores = scores_of(run)
    assert scores["return_mean"] != scores["return_mean_before"] and scores["choice_rollouts"] >= 2
    assert skillrl.load(run / "finetuned").obs.shape == (2, 10)
    expert = [f"downstream.expert={run}/eval/trajectories.npz", "downstream.expert_row=1"]
    assert main(f"skills={run}", "downstream=imitate", *expert, f"hydra.run.dir={again}") == 0
    assert scores_of(again)["imitation_skill"] in (0, 1) and scores_of(again)["imitation_distance"] >= 0


def test_a_run_in_mpe2_begins_fresh_episodes_when_resumed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    small = [*SMALL, "env=mpe", "evaluate=false", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(*small) == 0
    assert main(f"resume={tmp_path / 'run'}", "pretrain.env_steps=480") == 0
    assert "begins fresh episodes" in caplog.text
    assert (tmp_path / "run" / "skills" / "model.safetensors").is_file()
