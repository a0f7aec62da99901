"""Pretraining from a dataset: from the command line to the report, stopped and resumed, and what is refused."""

import json
import logging
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from checks import Check
from test_uses import rows
from torch import Tensor

import eval as eval_script
import skillrl
import train as train_script
from envs.point import Point
from skillrl import offline
from skillrl.data.dataset import Dataset
from skillrl.learners.base import Learner
from skillrl.learners.diayn import DIAYN
from skillrl.learners.flat import Flat
from skillrl.skill_spaces import Discrete, MultiDiscrete
from skillrl.spec import Need, Spec
from skillrl.training import Schedule, train

ROOT = Path(__file__).parents[1]
TINY = ["env.horizon=5", "learner.skill_space.n=2", "learner.hidden_dims=[8]", "learner.batch_size=8"]
ONLINE = [*TINY, "pretrain.env_steps=160", "pretrain.warmup=80", "evaluate=false"]
OFFLINE = [*TINY, "logger.every=10", "checkpoint_every=10"]


def call(script: Any, *arguments: str) -> int:
    """train.py or eval.py in this process; exit code."""
    before, sys.argv = sys.argv, [script.__name__, *arguments]
    try:
        return script.main()
    finally:
        sys.argv = before


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The replay of a small DIAYN run, exported."""
    folder = tmp_path_factory.mktemp("data")
    assert call(train_script, *ONLINE, f"hydra.run.dir={folder / 'run'}") == 0
    assert call(eval_script, f"run={folder / 'run'}", f"export={folder / 'data.npz'}") == 0
    return folder / "data.npz"


# ---- whole runs


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_from_the_command_line_killed_resumed_and_extended(data: Path, tmp_path: Path, capsys: Any):
    """As one whole run, bit for bit; without its data where none is needed, and never with other data."""
    mine = tmp_path / "mine.npz"
    mine.write_bytes(data.read_bytes())
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    new = [*OFFLINE, f"data={mine}", "evaluate=false", "snapshots=[30,60]"]
    jobs: list[Any] = [
        [[*new, "pretrain.grad_steps=60", f"hydra.run.dir={whole}"], "", ""],
        [[*new, "pretrain.grad_steps=40", f"hydra.run.dir={parts}"], "kill", "000000000020.pt"],
        [[f"resume={parts}"], "after stop", "000000000030.pt"],  # a round that has left a snapshot
        [[f"resume={parts}"], "", ""],
    ]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "killing.py"), json.dumps(jobs)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    results = [json.loads(line)["code"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert results == [0, -9, 143, 0], done.stderr[-3000:]
    mine.unlink()  # done is done
    assert call(train_script, f"resume={parts}") == 0
    assert call(train_script, f"resume={parts}", "pretrain.grad_steps=60") == 2
    mine.write_bytes(data.read_bytes())
    other = np.load(mine)
    np.savez(mine, **{**other, "rewards": other["rewards"] + 1})
    assert call(train_script, f"resume={parts}", "pretrain.grad_steps=60") == 2
    for wrong in ("pretrain.grad_steps=30", "pretrain.env_steps=100000"):
        assert call(train_script, f"resume={parts}", wrong) == 2
    said = capsys.readouterr().err
    assert "mine.npz is no file" in said and "is not what it was when this run began" in said
    assert "grad_steps is 30: it was 40" in said and "only runtime, logger, pretrain.grad_steps can" in said
    mine.write_bytes(data.read_bytes())
    assert call(train_script, f"resume={parts}", "pretrain.grad_steps=60") == 0
    assert rows(parts) == rows(whole)
    assert [(row["env_steps"], row["grad_steps"]) for row in rows(whole)] == [("0", str(10 * i)) for i in range(1, 7)]
    for file in ("skills", "skills/30", "skills/60"):
        model = (whole / file / "model.safetensors").read_bytes()
        assert model == (parts / file / "model.safetensors").read_bytes()
    assert skillrl.load(parts / "skills" / "30").space == Discrete(2)


def test_skills_from_data_are_used_downstream_and_reported(data: Path, tmp_path: Path):
    use = ["downstream=control", "controller=random", "downstream.env_steps=80"]
    assert (
        call(train_script, *OFFLINE, f"data={data}", "pretrain.grad_steps=10", *use, f"hydra.run.dir={tmp_path}") == 0
    )
    assert {row["phase"] for row in rows(tmp_path)} >= {"pretrain"} and (tmp_path / "controller").is_dir()
    report = (tmp_path / "report.html").read_text()
    assert "10 updates of pretraining" in report and f"data from {data}" in report
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert (config["data"], config["pretrain"]["grad_steps"]) == (str(data), 10)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["pretrain.grad_steps=null"], "pretrain.grad_steps is None: with data it is the budget, at least 1 update"),
        (["pretrain.grad_steps=0"], "pretrain.grad_steps is 0: with data"),
        (["data=null"], "pretrain.grad_steps is 9, but there is no data: the budget is pretrain.env_steps"),
        (["skills=RUN"], "data and skills are both given"),
        (["data=nowhere.npz"], "nowhere.npz is no file"),
        (["env=hopper"], r"data.npz: its observations have shape (2,), those of env (12,)"),
        (["learner=primitive"], "Primitive learns nothing from data"),
        (["learner.skill_space.n=1"], ""),
    ],
)
def test_what_cannot_work_is_said_at_once(data: Path, overrides: list[str], said: str, tmp_path: Path, capsys: Any):
    small = [] if "learner=primitive" in overrides else TINY[1:]
    run = [*small, f"data={data}", "pretrain.grad_steps=9", "evaluate=false", f"hydra.run.dir={tmp_path / 'run'}"]
    given = [one.replace("RUN", str(data.parent / "run")) for one in overrides]
    assert call(train_script, *run, *given) == (2 if said else 0)
    assert said in capsys.readouterr().err
    assert (tmp_path / "run").exists() == (not said)


def test_export_says_what_it_cannot_do(data: Path, tmp_path: Path, capsys: Any):
    run = data.parent / "run"
    before = data.read_bytes()
    assert call(eval_script, f"run={run}", f"export={data}") == 2
    assert "exists already" in capsys.readouterr().err and data.read_bytes() == before
    assert call(train_script, *OFFLINE, f"data={data}", "pretrain.grad_steps=9", "evaluate=false",
                f"hydra.run.dir={tmp_path / 'run'}") == 0  # fmt: skip
    assert call(eval_script, f"run={tmp_path / 'run'}", f"export={tmp_path / 'x.npz'}") == 2
    assert "has no replay of a pretraining" in capsys.readouterr().err and not (tmp_path / "x.npz").exists()


def test_an_export_is_the_runs_replay(data: Path):
    dataset = Dataset.load(data)
    assert len(dataset) == 160 and dataset.lengths.tolist() == [5] * 32
    assert dataset.spec is not None and dataset.spec.obs.names == {"xy": (0, 2)}
    with closing(Point(num_envs=1, horizon=5)) as env:  # the same actions lead to the same places
        for e in (0, 17, 31):
            obs, _ = env.reset(seed=0)
            for i in range(5 * e, 5 * e + 5):
                assert np.array_equal(obs[0], dataset.steps["obs"][i].numpy())
                obs, *_, info = env.step(dataset.steps["action"][i : i + 1].numpy())
            assert np.array_equal(info["final_obs"][0], dataset.final_obs[e].numpy())


# ---- learner and data

WAYS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])


def spec() -> Spec:
    with closing(Point(num_envs=1)) as env:
        return Spec.from_env(env)


def walks(episodes: int = 40, length: int = 20, seed: int = 0) -> Dataset:
    """Skill k walks straight in direction k, with some noise."""
    noise = 0.3 * torch.randn(episodes, length, 2, generator=torch.Generator().manual_seed(seed))
    z = torch.arange(episodes) % 4
    action = (WAYS[z][:, None] + noise).clamp(-1, 1)  # (E, T, 2)
    path = torch.cat([torch.zeros(episodes, 1, 2), (0.2 * action).cumsum(1)], 1)  # (E, T + 1, 2)
    ends = torch.zeros(episodes, length, dtype=torch.bool)
    ends[:, -1] = True
    steps = {"obs": path[:, :-1], "action": action, "reward": torch.ones(episodes, length),
             "z": z[:, None].expand(-1, length), "truncated": ends, "terminated": torch.zeros_like(ends)}  # fmt: skip
    flat = {name: value.reshape(episodes * length, *value.shape[2:]) for name, value in steps.items()}
    return Dataset(flat, path[:, -1], torch.full((episodes,), length), spec())


def without(dataset: Dataset, *names: str) -> Dataset:
    kept = {name: value for name, value in dataset.steps.items() if name not in names}
    return Dataset(kept, dataset.final_obs, dataset.lengths, dataset.spec, dataset.absent)


def with_z(dataset: Dataset, z: Tensor) -> Dataset:
    return Dataset({**dataset.steps, "z": z}, dataset.final_obs, dataset.lengths, dataset.spec)


class Deciding(Learner):
    """Wants what no dataset has."""

    def needs(self):
        return {"high": Need("decisions")}


def small(*, seed: int = 0, **changes: Any) -> DIAYN:
    torch.manual_seed(seed)
    arguments = {"skill_space": Discrete(4), "hidden_dims": [32], "batch_size": 64} | changes
    learner = DIAYN(spec(), **arguments)
    learner.generator.manual_seed(seed)
    return learner


def test_a_learner_gets_what_it_needs_or_says_what_is_missing(caplog: pytest.LogCaptureFixture):
    data = walks()
    offline.rehearse(data, small())
    for dataset, learner, said in (
        (without(data, "z"), small(), "DIAYN needs z, which the data does not have: it has action, obs, reward"),
        (data, small(skill_space=Discrete(3)), "skills in the data are 0 to 3, but learner.skill_space has 3"),
        (with_z(data, torch.zeros(len(data), 2)), small(), r"z in the data is torch.float32 \(2,\), of this learner"),
        (data, Deciding(spec()), "Deciding needs decisions: a dataset has transitions, sequences, episodes"),
    ):
        with pytest.raises(ValueError, match=said):
            offline.rehearse(dataset, learner)
    with caplog.at_level(logging.WARNING):
        offline.rehearse(data, small(skill_space=Discrete(6)))
    assert "the others of 6 are not trained" in caplog.text


class Choosing(DIAYN):
    """Draws its own skills, as successor features do: those in the data are nothing to it."""

    def update(self, batches):
        batch = batches["batch"]
        return super().update({"batch": batch.replace(z=torch.zeros(64, dtype=torch.int64))})


def test_a_learner_that_reads_no_skills_takes_any():
    choosing = Choosing(spec(), skill_space=Discrete(3), hidden_dims=[8], batch_size=64)
    offline.rehearse(walks(), choosing)
    offline.rehearse(without(walks(), "z"), choosing)


def test_ordinary_rl_takes_any_skills_but_needs_rewards(tmp_path: Path):
    flat = Flat(spec(), hidden_dims=[8], batch_size=16)
    for dataset in (walks(), without(walks(), "z")):
        loaded = offline.load(dataset.save(tmp_path / "data.npz"), flat)
        offline.rehearse(loaded, flat)
        assert not loaded.steps["z"].any()
    obs = walks().steps["obs"].numpy()
    np.savez(tmp_path / "og.npz", observations=obs, actions=0 * obs, terminals=np.arange(len(obs)) % 20 == 19)
    with pytest.raises(ValueError, match="Flat needs reward, which the data does not have: it has action, obs"):
        offline.rehearse(offline.load(tmp_path / "og.npz", flat), flat)


@pytest.mark.learning("skillrl/offline.py", "skillrl/data/", "skillrl/learners/diayn.py")
@pytest.mark.parametrize("skills", ["its own", "shuffled"])
def test_diayn_learns_from_data(skills: str, seed: int, check: Check):
    """A reward is at most log 4 = 1.39; by chance 1/4 are told."""
    data = walks(seed=seed)
    if skills == "shuffled":
        data = with_z(data, data.steps["z"][torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))])
    learner = small(seed=seed, discriminator_lr=3e-3)
    replay = data.replay(gamma=learner.gamma, seed=seed)
    state = train(env=None, learner=learner, data=replay, schedule=Schedule(300), seed=seed)
    assert state.grad_steps == 300 and state.env_steps == 0
    batch = replay.sample_one(Need("transitions", 2000))
    told = (learner.log_q(batch["next_obs"]).argmax(-1) == batch["z"]).float().mean().item()
    gates = ("> 0.8", "> 0.85") if skills == "its own" else ("<= 0.8", "< 0.4")
    check({"reward": (learner.intrinsic_reward(batch).mean().item(), gates[0]), "skills told": (told, gates[1])})


def test_skills_of_factors_must_lie_in_their_space():
    data, space = walks(), MultiDiscrete(3, 2)
    inside = space.sample(len(data))
    assert not offline.foreign_skills(space, with_z(data, inside))
    inside[:2, 1] = 3
    assert offline.foreign_skills(space, with_z(data, inside)) == "2 skills in the data lie outside learner.skill_space"
