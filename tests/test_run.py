"""Whole runs, from the command line to the report."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import eval as eval_script
import skillrl
import train as train_script

CONF = str(Path(__file__).parents[1] / "conf")
TINY = [
    "pretrain.env_steps=160",
    "pretrain.warmup=80",
    "learner.hidden_dims=[8]",
    "learner.batch_size=8",
    "logger.every=80",
]
MEASURED = {
    *("num_skills", "state_coverage", "discriminability", "discriminability_permuted", "discriminability_untrained"),
    *("discriminability_obs", "effective_skills", "displacement_median", "displacement_median_untrained"),
}


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Any:
    """train.py in this process; exit code."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return train_script.main()

    return call


def budget(experiment: str, share: float) -> list[str]:
    """Overrides that scale each budget of an experiment, whatever its parts are."""
    with initialize_config_dir(CONF, version_base="1.3"):
        config = OmegaConf.to_container(compose("train", [f"experiment={experiment}"]))
    scaled = []
    for part in ("pretrain", "downstream"):
        plan = config.get(part) or {}
        for key in {"env_steps", "warmup"} & plan.keys():
            steps = round(share * plan[key] / plan["collect"]) * plan["collect"]
            scaled.append(f"{part}.{key}={steps}")
    return scaled


def test_the_quickstart_at_two_percent(train: Any, tmp_path: Path, capsys: Any):
    share = budget("quickstart", 0.02)
    assert len(share) == 4
    assert train("experiment=quickstart", *share, "logger=tensorboard", f"hydra.run.dir={tmp_path}") == 0
    assert capsys.readouterr().out.strip().splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    scores = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert scores.keys() >= MEASURED
    assert all(isinstance(scores[key], int | float) for key in MEASURED)
    assert scores["num_skills"] >= 8
    report = (tmp_path / "report.html").read_text()
    assert "<html" in report and "data:image/png;base64," in report and "finished" in report
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["phase"] for row in rows} == {"pretrain", "control"} and {"env_steps", "grad_steps"} <= rows[0].keys()
    assert int(rows[-1]["env_steps"]) == int(
        next(s for s in share if s.startswith("downstream.env_steps")).split("=")[1]
    )
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "config.yaml",
        "run.json",
        "metrics.csv",
        "checkpoints",
        "skills",
        "controller",
        "eval",
        "report.html",
    }
    shown = next((tmp_path / "tensorboard" / "evaluation").iterdir()).stat().st_size
    assert shown > (tmp_path / "eval" / "figures" / "trajectories.png").stat().st_size
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["status"] == "finished" and record["versions"]["torch"] and record["machine"] and record["command"]
    assert skillrl.load(tmp_path).space.n == scores["num_skills"]


def test_snapshots_are_skills_too(train: Any, tmp_path: Path):
    assert train(*TINY, "snapshots=[90,160]", "evaluate=false", f"hydra.run.dir={tmp_path}") == 0
    early, late, last = (skillrl.load(tmp_path / "skills" / at).state_dict() for at in ("96", "160", ""))
    assert all(torch.equal(late[name], last[name]) for name in last)
    assert not all(torch.equal(early[name], last[name]) for name in last)


def test_loaded_skills_are_used_where_they_were_learnt_and_on_a_task(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """Skills from one run, a controller in another, and eval.py for both."""
    skills, use = tmp_path / "skills", tmp_path / "use"
    env = ["env=swimmer", "env.num_envs=4", "env.horizon=15", "learner.skill_space.n=2"]
    assert train(*env, *TINY, "evaluate=false", f"hydra.run.dir={skills}") == 0
    monkeypatch.chdir(tmp_path)
    control = ["downstream=control", "controller=dqn", "task=swimmer_goal", "task.horizon=15", "downstream.warmup=80"]
    control += ["downstream.env_steps=160", "controller.hidden_dims=[8]"]
    assert train("skills=skills", *control, "evaluate=false", f"hydra.run.dir={use}") == 0
    config = yaml.safe_load((use / "config.yaml").read_text())
    assert config["env"]["_target_"] == "envs.swimmer.Swimmer" and config["env"]["num_envs"] == 4
    assert not (use / "skills").exists() and not (use / "checkpoints" / "pretrain").exists()
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(sys, "argv", ["eval.py", "run=use"])
    assert eval_script.main() == 0
    scores = json.loads((use / "eval" / "metrics.json").read_text())
    assert scores["num_skills"] == 2 and scores["success_rate_random"] is not None
    assert (use / "report.html").is_file()
    assert sorted(tmp_path.iterdir()) == before, "eval.py leaves nothing in the working directory"
    assert "discriminability " in (said := capsys.readouterr().out) and f"report: {Path('use') / 'report.html'}" in said


DECIDING = ["task=point_goal", "downstream.env_steps=160", "downstream.warmup=80", "controller.batch_size=8"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["learner=flat", "env=swimmer", "env.horizon=20", "learner.hidden_dims=[8]"],
        ["learner=flat", "agent@learner.agent=dqn", "env=gymnasium", "env.id=CartPole-v1", "learner.hidden_dims=[8]"],
        ["learner=primitive", "downstream=control", "controller=sac", "downstream.env_steps=160", "task=point_goal"],
        ["learner=flat", "agent@learner.agent=ppo", "env=half_cheetah", "env.horizon=20", "learner.batch_size=32"],
        ["agent@learner.agent=ppo", "learner.batch_size=32", "downstream=control", "controller=ppo", *DECIDING],
        ["learner=diayn_gaussian", "learner.skill_space.dim=3", "downstream=control", "controller=sac", *DECIDING],
        ["downstream=control", "controller=random", "downstream.env_steps=80", "learner.hidden_dims=[8]"],
        ["experiment=quickstart", "downstream=null", "task=null", "learner.hidden_dims=[8]"],
    ],
)
def test_other_kinds_of_runs(overrides: list[str], train: Any, tmp_path: Path):
    small = ["pretrain.env_steps=160", "pretrain.warmup=80", "evaluate=false", f"hydra.run.dir={tmp_path}"]
    assert train(*overrides, *small) == 0
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "finished"
    skillrl.load(tmp_path)
    assert (tmp_path / "controller").exists() == ("downstream=control" in overrides)
