"""One run, in its folder: pretrain skills or load them, use them, evaluate. Stopped anywhere, it goes on from there.

Configs arrive as plain dicts and ``build`` makes objects of them (Hydra's ``instantiate``): no Hydra is needed here.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from skillrl import skill_library
from skillrl.atomic import write_tensors
from skillrl.checkpoint import Checkpoints
from skillrl.config import Config, check_config, complete, distrust
from skillrl.data.replay import Replay
from skillrl.errors import BadInput, Stopped, bad_input
from skillrl.evaluation import evaluate
from skillrl.evaluation.report import build_report
from skillrl.learners.base import Learner
from skillrl.loggers import Logger
from skillrl.record import locked, write_config, write_start, write_status
from skillrl.runtime import Runtime, place, seed_everything, setup_runtime, spawn_seeds
from skillrl.signals import Signals
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec
from skillrl.training import Hook, Schedule, State, begin, train

Build = Callable[..., Any]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """A training of something in an env. All of a phase that lasts is in its checkpoints and in ``result``."""

    name: str
    env: Config
    schedule: Schedule
    capacity: int
    learner: Callable[[Spec, SkillPolicy | None], Learner]  # of the env's spec, and the skills if there are any
    result: Path
    save: Callable[[Learner, State], None]  # writes result

    def done(self, checkpoints: Checkpoints) -> bool:
        return self.result.exists() and (checkpoints.newest() or 0) >= self.schedule.total


class Run:
    """A run of a complete ``config`` in ``folder``.

    Args:
        build: config node, and what code hands over → object.
        saved: whether the config was read from a run's folder, and so may be a stranger's.

    Errors: BadInput, before anything is written, for whatever can be known to be wrong without training.
    """

    def __init__(self, config: Config, folder: str | Path, build: Build, *, saved: bool = False):
        self.config, self.folder, self.build = complete(config), Path(folder), build
        check_config(self.config)
        if saved:
            distrust(self.config)
        with bad_input("runtime"):
            self.runtime: Runtime = build(self.config["runtime"])
            self.device = setup_runtime(self.runtime)
        with bad_input("seed"):
            self.seeds = spawn_seeds(self.config["seed"])
        self.task: Config = self.config["task"] or self.config["env"]
        self.phases = list(self._phases())
        self.rehearse()

    def _phases(self) -> Iterator[Phase]:
        if self.config["skills"] is None:
            with bad_input("pretrain"):
                budget = dict(self.config["pretrain"])
                capacity = budget.pop("capacity")
                schedule = Schedule(total=budget.pop("env_steps"), **budget)
            result = self.folder / "skills" / "config.json"
            make = partial(self._learner, self.config["learner"])
            yield Phase("pretrain", self.config["env"], schedule, capacity, make, result, self._save_skills)
        if self.config["downstream"] is not None:
            with bad_input("downstream"):
                use = self.build(self.config["downstream"])
            make = partial(self._user, use)
            yield Phase("control", self.task, use.schedule, use.capacity, make, self._controller, self._save_controller)

    def _learner(self, node: Config, spec: Spec, skills: SkillPolicy | None) -> Learner:
        return self.build(node, spec)

    def _user(self, use: Any, spec: Spec, skills: SkillPolicy | None) -> Learner:
        node = self.config["controller"]
        return use.learner(spec, skills, None if node is None else partial(self.build, node))

    def rehearse(self) -> None:
        """Build everything once, so that what cannot work is said now and not after the pretraining."""
        skills = None
        if self.config["skills"] is not None:
            with self._env("env", self.config["env"]) as env, bad_input("skills"):
                skills = self.skills()
                check_fit(skills, Spec.from_env(env))
        for phase in self.phases:
            key, budget = ("learner", "pretrain") if phase.name == "pretrain" else ("controller", "downstream")
            with self._env("task" if phase.env is self.config["task"] else "env", phase.env) as env:
                with bad_input(budget):
                    check_budget(budget, phase, env.num_envs)
                with bad_input(key):
                    learner = phase.learner(Spec.from_env(env), skills)
                    learner.needs()
                    skills = skills or learner.behaviour()

    @contextmanager
    def _env(self, key: str, node: Config) -> Iterator[Any]:
        """For a look: without worker processes."""
        with bad_input(key):
            env = self.build(node | ({"workers": min(node["workers"], 0)} if "workers" in node else {}))
        with closing(env):
            yield env

    # ---- training

    def execute(self) -> None:
        """All that the config asks for, from wherever the folder stands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            write_config(self.folder, self.config)
            with bad_input("logger"):
                logger: Logger = self.build(self.config["logger"], self.folder)
            write_start(self.folder)
            try:
                with Signals() as signals:
                    with logger:
                        for phase in self.phases:
                            self.train(phase, logger, signals)
                    if self.config["evaluate"]:
                        self.evaluate()
            except Stopped as stop:
                write_status(self.folder, "stopped")
                stop.advice = f": saved, go on with resume={self.folder}"
                raise
            except BaseException:
                with suppress(OSError):  # there may be no room even for that
                    write_status(self.folder, "failed")
                raise
            write_status(self.folder, "finished")
            self.report()

    def train(self, phase: Phase, logger: Logger, signals: Signals) -> None:
        """A phase to the end of its budget, from the newest checkpoint if there is one."""
        checkpoints = Checkpoints(self.folder / "checkpoints" / phase.name, extra={"logger": logger})
        if phase.done(checkpoints):
            return checkpoints.restore_extra()
        seed = spawn_seeds(self.seeds["env"], [phase.name])[phase.name]
        with closing(self.build(phase.env)) as env:
            seed_everything(spawn_seeds(self.seeds["learner"], [phase.name])[phase.name])
            skills = None if phase.name == "pretrain" else self.skills()
            learner = place(phase.learner(Spec.from_env(env), skills), self.device, seed)
            data = Replay(phase.capacity, env.num_envs, gamma=learner.gamma, device=self.device, seed=seed)
            state = begin(env=env, learner=learner, data=data, schedule=phase.schedule, seed=seed)
            if checkpoints.restore(state) and not env.metadata.get("exact_resume", True):
                log.warning("the physics of this env cannot be saved: the resumed run begins fresh episodes")
            logger.start(phase.name, phase.schedule.total, state.env_steps)
            saving = Saving(checkpoints, self.config["checkpoint_every"], signals)
            with signals.deferred():
                hooks: list[Hook] = [partial(log_round, logger), saving]
                train(env=env, learner=learner, data=data, schedule=phase.schedule, hooks=hooks, state=state)
                checkpoints.save(state)
        phase.save(learner, state)

    def _save_skills(self, learner: Learner, state: State) -> None:
        about = {"env": self.config["env"], "learner": self.config["learner"], "env_steps": state.env_steps}
        skill_library.save(learner.behaviour(), self.folder / "skills", about=about)

    def _save_controller(self, learner: Learner, state: State) -> None:
        self._controller.parent.mkdir(exist_ok=True)
        write_tensors(self._controller, learner)

    # ---- what came of it

    @property
    def _controller(self) -> Path:
        return self.folder / "controller" / "model.safetensors"

    def skills(self) -> SkillPolicy:
        """The skills that the config names, or this run's own, from disk."""
        return skill_library.load(
            self.config["skills"] or self.folder, device=str(self.device), trusted=self.runtime.trusted
        )

    def evaluate(self) -> dict[str, Any]:
        """Write eval/ from what is on disk, and return the scores. Errors: BadInput where training is not done."""
        for phase in self.phases:
            if not phase.result.exists():
                raise BadInput(f"{self.folder} has no {phase.result.parent.name} yet: go on with resume={self.folder}")
        with bad_input("skills"):
            skills = self.skills().cpu()
        return evaluate(
            make_env=partial(self._rows, self.config["env"]),
            policy=skills,
            run_dir=self.folder,
            seed=self.seeds["evaluation"],
            make_untrained=partial(untrained, skills),
            controller=self._trained_controller(skills),
            make_task_env=partial(self._rows, self.task),
        )

    def report(self) -> None:
        """Write report.html, if the config asks for an evaluation."""
        if self.config["evaluate"]:
            build_report(self.folder)

    def _rows(self, node: Config, num_envs: int) -> Any:
        return self.build(node | {"num_envs": num_envs})

    def _trained_controller(self, skills: SkillPolicy) -> Any:
        if self.config["downstream"] is None:
            return None
        with self._env("task", self.task | {"num_envs": 1}) as task:
            learner = self.phases[-1].learner(Spec.from_env(task), skills)
        with bad_input("controller"):
            learner.load_state_dict(safetensors.torch.load(self._controller.read_bytes()))
        return learner.prior()


