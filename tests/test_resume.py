"""A run that is stopped anywhere and resumed ends as if nothing had been."""

import csv
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from config_values import CONF
from test_uses import main

from envs.point import Point
from skillrl.checkpoint import Checkpoints
from skillrl.data.replay import Replay
from skillrl.learners.diayn import DIAYN
from skillrl.skill_spaces import Discrete
from skillrl.spec import Spec
from skillrl.training import Schedule, State, begin, train

SMALL = [
    *["env=swimmer", "task=swimmer_goal", "env.horizon=10", "task.horizon=10", "runtime.workers=2"],
    *["learner.skill_space.n=2", "learner.hidden_dims=[16]", "learner.batch_size=16", "checkpoint_every=200"],
    *["pretrain.env_steps=1200", "pretrain.warmup=200", "logger.every=100"],
    *["downstream=control", "controller=dqn", "controller.hidden_dims=[16]", "controller.batch_size=16"],
    *["downstream.env_steps=800", "downstream.warmup=200", "pretrain.overlap=true", "downstream.overlap=true"],
]
ENDS = [  # how and where the run ends, each time to be resumed; and the exit code
    ("kill", "pretrain/data/000000000200.pt", -9),  # before any checkpoint
    ("after kill", "pretrain/000000000200.pt", -9),  # right after the first
    ("kill", "pretrain/000000000600.pt", -9),  # while one is being written
    ("after stop", "pretrain/data/000000000800.pt", 143),  # saves, though it is saving already
    ("kill", "skills/config.json", -9),  # between pretraining and control
    ("after interrupt", "control/000000000200.pt", 130),
    ("kill", "control/data/000000000400.pt", -9),
    ("kill", "eval/trajectories.npz", -9),  # in the evaluation
    ("", "", 0),
]


ON_POLICY = [  # stopped amid rollouts, which are of 288 steps, and of 40 decisions
    *["env=point", "env.horizon=20", "agent@learner.agent=ppo", "learner.batch_size=288"],
    *["learner.skill_space.n=2", "learner.hidden_dims=[16]", "checkpoint_every=200", "logger.every=100"],
    *["pretrain.env_steps=1000", "pretrain.warmup=0", "downstream.warmup=0", "downstream.env_steps=600"],
    *["downstream=control", "controller=ppo", "controller.hold=3", "controller.hidden_dims=[16]"],
    *["controller.batch_size=40", "controller.agent.minibatch_size=16", "evaluate=false"],
]
ON_POLICY_ENDS = [
    ("after kill", "pretrain/000000000400.pt", -9),
    ("after stop", "pretrain/data/000000000800.pt", 143),
    ("after kill", "control/000000000400.pt", -9),
    ("", "", 0),
]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_and_resumed_is_as_if_nothing_had_been(tmp_path: Path):
    results = stopped_and_not(tmp_path, SMALL, ENDS)
    assert any(result["workers"] == 2 for result in results), "there were workers to outlive it"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert (whole / "eval" / "metrics.json").read_bytes() == (parts / "eval" / "metrics.json").read_bytes()
    resuming_what_is_finished_changes_nothing(parts)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_amid_a_rollout_and_resumed_is_as_if_nothing_had_been(tmp_path: Path):
    stopped_and_not(tmp_path, ON_POLICY, ON_POLICY_ENDS)
    steps = [int(row["grad_steps"]) for row in rows(tmp_path / "whole")]
    assert max(steps) >= 3 and steps[-1] >= 3, "both phases did learn"


