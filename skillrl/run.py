"""One run, in its directory: pretrain skills or load them, use them, evaluate. Stopped anywhere, it goes on from there.

Configs arrive as plain dicts and ``build`` makes objects of them (Hydra's ``instantiate``), so Hydra is not needed here.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml

from skillrl import skill_library
from skillrl.checkpoint import Checkpoints
from skillrl.config import BadInput, check_config
from skillrl.data.replay import Replay
from skillrl.evaluation import evaluate
from skillrl.evaluation.report import build_report
from skillrl.loggers import Logger
from skillrl.runtime import Runtime, place, record, seed_everything, setup_runtime, spawn_seeds
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec
from skillrl.training import Schedule, State, begin, train

Config = dict[str, Any]
CHOICES: dict[str, Any] = {"task": None, "downstream": None, "controller": None}  # groups that may be left out
Build = Callable[..., Any]


class Stopped(Exception):
    """A signal asked the run to stop; its state is saved. ``code`` is the exit code, 128 + signal."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


@contextmanager
def bad_input(what: str) -> Iterator[None]:
    """What goes wrong while things are built is the config's fault, not the program's: it becomes BadInput."""
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        if not isinstance(cause, ValueError | TypeError | FileNotFoundError):
            raise
        where = getattr(error, "full_key", None) or what
        message = " ".join(str(cause).split())
        raise BadInput(message if message.startswith(where) else f"{where}: {message}") from error