@dataclass
class Saving:
    """A hook: a checkpoint every ``every`` env steps, and one before a signal ends the run."""

    checkpoints: Checkpoints
    every: int
    signals: Signals

    def __call__(self, state: State) -> None:
        before = max(state.env_steps - state.schedule.collect, 0)
        if state.env_steps // self.every > before // self.every or self.signals.seen:
            self.checkpoints.save(state)
        if self.signals.seen:
            raise Stopped(self.signals.seen)


def log_round(logger: Logger, state: State) -> None:
    """A hook: what a round has to tell."""
    logger.add(state.metrics)
    for episode in state.episodes:
        logger.add(episode)
    logger.progress(state.env_steps)
    if logger.due(state.env_steps) or state.finished():
        logger.write(**state.counters())


def check_budget(key: str, phase: Phase, num_envs: int) -> None:
    """What a phase asks for can be collected and kept."""
    if phase.schedule.collect % num_envs:
        raise BadInput(f"{key}.collect is {phase.schedule.collect}: it must be a multiple of num_envs, {num_envs}")
    Replay(phase.capacity, num_envs)


def check_fit(skills: SkillPolicy, spec: Spec) -> None:
    """Skills see and act as an env of ``spec`` lets them. Errors: ValueError saying what differs."""
    spec.obs.columns(skills.obs)
    if skills.action != spec.action:
        raise ValueError(f"they act with {skills.action}, the env wants {spec.action}")


def untrained(policy: SkillPolicy, seed: int) -> SkillPolicy:
    """The same architecture, fresh. Leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(policy)(**policy.arguments).eval()
