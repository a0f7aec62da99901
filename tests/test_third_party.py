"""docs/extending.md is run as it stands: as somebody's package that we know nothing of, and inside the repository."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text()
SMALL = ["pretrain.env_steps=400", "pretrain.warmup=80", "learner.hidden_dims=[8]", "learner.batch_size=16"]
USE = ["task=windy_goal", "downstream=control", "controller=bandit", "downstream.env_steps=400"]
PATH, TRUST = "hydra.searchpath=[pkg://myskills.conf]", "runtime.trusted=[myskills]"
HERE = {  # where each file goes in this repository
    "myskills/learner.py": "skillrl/learners/means.py",
    "myskills/env.py": "envs/windy.py",
    "myskills/controller.py": "skillrl/controllers/bandit.py",
}


def blocks() -> dict[str, str]:
    """File → what the page puts into it."""
    found = dict(re.findall(r"^`(myskills/[\w/.]+)`\n\n```\w+\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))
    assert len(found) == 7 and set(HERE) < set(found)
    return found


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that somebody has on PYTHONPATH."""
    folder = tmp_path_factory.mktemp("elsewhere")
    write(folder, {**blocks(), "myskills/__init__.py": "", "myskills/conf/__init__.py": ""})
    return folder


def start(script: str, *arguments: str, package: Path, cwd: Path) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / script), *arguments]
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)


def test_a_package_elsewhere_trains_resumes_and_evaluates(package: Path, tmp_path: Path):
    run = tmp_path / "run"
    command = [PATH, TRUST, "learner=means", "env=windy", *SMALL, *USE]
    done = start("train.py", *command, "evaluate=false", f"hydra.run.dir={run}", package=package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = (run / "config.yaml").read_text()
    assert all(f"_target_: myskills.{name}" in config for name in ("learner.Means", "env.Windy", "controller.Bandit"))

    refused = start("train.py", f"resume={run}", "downstream.env_steps=800", package=package, cwd=tmp_path)
    assert refused.returncode == 2 and "(runtime.trusted)" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    done = start("train.py", f"resume={run}", "downstream.env_steps=800", TRUST, package=package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "run.json").read_text())["status"] == "finished"
    assert (run / "metrics.csv").read_text().splitlines()[-1].startswith("800,")

    done = start("eval.py", f"run={run}", TRUST, package=package, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((run / "eval" / "metrics.json").read_text())
    assert scores["num_skills"] == 8 and scores["success_rate_random"] is not None
    assert (run / "report.html").is_file() and (run / "eval" / "videos" / "control.mp4").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([PATH, "learner=means"], "learner: _target_ 'myskills.learner.Means' is not allowed"),
        ([PATH, TRUST, "learner=nope"], "Available options in 'learner': "),
        (["hydra.searchpath=[pkg://myskils.conf]", "learner=means"], "learner=means is not there"),
        ([PATH, TRUST, "learner=means", "+learner.speed=3"], "learner.speed is no key of myskills.learner.Means"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(
    arguments: list, message: str, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    import train as train_script

    monkeypatch.syspath_prepend(package)
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments, f"hydra.run.dir={tmp_path / 'run'}"])
    assert train_script.main() == 2
    lines = [line for line in capsys.readouterr().err.strip().splitlines() if "Warning" not in line]
    assert message in lines[-1] and lines[-1].startswith("error: ")
    assert not (tmp_path / "run").exists()


def test_inside_the_repository_its_own_tests_find_it(tmp_path: Path):
    for name in ("skillrl", "envs", "conf", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "eval.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    files = {}
    for name, text in blocks().items():
        for theirs, ours in HERE.items():
            text = text.replace(theirs[:-3].replace("/", "."), ours[:-3].replace("/", "."))
        files[HERE.get(name, name.removeprefix("myskills/"))] = text
    write(tmp_path, files)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "tests/test_configs.py",
        "tests/test_imports.py",
    ]
    command += ["-k", "means or windy or bandit or detour"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0 and done.stdout.count(".") > 12, done.stdout


def test_the_means_are_what_was_seen_and_the_reward_is_the_log_posterior(package: Path, monkeypatch):
    monkeypatch.syspath_prepend(package)
    from myskills.learner import Means

    from skillrl.skill_spaces import Discrete
    from skillrl.spec import Batch, Field, Spec

    learner = Means(Spec(Field((2,)), Field((2,)), horizon=5), skill_space=Discrete(3), rate=1.0)
    before = learner.means.clone()
    next_obs = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]])
    batch = Batch(next_obs=next_obs, z=torch.tensor([0, 0, 1]))
    learner.fit(batch)
    torch.testing.assert_close(learner.means[:2], torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    assert torch.equal(learner.means[2], before[2])
    learner.means[2] = torch.tensor([1.0, 0.0])
    reward = learner.intrinsic_reward(Batch(next_obs=torch.tensor([[1.0, 0.0]]), z=torch.tensor([0])))
    far = torch.tensor(-0.5 * 17)
    assert torch.allclose(reward, -torch.log(2 + far.exp()) + torch.log(torch.tensor(3.0)))
