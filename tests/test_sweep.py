"""Sweeps: each job as if alone, none loses the others, and what was killed goes on when the same command is given."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from config_values import CONF
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

import train as train_script
from skillrl.errors import BadInput, Stopped
from skillrl.resume import check_same
from skillrl.signals import Signals
from skillrl.sweep import ERROR, Labelled, PassedOn, job_name, judge, run_job

ROOT = Path(__file__).parents[1]
SMALL = ["learner.hidden_dims=[8]", "learner.batch_size=8", "pretrain.warmup=80", "evaluate=false", "logger.every=80"]
TINY = [*SMALL, "pretrain.env_steps=160"]


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Any:
    """train.py in this process; exit code."""

    def call(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        return train_script.main()

    return call


def jobs(sweep: Path) -> dict[str, str]:
    """Job → how it stands."""
    return {path.parent.name: json.loads(path.read_text())["status"] for path in sorted(sweep.glob("*/run.json"))}


def contents(sweep: Path) -> dict[str, bytes]:
    files = [path for path in sweep.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    return {str(path.relative_to(sweep)): path.read_bytes() for path in files if path.name != "multirun.yaml"}


def test_a_sweep_runs_each_job_as_if_alone_and_none_twice(train: Any, tmp_path: Path, capsys: Any):
    sweep = ["-m", "learner.skill_space.n=2,3", "seed=0,1", *TINY, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    assert train(*sweep) == 0
    assert train("learner.skill_space.n=3", "seed=1", *TINY, f"hydra.run.dir={tmp_path / 'alone'}") == 0
    names = [f"learner.skill_space.n-{n}+seed-{seed}" for n in (2, 3) for seed in (0, 1)]
    assert jobs(tmp_path / "sweep") == dict.fromkeys(names, "finished")
    models = [(tmp_path / "sweep" / name / "skills" / "model.safetensors").read_bytes() for name in names]
    assert len(set(models)) == 4
    assert models[-1] == (tmp_path / "alone" / "skills" / "model.safetensors").read_bytes()

    before = contents(tmp_path / "sweep")
    capsys.readouterr()
    assert train(*sweep, "runtime.threads=2") == 0, "on another machine it is the same sweep"
    assert capsys.readouterr().out.count("finished already: ") == 4
    assert contents(tmp_path / "sweep") == before
    assert train(*sweep[:2], "seed=1,2", *sweep[3:]) == 0
    assert len(jobs(tmp_path / "sweep")) == 6
    assert before.items() <= contents(tmp_path / "sweep").items(), "a larger sweep runs what is missing"


def test_a_job_that_fails_is_named_and_loses_no_other(train: Any, tmp_path: Path, capsys: Any):
    sweep = ["-m", "learner.batch_size=0,8", "seed=0", *SMALL[:1], *SMALL[2:], "pretrain.env_steps=160"]
    assert train(*sweep, f"hydra.sweep.dir={tmp_path}") == 2
    assert jobs(tmp_path) == {"learner.batch_size-8+seed-0": "finished"}
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("failed: learner.batch_size-0+seed-0: error: ") and "batch_size is 0" in last
    assert "batch_size is 0" in (tmp_path / "learner.batch_size-0+seed-0" / ERROR).read_text()
    assert train("-m", "learner.batch_size=8", *sweep[2:], f"hydra.sweep.dir={tmp_path}") == 0, "that was another start"


def test_a_crash_in_one_job_is_a_crash_of_the_sweep(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    from skillrl.learners.diayn import DIAYN

    fit = DIAYN.fit
    sweep = ["-m", "learner.skill_space.n=2,3", *TINY, f"hydra.sweep.dir={tmp_path}"]

    def broken(self: Any, batch: Any) -> Any:
        if self.skill_space.n == 2:
            raise ValueError("a mistake in somebody's learner")
        return fit(self, batch)

    with monkeypatch.context() as patched:
        patched.setattr(DIAYN, "fit", broken)
        assert train(*sweep) == 1
    assert jobs(tmp_path) == {"learner.skill_space.n-2": "failed", "learner.skill_space.n-3": "finished"}
    said = capsys.readouterr().err
    assert "in broken" in said and "failed: learner.skill_space.n-2: ValueError: a mistake" in said
    assert train(*sweep) == 0, "mended, it goes on"
    assert set(jobs(tmp_path).values()) == {"finished"} and not list(tmp_path.rglob(ERROR))


def test_a_job_of_another_config_is_refused_by_name(train: Any, tmp_path: Path, capsys: Any):
    sweep = ["-m", "seed=0,1", *SMALL, f"hydra.sweep.dir={tmp_path}"]
    assert train(*sweep, "pretrain.env_steps=160") == 0
    before = contents(tmp_path)
    assert train(*sweep, "pretrain.env_steps=240") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert len(lines) == 2 and lines[0].startswith("failed: seed-0: ")
    assert all("pretrain.env_steps is 160 there and 240 here" in line for line in lines)
    assert {k: v for k, v in contents(tmp_path).items() if not k.endswith(ERROR)} == before


def test_left_out_groups_may_be_swept_over(train: Any, tmp_path: Path):
    use = ["controller=random", "downstream=null,control", "task=null", "env.horizon=20", "controller.hold=5"]
    assert train("-m", *use, *TINY, "++downstream.env_steps=80", f"hydra.sweep.dir={tmp_path}") == 0
    assert jobs(tmp_path) == {"downstream-control": "finished", "downstream-none": "finished"}
    saved = yaml.safe_load((tmp_path / "downstream-none" / "config.yaml").read_text())
    assert saved["downstream"] is None and saved["task"] is None
    assert (tmp_path / "downstream-control" / "controller").exists()


def test_a_sweep_that_cannot_be_composed_starts_nothing(train: Any, tmp_path: Path, capsys: Any):
    assert train("-m", "seed=0,1", "learner.nope=1", f"hydra.sweep.dir={tmp_path}") == 2
    assert "learner.nope" in capsys.readouterr().err and not list(tmp_path.glob("*/"))


# ---- killed


def test_stopped_between_and_within_jobs_it_goes_on(tmp_path: Path):
    """In one process: SIGTERM while the second job saves, kill -9 while the third does."""
    command = ["-m", "seed=0,1,2", *SMALL, "pretrain.env_steps=240", "checkpoint_every=80"]
    ends = [("after stop", "seed-1/checkpoints/pretrain/000000000160.pt"), ("kill", "seed-2/skills/config.json")]
    starts = [[[*command, f"hydra.sweep.dir={tmp_path / 'parts'}"], how, where] for how, where in [*ends, ("", "")]]
    starts.append([[*command, f"hydra.sweep.dir={tmp_path / 'whole'}"], "", ""])
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killing.py")), json.dumps(starts)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
    )
    codes = [json.loads(line)["code"] for line in done.stdout.splitlines() if line.startswith("{")]
    assert codes == [143, -9, 0, 0], done.stderr
    assert f"go on with the same command and hydra.sweep.dir={tmp_path / 'parts'}" in done.stderr
    resumed = [json.loads((tmp_path / "parts" / f"seed-{i}" / "run.json").read_text()).get("resumed") for i in range(3)]
    assert [len(again or []) for again in resumed] == [0, 1, 1], "what had finished was left alone"
    for i in range(3):
        files = [tmp_path / name / f"seed-{i}" / "skills" / "model.safetensors" for name in ("parts", "whole")]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_jobs_at_once_are_killed_and_go_on(tmp_path: Path):
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    command = [sys.executable, str(ROOT / "train.py"), "-m", "learner.skill_space.n=4,8", "seed=0,1", *SMALL]
    command += ["pretrain.env_steps=2400", "checkpoint_every=400", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    command += [f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    with (tmp_path / "said").open("w") as said:
        for how in (signal.SIGTERM, signal.SIGKILL):
            with subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True) as process:
                await_(lambda: list((tmp_path / "sweep").glob("*/checkpoints/pretrain/*00.pt")))
                process.send_signal(how)
            assert process.returncode == (143 if how == signal.SIGTERM else -how), (tmp_path / "said").read_text()
            await_(lambda: "running" not in jobs(tmp_path / "sweep").values())  # jobs do not outlive who started them
            if how == signal.SIGTERM:
                assert "stopped" in jobs(tmp_path / "sweep").values()
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert list(jobs(tmp_path / "sweep").values()) == ["finished"] * 4
    assert all(line.startswith(("job=", "sweep: ")) for line in done.stdout.splitlines())
    for job in (tmp_path / "sweep").glob("*/"):
        assert len((job / "metrics.csv").read_text().splitlines()) == 31


def await_(condition: Any, seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


# ---- parts


def test_what_a_job_is_called():
    assert job_name(["seed=1", "learner.skill_space.n=4"]) == "learner.skill_space.n-4+seed-1"
    assert job_name(["+experiment=small/diayn", "learner.hidden_dims=[8, 9]", "agent@learner.agent=dqn"]) == (
        "agent@learner.agent-dqn+experiment-small-diayn+learner.hidden_dims-8-9"
    )
    assert job_name([]) == "defaults"
    long = [job_name([f"learner.{'x' * 200}={i}"]) for i in (1, 2)]
    assert max(map(len, long)) <= 120 and long[0] != long[1]
    name = job_name(["~task", "skills='a b/c=d,e'", "x={a: 1}", "lr=1e-4"])
    value = OverridesParser.create().parse_override(f"skills=outputs/{name}").value()
    assert value == f"outputs/{name}", "it may be typed without quotes"


def test_names_leave_out_what_all_jobs_share(monkeypatch: pytest.MonkeyPatch):
    shared = ["evaluate=false", "learner.lr=1e-4", "learner.hidden_dims=[8, 9]", "sweep=seeds", "seed=1"]
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "n=4,8", *shared, "--config-dir=x", "hydra.sweep.dir=a/b"])
    job = ["n=4", "evaluate=False", "learner.lr=0.0001", "learner.hidden_dims=[8,9]", "sweep=seeds", "seed=1"]
    assert train_script.job_name(job) == "n-4+seed-1"


def test_configs_that_are_and_are_not_the_same(tmp_path: Path):
    old = {"seed": 0, "skills": None, "env": {"workers": 0, "n": 1}, "task": None}
    exact = {"precision": "float32"}
    old |= {"runtime": {"workers": 0, "trusted": [], **exact}, "logger": {"every": 1}}
    new = {**old, "env": {"workers": 2, "n": 1}, "logger": {"every": 2}}
    new |= {"runtime": {"workers": 2, "trusted": ["x"], **exact}}
    check_same(old, new, tmp_path)
    with pytest.raises(BadInput, match=r"runtime\.precision is 'float32' there and 'bfloat16' here"):
        check_same(old, {**new, "runtime": {**new["runtime"], "precision": "bfloat16"}}, tmp_path)
    with pytest.raises(BadInput, match=r"env\.n is 1 there and 2 here \(and 1 more\)"):
        check_same(old, {**new, "env": {"workers": 2, "n": 2}, "seed": 1}, tmp_path)
    with pytest.raises(BadInput, match=r"env\.workers is 0 there and 1 here"):
        check_same(old, {**old, "env": {"workers": 1, "n": 1}}, tmp_path)


def test_lines_of_a_job_go_out_whole_under_its_name(tmp_path: Path):
    with (tmp_path / "out").open("w") as file:
        out = Labelled(file, "job=x")
        print("a", end="", file=out)
        assert (tmp_path / "out").read_text() == "" and not out.isatty()
        print("b\nc", file=out)
        assert (tmp_path / "out").read_text() == "job=x ab\njob=x c\n"


def test_a_signal_without_anybody_to_pass_it_on_to_is_not_kept_waiting():
    with PassedOn(), pytest.raises(Stopped, match="SIGTERM"):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


def test_a_job_that_fails_to_save_after_a_signal_is_the_last(tmp_path: Path):
    """On a full disk, say: its error is kept, and the sweep ends all the same."""

    def work() -> None:
        with Signals() as signals, signals.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            raise OSError("no space left")

    with PassedOn() as outer, pytest.raises(Stopped, match="SIGTERM"):
        run_job(work, tmp_path / "job", apart=False)
    assert outer.seen == signal.SIGTERM and "no space left" in (tmp_path / "job" / ERROR).read_text()


def test_a_crash_weighs_more_than_bad_input_and_old_errors_nothing(tmp_path: Path, capsys: Any):
    for name, text in (("a", "error: no\nexit code 2"), ("b", "KeyError: 3\nexit code 1"), ("c", "x\nexit code 2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / ERROR).write_text(text)
    os.utime(tmp_path / "b" / ERROR, (0, 0))
    assert judge(tmp_path, 1) == 2 and judge(tmp_path, 0) == 1 and judge(tmp_path, time.time() + 9) == 0
    assert "failed: b: KeyError: 3\n" in capsys.readouterr().err


# ---- presets


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "sweep").glob("*.yaml")))
def test_a_preset_says_that_it_is_a_sweep_of_which_each_job_composes(name: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"sweep={name}"], return_hydra_config=True)
        assert cfg.hydra.mode.name == "MULTIRUN"
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        for key, values in cfg.hydra.sweeper.params.items():
            [override] = parser.parse_overrides([f"{key}={values}"])
            choices = list(override.sweep_string_iterator())
            assert override.is_sweep_override() and len(choices) > 0
            for choice in choices:
                compose("train", [f"sweep={name}", f"{key}={choice}"])
            assert key != "learner" or {"flat", "primitive"}.isdisjoint(choices), "these learn no skills"
