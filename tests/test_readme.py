"""The README's Python is run as it stands, at a smaller budget."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_use_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = re.search(r"```python\n(from envs.*?)```", README, re.DOTALL)
    assert code is not None
    lines = [line for line in code[1].splitlines() if line]
    assert len(lines) == 8
    short = code[1].replace("50_000", "400")
    assert short != code[1]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(short, "README.md", "exec"), names)
    policy, learner = names["policy"], names["learner"]
    obs = torch.zeros(3, 2)
    z = policy.space.sample(3)
    assert z.shape == (3,) and policy.space.n == 50
    assert torch.equal(policy.act(obs, z, deterministic=True)[0], learner.policy.act(obs, z, deterministic=True)[0])


def test_the_lines_for_stable_baselines3_are_those_that_are_run() -> None:
    code = re.search(r"```python\n(skills = .*?)```", README, re.DOTALL)
    run = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[1] / "docs" / "sb3.md").read_text(), re.DOTALL)
    assert code is not None and code[1] in run[0]


def test_every_file_that_it_names_is_there() -> None:
    root = Path(__file__).parents[1]
    named = re.findall(r"(?:\(|`)((?:docs|skillrl|conf|envs|tests)/[\w/]+\.\w+)", README)
    assert named
    assert not [name for name in named if not (root / name).is_file()]
