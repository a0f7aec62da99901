"""What ``auto`` takes of a machine: a fixed rule, told and recorded, and never more than the least on two cores."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from test_configs import composed, plain

import train as train_script
from skillrl.config import complete
from skillrl.cores import settle
from skillrl.errors import BadInput

AUTO = ["runtime.threads=auto", "runtime.workers=auto"]


def config(*overrides: str) -> dict[str, Any]:
    return complete(plain(composed("train", *overrides)))


def taken(overrides: list[str], cores: int, jobs: int = 1) -> tuple[int, int, dict[str, str]]:
    settled, why = settle(config(*AUTO, *overrides), cores, jobs)
    return settled["runtime"]["threads"], settled["runtime"]["workers"], why


def wide(width: int, rows: int = 8) -> list[str]:
    collect = f"pretrain.collect={rows}"
    return ["env=half_cheetah", f"learner.hidden_dims=[16,{width}]", f"env.num_envs={rows}", collect]


@pytest.mark.parametrize(
    ("overrides", "cores", "jobs", "threads", "workers"),
    [
        (wide(1024, 64), 1, 1, 1, 0),
        (wide(1024, 64), 2, 1, 1, 0),  # two cores: whatever else runs on them, it is no slower than without auto
        (wide(1024, 64), 3, 1, 1, 0),
        (wide(1024, 64), 4, 1, 2, 2),
        (wide(256, 64), 4, 1, 2, 2),
        (wide(255, 64), 4, 1, 1, 2),
        (wide(1024, 64), 16, 1, 2, 4),  # at least sixteen rows for each worker
        (wide(1024, 128), 8, 1, 2, 4),  # at most half of the cores
        (wide(1024, 32), 16, 1, 2, 2),
        (wide(1024, 31), 16, 1, 2, 0),  # one worker alone gains nothing
        (wide(1024, 8), 16, 1, 2, 0),
        (wide(1024, 64), 16, 4, 2, 2),  # jobs of a sweep share the cores
        (wide(1024, 64), 16, 16, 1, 0),
        (wide(1024, 64), 16, 99, 1, 0),
        ([*wide(1024, 64), "runtime.device=cuda:0"], 16, 1, 1, 4),
        (["env=point", "learner.hidden_dims=[512]", "env.num_envs=64"], 16, 1, 2, 0),  # no processes step the point
    ],
)
def test_the_rule(overrides: list[str], cores: int, jobs: int, threads: int, workers: int):
    found = taken(overrides, cores, jobs)
    assert found[:2] == (threads, workers) and found == taken(overrides, cores, jobs)
    assert found[2].keys() == {"threads", "workers"} and all(found[2].values())


def test_what_is_trained_is_what_counts():
    narrow = ["learner.hidden_dims=[64]", "downstream=control", "controller=dqn"]
    assert taken([*narrow, "controller.hidden_dims=[64]"], 8)[0] == 1
    assert taken([*narrow, "controller.hidden_dims=[512]"], 8)[0] == 2
    assert taken(["learner=fb", "learner.hidden_dims=[64]", "learner.encoder_dims=[512]"], 8)[0] == 2
    loaded, why = settle(config(*AUTO, "learner.hidden_dims=[512]") | {"skills": "somewhere"}, 8)
    assert loaded["runtime"]["threads"] == 1 and why["threads"].startswith("no network is trained")


def test_the_reasons_are_said_as_they_are():
    assert taken(wide(128), 2)[2] == {
        "threads": "2 cores of its own, none to spare for a second thread",
        "workers": "2 cores of its own, none to spare for the physics",
    }
    assert taken(wide(128), 8)[2] == {
        "threads": "networks of 128 gain nothing from more",
        "workers": "8 rows of the env are too few to share out",
    }
    assert taken(["env=point"], 1)[2]["workers"] == "this env is stepped by the run itself"
    assert taken([*wide(128), "runtime.device=cuda"], 8)[2]["threads"] == "the updates are made on cuda"


def test_numbers_stay_and_the_envs_follow():
    given = config("runtime.threads=3", "runtime.workers=auto", *wide(64, 64), "task=half_cheetah_goal")
    before = json.dumps(given)
    settled, why = settle(given, 8)
    assert settled["runtime"]["threads"] == 3 and list(why) == ["workers"] and json.dumps(given) == before
    assert {settled[key]["workers"] for key in ("env", "task", "runtime")} == {0}  # the task has 8 rows
    own, _ = settle(config("runtime.workers=auto", "env.workers=5", *wide(64, 64)), 8)
    assert (own["env"]["workers"], own["runtime"]["workers"]) == (5, 4)
    plain_one = config("runtime.workers=2")
    assert settle(plain_one, 8) == (plain_one, {})


@pytest.mark.parametrize("key", ["threads", "workers"])
def test_another_word_is_an_error_that_names_the_key(key: str):
    with pytest.raises(BadInput, match=rf"^runtime\.{key} is 'all': it must be a whole number or auto$"):
        settle(config(f"runtime.{key}=all"), 2)


RUN = ["learner.hidden_dims=[8]", "learner.batch_size=8", "pretrain.warmup=80", "evaluate=false", "logger.every=80"]
RUN += ["pretrain.env_steps=160", "env=swimmer", "env.horizon=10"]


def test_a_run_says_and_records_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setattr("skillrl.run.count_cores", lambda: 2)
    for name, more in (("auto", AUTO), ("numbers", [])):
        monkeypatch.setattr(sys, "argv", ["train.py", *RUN, *more, f"hydra.run.dir={tmp_path / name}"])
        assert train_script.main() == 0
        told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("threads=")]
        record = json.loads((tmp_path / name / "run.json").read_text())["runtime"]
        assert (record["threads"], record["workers"]) == (1, 0)
        if name == "auto":
            assert told == [f"threads=1: {record['why']['threads']}; workers=0: {record['why']['workers']}"]
        else:
            assert not told and "why" not in record
    files = [tmp_path / name / "skills" / "model.safetensors" for name in ("auto", "numbers")]
    assert files[0].read_bytes() == files[1].read_bytes()
    saved = yaml.safe_load((tmp_path / "auto" / "config.yaml").read_text())
    assert saved["runtime"]["threads"] == 1 and saved["env"]["workers"] == 0


@pytest.mark.parametrize(
    ("launcher", "jobs"), [({}, 1), ({"n_jobs": 3}, 3), ({"n_jobs": -1}, 12), ({"n_jobs": -2}, 11)]
)
def test_jobs_of_a_sweep_know_how_many_they_are(launcher: dict, jobs: int, monkeypatch: pytest.MonkeyPatch):
    """Hydra's basic launcher has no number of jobs, joblib's one as joblib counts."""
    monkeypatch.setattr("skillrl.runtime.count_cores", lambda: 12)
    monkeypatch.setattr(train_script.HydraConfig, "get", lambda: SimpleNamespace(launcher=launcher))
    assert train_script.jobs_at_once() == jobs