class Run:
    """A run of a complete ``config`` in ``folder``.

    Args:
        build: config node, and what code hands over → object.
        env_is_given: whether the person named the env. If not, loaded skills are used where they were learnt.
    """

    def __init__(self, config: Config, folder: str | Path, build: Build, *, env_is_given: bool = True):
        self.folder, self.build = Path(folder), build
        check_config({"runtime": config["runtime"]})
        with bad_input("runtime"):
            self.runtime: Runtime = build(config["runtime"])
            self.device = setup_runtime(self.runtime)
        with bad_input("seed"):
            self.seeds = spawn_seeds(config["seed"])
        self.config = self._resolve(CHOICES | config, env_is_given)
        check_config(self.config, self.runtime.trusted)
        self.task: Config = self.config["task"] or self.config["env"]
        with bad_input("pretrain"):
            plan = dict(self.config["pretrain"])
            self.capacity = plan.pop("capacity")
            self.schedule = Schedule(total=plan.pop("env_steps"), **plan)
        self.rehearse()

    def _resolve(self, config: Config, env_is_given: bool) -> Config:
        """A copy in which loaded skills name their env, unless the person named another."""
        if config["skills"] is None or env_is_given:
            return config
        with bad_input("skills"):
            env = skill_library.about(config["skills"])["about"].get("env")
        if env is None:
            return config
        return config | {"env": env | ({"workers": self.runtime.workers} if "workers" in env else {})}

    def rehearse(self) -> None:
        """Build everything once, so that what cannot work is said now and not after the pretraining."""
        with bad_input("env"), closing(self.build(self.config["env"])) as env:
            spec = Spec.from_env(env)
            if self.config["skills"] is None and self.schedule.collect % env.num_envs:
                raise ValueError(
                    f"pretrain.collect is {self.schedule.collect}: it must be a multiple of env.num_envs, {env.num_envs}"
                )
        with bad_input("learner"):
            skills = self.loaded() or fresh(self.build(self.config["learner"], spec).behaviour(), 0)
        if self.config["downstream"] is None:
            return
        with bad_input("task"), closing(self.build(self.task)) as task:
            task_spec = Spec.from_env(task)
            num_envs = task.num_envs
        with bad_input("downstream"):
            use = self.build(self.config["downstream"])
            if use.schedule.collect % num_envs:
                raise ValueError(
                    f"downstream.collect is {use.schedule.collect}: it must be a multiple of the task's num_envs, {num_envs}"
                )
            use.learner(task_spec, skills, self._controller())

    def loaded(self) -> SkillPolicy | None:
        """The skills that the config names, None where this run learns its own."""
        if self.config["skills"] is None:
            return None
        with bad_input("skills"):
            return skill_library.load(self.config["skills"], device=str(self.device), trusted=self.runtime.trusted)

    def _controller(self) -> Callable[..., Any] | None:
        node = self.config["controller"]
        return None if node is None else lambda spec, skills: self.build(node, spec, skills)

    # ---- the phases

    def execute(self) -> None:
        """All that the config asks for, from wherever the folder stands."""
        self.write_record("running")
        with self.build(self.config["logger"], self.folder) as logger, Signals() as signals:
            self.logger, self.signals = logger, signals
            if self.config["skills"] is None:
                self.pretrain()
            if self.config["downstream"] is not None:
                self.use()
        if self.config["evaluate"]:
            self.evaluate()
        self.write_record("finished")

    def pretrain(self) -> None:
        """Learn skills and write them to ``skills/``."""
        with closing(self.build(self.config["env"])) as env:
            seed_everything(self.seeds["learner"])
            learner = self.build(self.config["learner"], Spec.from_env(env))
            state = self.phase("pretrain", env, learner, self.schedule, self.capacity)
        about = {"env": self.config["env"], "learner": self.config["learner"], "env_steps": state.env_steps}
        skill_library.save(learner.behaviour(), self.folder / "skills", about=about)

    def use(self) -> None:
        """Train what uses the skills and write it to ``controller/``."""
        with closing(self.build(self.task)) as task:
            seed_everything(self.seeds["learner"] + 1)
            use = self.build(self.config["downstream"])
            learner = use.learner(Spec.from_env(task), self.skills(), self._controller())
            self.phase("control", task, learner, use.schedule, use.capacity)
        (self.folder / "controller").mkdir(exist_ok=True)
        safetensors.torch.save_file(
            {name: tensor.cpu().clone() for name, tensor in learner.state_dict().items()},
            self.folder / "controller" / "model.safetensors",
        )

    def phase(self, name: str, env: Any, learner: Any, schedule: Schedule, capacity: int) -> State:
        """Train to the end of the budget, from the newest checkpoint if there is one."""
        seeds = spawn_seeds(self.seeds["env"], [name])
        place(learner, self.device, seeds[name])
        data = Replay(capacity, env.num_envs, gamma=learner.gamma, device=self.device, seed=seeds[name])
        state = begin(env=env, learner=learner, data=data, schedule=schedule, seed=seeds[name])
        checkpoints = Checkpoints(self.folder / "checkpoints" / name, extra={"logger": self.logger})
        resumed = checkpoints.restore(state)
        self.logger.start(name, schedule.total, state.env_steps)
        hooks = [self._log, Saving(checkpoints, self.config["checkpoint_every"], self.signals)]
        train(env=env, learner=learner, data=data, schedule=schedule, hooks=hooks, state=state)
        if not resumed or checkpoints.newest() != state.env_steps:
            checkpoints.save(state)
        return state

    def _log(self, state: State) -> None:
        if state.metrics:
            self.logger.add(state.metrics)
        for episode in state.episodes:
            self.logger.add(episode)
        self.logger.progress(state.env_steps)
        if self.logger.due(state.env_steps) or state.finished():
            self.logger.write(**state.counters())

    # ---- afterwards

    def skills(self) -> SkillPolicy:
        """The skills of this run, from disk."""
        found = self.loaded() or skill_library.load(
            self.folder, device=str(self.device), trusted=self.runtime.trusted
        )
        return found

    def evaluate(self) -> dict[str, Any]:
        """eval/ and report.html, from what is on disk."""
        skills = self.skills().cpu()
        scores = evaluate(
            make_env=self._make(self.config["env"]),
            policy=skills,
            run_dir=self.folder,
            seed=self.seeds["evaluation"],
            make_untrained=lambda seed: fresh(skills, seed),
            controller=self._trained_controller(skills),
            make_task_env=self._make(self.task),
        )
        build_report(self.folder)
        return scores

    def _make(self, node: Config) -> Callable[[int], Any]:
        return lambda num_envs: self.build({**node, "num_envs": num_envs})

    def _trained_controller(self, skills: SkillPolicy) -> Any:
        if self.config["downstream"] is None:
            return None
        with closing(self.build({**self.task, "num_envs": 1})) as task:
            spec = Spec.from_env(task)
        learner = self.build(self.config["downstream"]).learner(spec, skills, self._controller())
        learner.load_state_dict(safetensors.torch.load_file(self.folder / "controller" / "model.safetensors"))
        return learner.prior()

    def write_record(self, status: str) -> None:
        """config.yaml as it is, and run.json: what ran where, and how it stands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        path = self.folder / "run.json"
        now = record()
        if path.exists():
            earlier = json.loads(path.read_text())
            if status == "running":
                earlier.setdefault("resumed", []).append(now)
            now = earlier
        _write(path, json.dumps(now | {"status": status}, indent=2))


@dataclass
class Saving:
    """A hook: a checkpoint every ``every`` env steps, and one before a signal ends the run."""

    checkpoints: Checkpoints
    every: int
    signals: "Signals"

    def __call__(self, state: State) -> None:
        before = max(state.env_steps - state.schedule.collect, 0)
        if state.env_steps // self.every > before // self.every or self.signals.seen:
            self.checkpoints.save(state)
        if self.signals.seen:
            raise Stopped(self.signals.seen)


class Signals:
    """Notes SIGINT and SIGTERM instead of dying of them; a second one does what it always did."""

    def __init__(self) -> None:
        self.seen = 0
        self.before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                self.before[number] = signal.signal(number, self._note)
            except ValueError:  # not the main thread: whoever runs us there handles signals
                break
        return self

    def _note(self, number: int, frame: Any) -> None:
        self.seen = number
        signal.signal(number, self.before[number])

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)


def fresh(policy: SkillPolicy, seed: int) -> SkillPolicy:
    """The same architecture, untrained. Leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(policy)(**policy.arguments).eval()


def read_config(folder: str | Path) -> Config:
    """The saved config of a run. Errors: BadInput where ``folder`` is no run."""
    folder = Path(folder)
    if not (folder / "run.json").is_file():
        raise BadInput(f"{folder} is no run: it has no run.json")
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text())
        return dict(config)
    except (OSError, yaml.YAMLError, TypeError, ValueError) as error:
        raise BadInput(f"{folder / 'config.yaml'} cannot be read: {str(error).splitlines()[0]}") from error


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".partial")
    beside.write_text(text)
    os.replace(beside, path)


def exit_code(error: Exception) -> int:
    """Say what went wrong on stderr, as shortly as it deserves: 2 bad input, 128 + n a signal, 1 a crash."""
    if isinstance(error, Stopped):
        print(f"stopped by {error}: saved, go on with resume=", file=sys.stderr)
        return error.code
    modules = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    if not isinstance(error, BadInput | OSError) and not modules & {"hydra", "omegaconf"}:
        traceback.print_exception(error)
        return 1
    if os.environ.get("SKILLRL_TRACEBACK"):
        traceback.print_exception(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    print("error: " + " ".join(lines[:2]), file=sys.stderr)
    return 2