def stopped_and_not(tmp_path: Path, arguments: list[str], ends: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    """One run to its end in ``whole`` and one with stops in ``parts``: what they leave is alike."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    jobs: list[Any] = [[[*arguments, f"hydra.run.dir={whole}"], "", ""]]
    starts = [[*arguments, f"hydra.run.dir={parts}"], *[[f"resume={parts}"]] * (len(ends) - 1)]
    jobs += [[start, how, where] for start, (how, where, _) in zip(starts, ends, strict=True)]
    memory = set(os.listdir("/dev/shm"))
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killing.py")), json.dumps(jobs)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    results = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [result["code"] for result in results] == [0, *[code for _, _, code in ends]], done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert not any(result["outlived"] for result in results)
    assert set(os.listdir("/dev/shm")) <= memory
    assert rows(whole) == rows(parts)
    for file in ("skills/model.safetensors", "skills/config.json", "controller/model.safetensors"):
        assert (whole / file).read_bytes() == (parts / file).read_bytes(), file
    assert not list(parts.rglob("*.partial"))
    record = json.loads((parts / "run.json").read_text())
    assert record["status"] == "finished" and len(record["resumed"]) == len(ends) - 1
    return results


def resuming_what_is_finished_changes_nothing(folder: Path) -> None:
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "report.html"}
    assert main(f"resume={folder}") == 0
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "report.html"}


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    assert {"pretrain", "control"} >= {row["phase"] for row in found} and len(found) > 3
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in found]


POINT = ["learner.hidden_dims=[8]", "learner.batch_size=8", "pretrain.warmup=80", "evaluate=false", "logger.every=80"]


def test_a_finished_run_goes_on_with_a_larger_budget(tmp_path: Path, capsys: pytest.CaptureFixture):
    for name, steps in (("long", 400), ("short", 240)):
        assert main(*POINT, f"pretrain.env_steps={steps}", f"hydra.run.dir={tmp_path / name}") == 0
    assert main(f"resume={tmp_path / 'short'}", "pretrain.env_steps=160") == 2
    assert main(f"resume={tmp_path / 'short'}", "seed=1") == 2
    assert main(f"resume={tmp_path / 'short'}", "runtime=nope") == 2
    assert "can only grow" in (said := capsys.readouterr().err) and "seed=1: with resume, only" in said
    assert main(f"resume={tmp_path / 'short'}", "pretrain.env_steps=400", "logger.every=80", "runtime=cpu") == 0
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    models = [(tmp_path / name / "skills" / "model.safetensors").read_bytes() for name in ("short", "long")]
    assert models[0] == models[1]


USES = {"finetune", "mixed"}  # small experiments of what skills are used for: resumed in tests of their own
PRETRAINED = sorted({path.stem for path in (CONF / "experiment" / "small").glob("*.yaml")} - USES)


@pytest.mark.parametrize("name", PRETRAINED)
def test_every_learner_goes_on_exactly(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """From its small experiment, with whatever its checkpoint holds beside networks: counters, means, slow copies. One
    makes each of its updates anew, the other notes one and does it again, as does the resumed run."""
    small = [f"experiment=small/{name}", "pretrain.warmup=160", "evaluate=false", "logger.every=160"]
    for run, steps, graph in (("long", 1600, False), ("short", 800, True)):
        run_at = [f"pretrain.env_steps={steps}", f"runtime.graph={graph}", f"hydra.run.dir={tmp_path / run}"]
        assert main(*small, *run_at) == 0
    assert main(f"resume={tmp_path / 'short'}", "pretrain.env_steps=1600") == 0
    assert "runtime.graph" not in caplog.text
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    assert int(rows(tmp_path / "long")[-1]["grad_steps"]) > int(rows(tmp_path / "long")[3]["grad_steps"])
    models = [(tmp_path / run / "skills" / "model.safetensors").read_bytes() for run in ("short", "long")]
    assert models[0] == models[1]


ELSEWHERE = {"dqn", "ppo", "mixed", "skill_blender", "sb3"}  # stopped above, or in tests of their own
SKILLS = {"sac": "metra", "zero_shot": "metra", "hybrid": "mlps", "imagined": "choreographer", "planner": "dads"}
CHEAP = {"imagined": ["controller.batch_size=4", "controller.length=5", "controller.starts=4", "controller.horizon=3"]}
CONTROLLERS = sorted({path.stem for path in (CONF / "controller").glob("*.yaml")} - ELSEWHERE)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_every_controller_goes_on_exactly(name: str, tmp_path: Path):
    """Amid an episode and a skill, with what its selector carries: a plan, a latent state."""
    small = [f"experiment=small/{SKILLS.get(name, 'diayn')}", "pretrain.env_steps=160", "pretrain.warmup=160"]
    small += ["downstream=control", "task=point_goal", f"controller={name}", "controller.hold=3", *CHEAP.get(name, [])]
    small += ["downstream.warmup=80", "downstream.collect=40", "evaluate=false", "logger.every=40"]
    for run, steps in (("long", 480), ("short", 200)):
        assert main(*small, f"downstream.env_steps={steps}", f"hydra.run.dir={tmp_path / run}") == 0
    assert main(f"resume={tmp_path / 'short'}", "downstream.env_steps=480") == 0
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    models = [sorted((tmp_path / run / "controller").glob("*.safetensors")) for run in ("short", "long")]
    assert [path.read_bytes() for path in models[0]] == [path.read_bytes() for path in models[1]]


def test_a_run_on_pictures_goes_on_exactly(tmp_path: Path):
    tiny = ["experiment=choreographer/half_cheetah_pixels", "env=point", "env.horizon=10", "env.num_envs=4"]
    tiny += ["learner.hidden_dims=[8]", "learner.depth=1", "learner.starts=4", "learner.batch_size=2"]
    tiny += ["learner.length=4", "pretrain.warmup=80", "pretrain.updates=1", "evaluate=false", "logger.every=40"]
    for run, steps in (("long", 240), ("short", 120)):
        assert main(*tiny, f"pretrain.env_steps={steps}", f"hydra.run.dir={tmp_path / run}") == 0
    assert main(f"resume={tmp_path / 'short'}", "pretrain.env_steps=240") == 0
    assert rows(tmp_path / "short") == rows(tmp_path / "long")
    assert int(rows(tmp_path / "long")[-1]["grad_steps"]) > 10
    models = [(tmp_path / run / "skills" / "model.safetensors").read_bytes() for run in ("short", "long")]
    assert models[0] == models[1]


def test_an_extended_run_has_new_snapshots_and_a_new_report(tmp_path: Path):
    small = [*POINT, "evaluate=true", "env.horizon=5", "learner.skill_space.n=2", "snapshots=[100,240,320]"]
    assert main(*small, "pretrain.env_steps=240", f"hydra.run.dir={tmp_path / 'run'}") == 0
    found = lambda: sorted(p.name for p in (tmp_path / "run" / "skills").iterdir() if p.is_dir())  # noqa: E731
    assert found() == ["104", "240"] and "240 env steps" in (tmp_path / "run" / "report.html").read_text()
    assert main(f"resume={tmp_path / 'run'}", "pretrain.env_steps=400") == 0
    assert found() == ["104", "240", "320"] and "400 env steps" in (tmp_path / "run" / "report.html").read_text()
    assert [row["env_steps"] for row in rows(tmp_path / "run")] == ["80", "160", "240", "320", "400"]
    use = [f"skills={tmp_path / 'run' / 'skills' / '320'}", "evaluate=false", f"hydra.run.dir={tmp_path / 'use'}"]
    assert main(*use) == 0


def test_a_budget_that_a_run_does_not_have_cannot_grow(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main(*POINT, "pretrain.env_steps=160", f"hydra.run.dir={tmp_path}") == 0
    for override in ("pretrain.grad_steps=10", "downstream.env_steps=100"):
        assert main(f"resume={tmp_path}", override) == 2
        assert f"{override}: with resume, only runtime, logger, pretrain.env_steps can" in capsys.readouterr().err


def test_skills_in_use_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture):
    use = ["downstream=control", "controller=random", "downstream.env_steps=80", f"hydra.run.dir={tmp_path}"]
    assert main(*POINT, *use, "pretrain.env_steps=160") == 0
    config = (tmp_path / "config.yaml").read_bytes()
    assert main(f"resume={tmp_path}", "pretrain.env_steps=320") == 2
    assert "pretrain.env_steps cannot grow" in capsys.readouterr().err
    assert (tmp_path / "config.yaml").read_bytes() == config
    assert main(f"resume={tmp_path}", "downstream.env_steps=160") == 0


def test_an_env_whose_physics_cannot_be_saved_begins_fresh_episodes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    env = ["env=gymnasium", "env.id=CartPole-v1", "learner=flat", "agent@learner.agent=dqn", "learner.batch_size=8"]
    small = ["learner.hidden_dims=[8]", "pretrain.warmup=80", "evaluate=false", f"hydra.run.dir={tmp_path / 'run'}"]
    assert main(*env, *small, "pretrain.env_steps=160") == 0
    assert main(f"resume={tmp_path / 'run'}", "pretrain.env_steps=320") == 0
    assert "begins fresh episodes" in caplog.text
    assert (tmp_path / "run" / "skills" / "model.safetensors").is_file()


def test_two_processes_do_not_write_to_one_run(tmp_path: Path, capsys: pytest.CaptureFixture):
    from skillrl.record import locked

    assert main(*POINT, "pretrain.env_steps=160", f"hydra.run.dir={tmp_path / 'run'}") == 0
    with locked(tmp_path / "run"):
        assert main(f"resume={tmp_path / 'run'}", "pretrain.env_steps=320") == 2
    assert "another process is writing to this run" in capsys.readouterr().err


# ---- the checkpoints themselves


def started(env: Point, capacity: int = 4000, total: int = 800) -> State:
    torch.manual_seed(0)
    learner = DIAYN(Spec.from_env(env), skill_space=Discrete(4), hidden_dims=[8], batch_size=8)
    learner.generator.manual_seed(1)
    data = Replay(capacity, env.num_envs, gamma=learner.gamma, seed=2)
    return begin(env=env, learner=learner, data=data, schedule=Schedule(total=total, warmup=80, overlap=True), seed=3)


def go(state: State, steps: int, *hooks: Any) -> State:
    """On to ``steps`` env steps."""
    state.schedule = Schedule(total=steps, warmup=80, overlap=True)
    return train(env=None, learner=state.learner, data=state.data, schedule=state.schedule, hooks=hooks, state=state)


def everything(state: State) -> dict[str, torch.Tensor]:
    """What has to be equal, bit for bit."""
    batches = state.data.sample(state.learner.needs())["batch"]
    return {**state.learner.state_dict(), **{f"batch/{key}": value for key, value in batches.items()}}


def test_everything_comes_back(tmp_path: Path):
    with closing(Point(num_envs=4)) as env, closing(Point(num_envs=4)) as other:
        state = go(started(env), 400)
        Checkpoints(tmp_path).save(state)
        np.random.seed(5)
        resumed = started(other)
        assert Checkpoints(tmp_path).restore(resumed)
        assert (resumed.env_steps, resumed.grad_steps) == (state.env_steps, state.grad_steps)
        ours, theirs = everything(go(state, 800)), everything(go(resumed, 800))
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]), name


def test_generators_of_others_come_back(tmp_path: Path):
    with closing(Point(num_envs=4)) as env:
        state = started(env)
        Checkpoints(tmp_path).save(state)
        drawn = torch.rand(3), np.random.rand(3)
        Checkpoints(tmp_path).restore(state)
        assert torch.equal(drawn[0], torch.rand(3)) and np.array_equal(drawn[1], np.random.rand(3))


def test_a_checkpoint_costs_what_is_new(tmp_path: Path):
    with closing(Point(num_envs=4)) as env:
        state, checkpoints = started(env), Checkpoints(tmp_path)
        for steps in range(400, 3601, 400):
            checkpoints.save(go(state, steps))
        segments = [path.stat().st_size for path in sorted(tmp_path.glob("data/*.pt"))]
        assert len(segments) == 9 and max(segments) < 1.3 * min(segments)
        sizes = [path.stat().st_size for path in checkpoints.found()]
        assert len(sizes) == 2 and abs(sizes[0] - sizes[1]) < 1000


def test_segments_of_what_the_replay_forgot_are_removed(tmp_path: Path):
    with closing(Point(num_envs=4)) as env, closing(Point(num_envs=4)) as other:
        state, checkpoints = started(env, capacity=1000), Checkpoints(tmp_path)
        (tmp_path / "data").mkdir()
        for left in ("data/000000000123.pt", "data/000000000400.pt.partial", "000000000400.pt.partial"):
            (tmp_path / left).write_bytes(b"of a kill")
        for steps in range(200, 4001, 200):
            checkpoints.save(go(state, steps))
        kept = sorted(path.name for path in tmp_path.glob("data/*"))
        assert len(kept) <= 8 and kept[-1] == "000000004000.pt" and kept[0] > "000000002000.pt"
        assert not list(tmp_path.glob("*.partial"))
        resumed = started(other, capacity=1000)
        assert Checkpoints(tmp_path).restore(resumed)
        ours, theirs = everything(go(state, 4400)), everything(go(resumed, 4400))
        assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_saving_twice_between_two_rounds_loses_nothing(tmp_path: Path):
    with closing(Point(num_envs=4)) as env:
        state, checkpoints = go(started(env), 400), Checkpoints(tmp_path)
        checkpoints.save(state)
        before = {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}
        checkpoints.save(state)
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.pt")}


def test_of_two_checkpoints_the_older_stands_in_for_a_broken_one(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with closing(Point(num_envs=4)) as env:
        state, checkpoints = started(env), Checkpoints(tmp_path)
        for steps in (400, 800):
            checkpoints.save(go(state, steps))
        newest = checkpoints.found()[-1]
        newest.write_bytes(newest.read_bytes()[:1000])
        resumed = started(env)
        assert Checkpoints(tmp_path).restore(resumed) and resumed.env_steps == 400
        assert "cannot be read" in caplog.text
        for path in checkpoints.found():
            path.write_bytes(b"")
        with pytest.raises(ValueError, match=r"no checkpoint in .* can be read"):
            Checkpoints(tmp_path).restore(started(env))


def test_checkpoints_hold_no_pickled_code(tmp_path: Path):
    """They are read as tensors and plain values: a stranger's run runs no stranger's code."""
    with closing(Point(num_envs=4)) as env:
        path = Checkpoints(tmp_path).save(go(started(env), 400))
        torch.save({"segments": [], "evil": Evil()}, path)
        with pytest.raises(ValueError, match="can be read"):
            Checkpoints(tmp_path).restore(started(env))
        assert not (tmp_path / "ran").exists()


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)
