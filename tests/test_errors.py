"""Bad input: exit code 2, one line that names the key, no traceback, nothing that could be taken for a run."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import eval as eval_script
import train as train_script
from skillrl.errors import BadInput, Past, Stopped, bad_input, exit_code

ROOT = Path(__file__).parents[1]
TINY = ["pretrain.env_steps=160", "pretrain.warmup=80", "learner.hidden_dims=[8]", "learner.batch_size=8"]
BAD: dict[str, tuple[str, str]] = {
    "wrong key": ("learner.clas=1", "learner.clas"),
    "wrong group": ("learnr=diayn", "learnr is no key of the config; did you mean learner?"),
    "a slip in a group that is left out": ("experimnt=quickstart", "did you mean experiment?"),
    "a slip in a key": ("learner=metra learner.batchsize=8", "did you mean learner.batch_size?"),
    "a key of another option": ("learner=metra learner.lamda=1", "learner has agent, batch_size, dual_init, dual_lr"),
    "a slip in a key of an agent": ("learner=flat agent@learner.agent=ppo learner.agent.nepochs=1", "agent.n_epochs?"),
    "a slip in Hydra's own": ("hydra.run.dr=x", "hydra.run.dr"),
    "a key too many at the top": ("+foo=1", "foo is no key of the config"),
    "a key too many": ("+learner._args_=[1]", "learner._args_ is no key of skillrl.learners.diayn.DIAYN"),
    "missing key": ("~learner.batch_size", "learner.batch_size is missing"),
    "missing null": ("~learner.hold", "learner.hold"),
    "missing at the top": ("~seed", "seed is missing"),
    "missing in the budget": ("~pretrain.collect", "pretrain.collect is missing"),
    "missing value": ("env=gymnasium", "env.id is missing: give it a value"),
    "empty value": ("seed=", "seed is '': it must be int"),
    "text for a number": ("pretrain.env_steps=many", "pretrain.env_steps is 'many': it must be int"),
    "number for a list": ("learner.hidden_dims=3", "learner.hidden_dims is 3: it must be Sequence[int]"),
    "fraction for a whole": ("learner.batch_size=0.5", "learner.batch_size is 0.5: it must be int"),
    "text for a truth": ("evaluate=maybe", "evaluate is 'maybe': it must be bool"),
    "text for snapshots": ("snapshots=all", "snapshots is 'all': it must be Sequence[int]"),
    "number for a mapping": ("env.coverage=3", "env.coverage is 3: it must be Mapping"),
    "negative seed": ("seed=-1", "seed is -1"),
    "no width": ("learner.hidden_dims=[0]", "hidden_dims is [0]"),
    "no batch": ("learner.batch_size=0", "batch_size is 0"),
    "no skills": ("learner.skill_space.n=0", "skill_space.n of Discrete is 0"),
    "no hold": ("learner.hold=0", "hold is 0"),
    "no envs": ("env.num_envs=0", "num_envs=0"),
    "gamma of 2": ("learner.agent.gamma=2", "agent.gamma is 2"),
    "negative rate": ("learner.discriminator_lr=-1", "-1"),
    "no room": ("pretrain.capacity=3", "replay capacity 3"),
    "no interval": ("checkpoint_every=0", "checkpoint_every is 0"),
    "no rows": ("logger.every=0", "logger.every is 0"),
    "unknown precision": ("runtime.precision=half", "runtime.precision is 'half': it must be float32 or bfloat16"),
    "negative workers": ("runtime.workers=-1", "runtime.workers is -1"),
    "uneven rounds": ("pretrain.collect=7", "pretrain.collect is 7: it must be a multiple of num_envs, 8"),
    "unknown view": ("learner.discriminator_view=nope", "view 'nope'"),
    "unknown part": ("env.observe=[nope]", "unknown name 'nope'"),
    "unknown device": ("runtime.device=tpu", "runtime.device is 'tpu'"),
    "no option": ("learner=null", "must be a string or a list"),
    "unknown option": ("learner=nope", "Available options in 'learner': "),
    "a slip in an option": ("env=swimer", "env=swimer is not there; did you mean env=swimmer?"),
    "one of too many to name": ("experiment=nothing", "experiment=nothing is not there: "),
    "a slip in a folder's option": ("experiment=point/metra", "did you mean experiment=small/metra"),
    "unknown env id": ("env=gymnasium env.id=Nope-v0", "env.id='Nope-v0'"),
    "an id that runs code": ("env=gymnasium env.id=evil:Env-v0", "it would import a module"),
    "discrete actions for SAC": ("env=gymnasium env.id=CartPole-v1", "take agent dqn"),
    "overlap of what is fresh": ("learner=flat agent@learner.agent=ppo pretrain.overlap=true", "pretrain.overlap is"),
    "fresh twice": ("learner=flat agent@learner.agent=ppo pretrain.updates=2", "pretrain.updates is 2"),
    "no room for what is fresh": ("learner=flat agent@learner.agent=ppo pretrain.capacity=300", "pretrain.capacity is"),
    "fresh decisions twice": ("downstream=control controller=ppo downstream.updates=3", "downstream.updates is 3"),
    "no epochs": ("learner=flat agent@learner.agent=ppo learner.agent.n_epochs=0", "agent.n_epochs is 0"),
    "no posterior": (
        "learner.skill_space._target_=skillrl.skill_spaces.Sphere ~learner.skill_space.n +learner.skill_space.dim=2",
        "DIAYN's posterior is for Discrete or Gaussian",
    ),
    "no dimension": ("learner=diayn_gaussian learner.skill_space.dim=0", "skill_space.dim of Gaussian is 0"),
    "DQN over a continuous z": ("learner=diayn_gaussian downstream=control controller=dqn", "take agent sac"),
    "no controller": ("downstream=control", "add controller="),
    "SAC over countable skills": ("downstream=control controller=sac", "take agent dqn"),
    "no decision": ("downstream=control controller=dqn controller.hold=0", "controller.hold is 0"),
    "uneven control": ("downstream=control controller=dqn downstream.collect=3", "downstream.collect is 3"),
    "a foreign class": ("learner._target_=os.system", "_target_ 'os.system' is not allowed"),
    "a class that is not there": ("learner._target_=skillrl.learners.diayn.X", "does not exist"),
    "no grammar": ("learner=[", "'['"),
    "no skills folder": ("skills=nowhere", "no skills at nowhere"),
    "half a folder": ("skills={cut}", "corrupt"),
    "half the weights": ("skills={torn}", "corrupt"),
    "skills of another observation": ("skills={other} env=point", "observation part"),
    "skills of a stranger's env": ("skills={evil}", "no vector env"),
    "resume of nothing": ("resume=nowhere", "nowhere is no run"),
    "resume of a folder": ("resume={torn}", "is no run"),
    "a place that cannot be": ("hydra.run.dir=/proc/nowhere", "/proc/nowhere"),
}


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Skills that cannot be used, each in its own way."""
    from skillrl.skill_library import save
    from skillrl.skill_policy import ActorPolicy
    from skillrl.skill_spaces import Discrete
    from skillrl.spec import Field

    folders = {name: tmp_path_factory.mktemp(name) for name in ("cut", "torn", "other", "evil")}
    for name, folder in folders.items():
        parts = {"xy": (0, 2)} if name != "other" else {"legs": (0, 2)}
        policy = ActorPolicy(obs=Field((2,), names=parts), action=Field((2,)), space=Discrete(2), hidden_dims=[4])
        evil = {"_target_": "gymnasium.spaces.Box", "low": 0, "high": 1}
        save(policy, folder, about={"env": evil} if name == "evil" else {})
    for name, file in (("cut", "config.json"), ("torn", "model.safetensors")):
        os.truncate(folders[name] / file, 50)
    return folders


