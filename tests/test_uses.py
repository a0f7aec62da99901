"""Finetuning and imitation as whole runs, from the command line to the report."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import skillrl
import train as train_script
from skillrl.downstream.finetune import Finetuned

SMALL = [
    *["env=hopper", "env.horizon=20", "env.num_envs=4", "learner.skill_space.n=3", "learner.hidden_dims=[8]"],
    *[
        "learner.batch_size=8",
        "pretrain.env_steps=160",
        "pretrain.warmup=80",
        "logger.every=80",
        "checkpoint_every=100",
    ],
]
FINETUNE = [
    *["downstream=finetune", "downstream.env_steps=1200", "downstream.choice_env_steps=600", "downstream.warmup=0"],
    *["downstream.batch_size=8", "downstream.keep=both"],
]


def main(*arguments: str) -> int:
    """train.py in this process."""
    before, sys.argv = sys.argv, ["train.py", *arguments]
    try:
        return train_script.main()
    finally:
        sys.argv = before


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


class Killed(BaseException):
    """As abrupt as a signal that nobody handles."""


def killed_at(monkeypatch: pytest.MonkeyPatch, method: str, call: int, *arguments: str) -> None:
    original, calls = getattr(Finetuned, method), []

    def counted(self, *given):
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return original(self, *given)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Finetuned, method, counted)
        main(*arguments)


def test_killed_while_choosing_and_while_training_is_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    quiet = [*SMALL, *FINETUNE, "evaluate=false"]
    assert main(*quiet, f"hydra.run.dir={whole}", "runtime.workers=2") == 0
    killed_at(monkeypatch, "_episodes", 4, *quiet, f"hydra.run.dir={parts}")
    assert not list((parts / "checkpoints" / "finetune").glob("*.pt"))
    killed_at(monkeypatch, "update", 40, f"resume={parts}", "runtime.graph=false")  # so that each is called
    assert list((parts / "checkpoints" / "finetune").glob("*.pt"))
    assert main(f"resume={parts}") == 0
    assert rows(whole) == rows(parts)
    used = [row for row in rows(whole) if row["phase"] == "finetune"]
    assert used and all(float(row["choice/env_steps"]) >= 600 and float(row["choice/rollouts"]) >= 6 for row in used)
    assert 1200 <= int(used[-1]["env_steps"]) < 1208
    for file in ("skills/critic.safetensors", "finetuned/model.safetensors", "finetuned/skills/model.safetensors"):
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file


def test_a_finetuned_run_is_evaluated_beside_the_skill_as_it_was(tmp_path: Path):
    assert main(*SMALL, *FINETUNE, f"hydra.run.dir={tmp_path}") == 0
    scores = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert scores["choice_rollouts"] >= 6 and scores["choice_rollouts_uniform"] % 3 == 0
    assert scores["return_mean"] != scores["return_mean_before"], "it has been trained"
    told = np.load(tmp_path / "eval" / "trajectories.npz")
    chosen = (told["label"] == scores["choice_skill"]) & (told["label"] >= 0)
    assert told["returns"][chosen].mean() == pytest.approx(scores["return_mean_before"], rel=0.3)
    report = re.sub(r"<[^>]*>", " ", (tmp_path / "report.html").read_text())
    assert "the skill before" in report and "env steps of finetuning" in report and "uniform trial" in report
    assert (tmp_path / "eval" / "figures" / "finetune_episode_return.png").is_file()
    skills, after = skillrl.load(tmp_path), skillrl.load(tmp_path / "finetuned")
    assert type(skills) is type(after) and not torch.equal(skills.actor.net[0].weight, after.actor.net[0].weight)
    resumable_and_usable(tmp_path)


def resumable_and_usable(folder: Path) -> None:
    """With a larger budget, and as skills of another run."""
    assert main(f"resume={folder}", "downstream.env_steps=1600") == 0
    assert int(rows(folder)[-1]["env_steps"]) >= 1600
    control = ["downstream=control", "controller=random", "downstream.env_steps=80", "evaluate=false"]
    assert main(f"skills={folder / 'finetuned'}", *control, f"hydra.run.dir={folder / 'other'}") == 0


def test_an_expert_from_another_runs_evaluation_is_imitated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    skills, use = tmp_path / "skills", tmp_path / "use"
    assert main(*SMALL, f"hydra.run.dir={skills}") == 0
    told = np.load(skills / "eval" / "trajectories.npz")
    assert told["observations"].shape[::2] == (3, 12) and (told["observations_length"] <= 21).all()
    monkeypatch.chdir(tmp_path)
    expert = ["downstream=imitate", "downstream.expert=skills/eval/trajectories.npz", "downstream.expert_row=2"]
    assert main("skills=skills", *expert, f"hydra.run.dir={use}") == 0
    assert yaml.safe_load((use / "config.yaml").read_text())["downstream"]["expert"] == str(tmp_path / expert[1][18:])
    scores = json.loads((use / "eval" / "metrics.json").read_text())
    assert scores["imitation_distance"] >= 0 and 1 / 3 <= scores["imitation_posterior"] <= 1
    arrays = np.load(use / "eval" / "trajectories.npz")
    assert scores["imitation_nearest"] == arrays["imitation_distance"].argmin()
    assert scores["imitation_skill"] == arrays["imitation_log_q"].argmax()
    played = arrays["control_z"]
    assert (played == scores["imitation_skill"]).all()
    report = re.sub(r"<[^>]*>", " ", (use / "report.html").read_text())
    assert "skill nearest to the expert" in report and (use / "eval" / "figures" / "imitation.png").is_file()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["downstream=finetune", "downstream.keep=all"],
            "downstream.keep is 'all': it can be none, actor, critic, both",
        ),
        (
            ["downstream=finetune", "downstream.skill=7"],
            "downstream.skill is 7: it must be best, regressed or a number from 0 to 2",
        ),
        (["downstream=finetune", "controller=dqn"], "has no use for a controller: leave controller out"),
        (["downstream=finetune", "downstream.env_steps=800"], "downstream.choice_env_steps is 20000: it must be less"),
        (["downstream=finetune", "downstream.collect=6"], "downstream.collect is 6"),
        (["downstream=finetune", "learner=primitive"], "trains an actor, and these skills (PrimitivePolicy) have none"),
        (["downstream=imitate"], "downstream.expert is missing"),
        (["downstream=imitate", "downstream.expert=nowhere.npz"], "nowhere.npz is no file"),
        (
            ["downstream=finetune", "downstream.keep=critic", "skills={bare}"],
            "have no critic.safetensors, keep the actor",
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    overrides: list[str], message: str, tmp_path: Path, capfd: pytest.CaptureFixture
):
    small = [part for part in SMALL if "primitive" not in str(overrides) or not part.startswith("learner.")]
    if "{bare}" in overrides[-1]:
        assert main(*SMALL, "evaluate=false", f"hydra.run.dir={tmp_path / 'bare'}") == 0
        (tmp_path / "bare" / "skills" / "critic.safetensors").unlink()
        assert (
            main(f"skills={tmp_path / 'bare'}", "downstream=null", "evaluate=false", f"hydra.run.dir={tmp_path}/y") == 0
        )
        small, overrides = [], [part.replace("{bare}", str(tmp_path / "bare")) for part in overrides]
    capfd.readouterr()
    assert main(*small, *overrides, f"hydra.run.dir={tmp_path / 'x'}") == 2
    *hydras, said = capfd.readouterr().err.strip().splitlines()
    assert message in said and said.startswith("error: ") and len(hydras) <= 1
    assert not (tmp_path / "x").exists()