def call(script: Any, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """train.py or eval.py, in this process."""
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments])
    return script.main()


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case: str, broken: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    overrides, message = BAD[case]
    arguments = overrides.format(**broken).split()
    if not overrides.startswith(("resume", "hydra")):
        arguments.append(f"hydra.run.dir={tmp_path / 'run'}")
    monkeypatch.chdir(tmp_path)
    assert call(train_script, arguments, monkeypatch) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[-1], lines
    assert lines[-1].startswith("error: ") and len(lines[-1]) < 500
    assert not (tmp_path / "run").exists()
    assert not list(tmp_path.rglob("run.json"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "run is missing: python eval.py run=outputs/..."),
        (["run=nowhere"], "nowhere is no run"),
        (["run=."], ". is no run: it has no run.json"),
        (["run=.", "foo=1"], "foo is no key of the config: it has "),
        (["rn=."], "did you mean run or runs?"),
        (["run=.", "runs=*"], "run and runs are both given"),
        (["run=.", "out=x"], "out is given without runs"),
        (["runs=nothing/*"], "runs=nothing/* matches nothing"),
        (["runs=."], "runs=. matches 1 paths, but none is a run or holds one"),
        (["run=.", "runtime=nope"], "Available options in 'runtime': cpu gpu"),
    ],
)
def test_bad_input_to_eval(arguments: list, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.chdir(tmp_path)
    assert call(eval_script, arguments, monkeypatch) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[-1], lines
    assert not list(tmp_path.iterdir()), "nothing is left behind"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "a: [", "is not the config of a run"),
        ("config.yaml", "- 1", "is not the config of a run"),
        ("config.yaml", "seed: 0\n", "is not the config of a run"),
        ("run.json", "{", "is not the record of a run"),
        ("skills/config.json", "{", "is corrupt"),
        ("skills/config.json", None, "go on with resume="),
    ],
)
def test_broken_runs(
    file: str, content: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    run = tmp_path / "run"
    assert call(train_script, [*TINY, "evaluate=false", f"hydra.run.dir={run}"], monkeypatch) == 0
    (run / file).write_text(content) if content else (run / file).unlink()
    capsys.readouterr()
    assert call(eval_script, [f"run={run}"], monkeypatch) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[-1], lines


def test_a_folder_that_holds_a_run_is_not_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    arguments = [*TINY, "evaluate=false", f"hydra.run.dir={tmp_path}"]
    assert call(train_script, arguments, monkeypatch) == 0
    before = (tmp_path / "metrics.csv").read_bytes()
    assert call(train_script, arguments, monkeypatch) == 2
    assert f"already holds a run: go on with resume={tmp_path}" in capsys.readouterr().err
    assert (tmp_path / "metrics.csv").read_bytes() == before and (tmp_path / "run.json").exists()


def test_a_saved_config_trusts_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    """A stranger's run: neither its trusted packages nor its module ids count."""
    import yaml

    run = tmp_path / "run"
    assert call(train_script, [*TINY, "evaluate=false", f"hydra.run.dir={run}"], monkeypatch) == 0
    config = yaml.safe_load((run / "config.yaml").read_text())
    (tmp_path / "stranger.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    gym = {"_target_": "envs.gymnasium_adapter.Gymnasium", "id": "stranger:Env-v0", "num_envs": 8, "kwargs": {}}
    gym |= {"horizon": None, "xy": None, "cell": 1.0, "trust_module": True}
    learner = {**config["learner"], "_target_": "stranger.Learner"}
    runtime = {**config["runtime"], "trusted": ["stranger"]}
    for change, message in (
        ({"env": gym, "runtime": runtime}, "runs stranger: allow it with runtime.trusted"),
        ({"learner": learner, "runtime": runtime}, "is not allowed"),
    ):
        (run / "config.yaml").write_text(yaml.safe_dump(config | change))
        for script, argument in ((train_script, "resume"), (eval_script, "run")):
            assert call(script, [f"{argument}={run}"], monkeypatch) == 2
            assert message in capsys.readouterr().err
        assert not (tmp_path / "ran").exists()


# ---- crashes and full disks


def test_a_crash_has_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    from skillrl.learners.diayn import DIAYN

    def broken(self: Any, batch: Any) -> None:
        raise ValueError("a mistake in somebody's learner")

    monkeypatch.setattr(DIAYN, "fit", broken)
    assert call(train_script, [*TINY, f"hydra.run.dir={tmp_path}"], monkeypatch) == 1
    said = capsys.readouterr().err
    assert "Traceback" in said and "in broken" in said and "a mistake in somebody's learner" in said
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "failed"


def test_a_switch_shows_where_bad_input_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    monkeypatch.setenv("SKILLRL_TRACEBACK", "1")
    assert call(train_script, ["seed=-1", f"hydra.run.dir={tmp_path / 'run'}"], monkeypatch) == 2
    assert "Traceback" in (said := capsys.readouterr().err) and "in spawn_seeds" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "file", ["checkpoints/pretrain/data/000000000080.pt", "skills/model.safetensors", "metrics.csv"]
)
def test_a_full_disk_is_told_in_one_line(file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    beside = tmp_path / (".metrics.csv.tmp" if file == "metrics.csv" else f"{file}.partial")
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.symlink_to("/dev/full")
    arguments = [*TINY, "evaluate=false", "checkpoint_every=80", "logger.every=80", f"hydra.run.dir={tmp_path}"]
    assert call(train_script, arguments, monkeypatch) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and ("No space left" in lines[-1] or "make room" in lines[-1]), lines
    assert not beside.is_symlink(), "what could not be written is gone"
    assert call(train_script, [f"resume={tmp_path}"], monkeypatch) == 0, "there is room again"
    assert (tmp_path / "skills" / "config.json").exists()


# ---- the scripts as people start them


def test_as_people_start_it(tmp_path: Path):
    def start(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / arguments[0]), *arguments[1:]]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)

    def seconds_of_a_core() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    begun = seconds_of_a_core()
    told = start("train.py", "--help")
    helped = seconds_of_a_core()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    assert told.returncode == 0 and "learner: " in told.stdout and "diayn" in told.stdout
    assert helped - begun < 1.3 * (seconds_of_a_core() - helped), "as long as importing torch, which it does without"
    bad = start("train.py", "learner.agent.gamma=2")
    assert bad.returncode == 2 and len(bad.stderr.strip().splitlines()) == 1 and not bad.stdout
    assert not list(tmp_path.rglob("*.json")) and not list(tmp_path.rglob("*.yaml"))


@pytest.mark.parametrize("script", ["train", "eval"])
def test_help_imports_no_torch(script: str):
    code = (
        f"import sys; sys.argv = ['x', '--help']; import {script}; {script}.main(); assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ---- the judge


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (BadInput("seed is -1"), 2, 1),
        (OSError(28, "No space left on device"), 1, 1),
        (PermissionError(13, "Permission denied", "/x"), 2, 1),
        (KeyboardInterrupt(), 130, 1),
        (Stopped(signal.SIGTERM), 143, 1),
        (ValueError("a mistake"), 1, 2),
        (OSError(24, "Too many open files"), 1, 2),
    ],
)
def test_exit_codes(error: BaseException, code: int, lines: int, capsys: Any):
    assert exit_code(error) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 if lines == 1 else len(said) >= 1 and type(error).__name__ in said[-1]


def test_an_error_goes_past_a_caller_and_a_stop_does_not():
    past = Past()
    for word in ("first", "second"):
        with past:
            raise BadInput(word)
    with past:
        pass
    with pytest.raises(BadInput, match="first"):
        past.settle()
    past.settle()  # once is enough
    with pytest.raises(Stopped), past:
        raise Stopped(signal.SIGTERM)


def test_what_building_blames_on_the_config():
    for cause in (ValueError("x"), TypeError("x"), RuntimeError("x"), FileNotFoundError("x"), ZeroDivisionError("x")):
        with pytest.raises(BadInput, match=r"^env: "), bad_input("env"):
            raise cause
    for mistake in (AttributeError("x"), KeyError("x"), AssertionError("x"), ImportError("x"), IndexError("x")):
        with pytest.raises(type(mistake)), bad_input("env"):
            raise mistake
