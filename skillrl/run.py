"""One run, in its folder: pretrain skills or load them, use them, evaluate. Stopped anywhere, it goes on from there.

Configs arrive as plain dicts and ``build`` makes objects of them (Hydra's ``instantiate``): no Hydra is needed here.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from skillrl import skill_library
from skillrl.atomic import write_tensors
from skillrl.config import Config, check_config, complete, distrust, located
from skillrl.cores import settle
from skillrl.data.dataset import Dataset
from skillrl.errors import BadInput, Stopped, bad_input
from skillrl.evaluation import evaluate
from skillrl.evaluation.report import build_report
from skillrl.learners.base import Learner
from skillrl.loggers import Logger
from skillrl.phase import Phase
from skillrl.record import locked, write_config, write_start, write_status
from skillrl.runtime import Runtime, count_cores, setup_runtime, spawn_seeds
from skillrl.selector import BringsSelector
from skillrl.signals import Signals
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec
from skillrl.training import Guest, Schedule, State

Build = Callable[..., Any]


class Run:
    """A run of a complete ``config`` in ``folder``.

    Args:
        build: config node, and what code hands over → object.
        saved: whether the config was read from a run's folder, and so may be a stranger's.
        jobs: runs that share this machine, this one included.

    Errors: BadInput, before anything is written, for whatever can be known to be wrong without training.
    """

    def __init__(self, config: Config, folder: str | Path, build: Build, *, saved: bool = False, jobs: int = 1):
        self.config, self.why = settle(complete(config), count_cores(), jobs)
        self.folder, self.build = Path(folder), build
        check_config(self.config)
        if saved:
            distrust(self.config)
        self.config = located(self.config)
        with bad_input("runtime"):
            self.runtime: Runtime = build(self.config["runtime"])
            self.device = setup_runtime(self.runtime)
        with bad_input("seed"):
            self.seeds = spawn_seeds(self.config["seed"])
        self.task: Config = self.config["task"] or self.config["env"]
        self.phases = [phase for phase in (self._pretraining(), self._use()) if phase is not None]
        self.rehearse()

    def _pretraining(self) -> Phase | None:
        if self.config["skills"] is not None:
            return None
        with bad_input("pretrain"):
            budget = dict(self.config["pretrain"])
            capacity, updates = budget.pop("capacity"), budget.pop("grad_steps")
            schedule = Schedule(total=budget.pop("env_steps"), **budget) if updates is None else Schedule(updates)
        return Phase(
            env=partial(self.build, self.config["env"]),
            learner=partial(self.build, self.config["learner"]),
            schedule=schedule,
            capacity=capacity,
            result=self.folder / "skills" / "config.json",
            save=self._save_skills,
            hooks=(self._snapshot,),
            dataset=self.config["data"],
            **self._of_phase("pretrain"),
        )

    def _use(self) -> Phase | None:
        if self.config["downstream"] is None:
            return None
        with bad_input("downstream"):
            use = self.build(self.config["downstream"])
        return Phase(
            env=partial(self.build, self.task),
            learner=lambda spec: self.user(spec, self.skills(), self.critic),
            schedule=use.schedule,
            capacity=use.capacity,
            result=self.folder / use.folder / "model.safetensors",
            save=self._save_user,
            **self._of_phase(use.name),
        )

    def _of_phase(self, name: str) -> dict[str, Any]:
        seeds = {
            key: spawn_seeds(self.seeds[of], [name])[name] for key, of in (("seed", "env"), ("init_seed", "learner"))
        }
        return {"name": name, "folder": self.folder / "checkpoints" / name, **seeds}

    def user(self, spec: Spec, skills: SkillPolicy, critic: Callable[[], dict[str, Tensor]]) -> Learner:
        """What uses ``skills`` in an env of ``spec``. critic: → the tensors of what taught them."""
        controller = self.config["controller"]
        use = self.build(self.config["downstream"])
        return use.learner(spec, skills, None if controller is None else partial(self.build, controller), critic)

    def rehearse(self) -> None:
        """Build everything once, so that what cannot work is said now and not after the pretraining."""
        with self._look_at("env", self.config["env"]) as (spec, num_envs):
            if self.config["skills"] is not None:
                with bad_input("skills"):
                    skills, critic = self.skills(), self.critic
                    check_fit(skills, spec)
            else:
                with bad_input("learner"):
                    learner = self.phases[0].learner(spec)
                    needs = learner.needs()
                    skills, critic = learner.kept_policy(), partial(critic_of, learner)
                with bad_input("pretrain"):
                    self.phases[0].check("pretrain", num_envs, needs)
                with bad_input("data"):
                    self.phases[0].check_data(learner)
        if self.config["downstream"] is not None:
            with self._look_at("task", self.task) as (spec, num_envs):
                with bad_input("downstream" if self.config["controller"] is None else "controller"):
                    user = self.user(spec, skills, critic)
                    needs = user.needs()
                    if isinstance(user, Guest):
                        self.check_guest()
                        user.rehearse(num_envs, self.phases[-1].schedule.total)
                with bad_input("downstream"):
                    self.phases[-1].check("downstream", num_envs, needs)

    def check_guest(self) -> None:
        """Errors: BadInput for what only our own updates can do."""
        if self.runtime.precision != "float32":
            raise BadInput(
                f"runtime.precision is {self.runtime.precision}, but this controller is of a library that makes its "
                "own updates: set it to float32"
            )

    @contextmanager
    def _look_at(self, key: str, node: Config) -> Iterator[tuple[Spec, int]]:
        """An env's spec and its number of rows; for that it needs no worker processes."""
        with bad_input(key):
            env = self.build(node | ({"workers": min(node["workers"], 0)} if "workers" in node else {}))
        with closing(env):
            yield Spec.from_env(env), env.num_envs

    # ---- doing it

    def execute(self) -> None:
        """All that the config asks for, from wherever the folder stands."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder):
            self.check_order()
            write_config(self.folder, self.config)
            with bad_input("logger"):
                logger: Logger = self.build(self.config["logger"], self.folder)
            taken = {"threads": self.runtime.threads, "workers": self.runtime.workers}
            write_start(self.folder, runtime=taken | ({"why": self.why} if self.why else {}))
            if self.why:
                print("; ".join(f"{key}={taken[key]}: {reason}" for key, reason in self.why.items()))
            try:
                with Signals() as signals:
                    self._do(logger, signals)
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

    def _do(self, logger: Logger, signals: Signals) -> None:
        settings = {"checkpoint_every": self.config["checkpoint_every"], "runtime": self.runtime}
        with logger:
            for phase in self.phases:
                phase.train(device=self.device, logger=logger, signals=signals, **settings)
            if self.config["evaluate"]:
                logger.evaluated(self.evaluate(), self.folder / "eval")

    def check_order(self) -> None:
        """No phase may go on once a later one has built on its result."""
        for earlier, later in pairwise(self.phases):
            if not earlier.done() and later.begun():
                raise BadInput(
                    f"{earlier.name}.env_steps cannot grow: a controller has been trained over these skills. "
                    f"Pretrain in a new run, or use them with skills={self.folder}"
                )

    def _save_skills(self, learner: Learner, state: State, name: str = "") -> None:
        about = {"env": self.config["env"], "learner": self.config["learner"], **state.counters()}
        folder = self.folder / "skills" / name
        skill_library.save(learner.kept_policy(), folder, about=about, critic=learner.kept_critic())

    def _snapshot(self, state: State) -> None:
        if any(state.steps_before < at <= state.steps for at in self.config["snapshots"]):
            self._save_skills(state.learner, state, str(state.steps))

    def _save_user(self, learner: Learner, state: State) -> None:
        result = self.phases[-1].result
        result.parent.mkdir(exist_ok=True)
        if learner.policy is not None:  # skills of its own
            about = {"env": self.task, "downstream": self.config["downstream"], "env_steps": state.env_steps}
            skill_library.save(learner.policy, result.parent / "skills", about=about)
        if isinstance(learner, Guest):
            learner.export(result.parent)
        write_tensors(result, learner)

    # ---- what came of it

    def export(self, path: str | Path) -> Path:
        """Write the replay of the pretraining, as it is in the newest checkpoint, as a dataset. Errors: BadInput."""
        if self.config["skills"] or self.config["data"]:
            origin = self.config["skills"] or self.config["data"]
            raise BadInput(f"export: {self.folder} has no replay of a pretraining, it began with {origin}")
        if Path(path).exists():
            raise BadInput(f"export: {path} exists already: name another file")
        with self._look_at("env", self.config["env"]) as (spec, _):
            pass
        with bad_input("export"):
            dataset = Dataset.of(self.phases[0].checkpoints().replay(), spec)
            return dataset.save(path, about={key: self.config[key] for key in ("env", "learner", "seed")})

    def skills(self) -> SkillPolicy:
        """The skills that the config names, or this run's own, from disk."""
        path = self.config["skills"] or self.folder
        return skill_library.load(path, device=str(self.device), trusted=self.runtime.trusted)

    def critic(self) -> dict[str, Tensor]:
        """Of what taught the skills, from disk. Errors: ValueError where it was not saved."""
        return skill_library.load_critic(self.config["skills"] or self.folder)

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
            make_task_env=partial(self._rows, self.task),
            **(self.brought(skills) if self.config["downstream"] is None else self._used(skills)),
        )

    def report(self) -> None:
        """Write report.html, if the config asks for an evaluation."""
        if self.config["evaluate"]:
            build_report(self.folder)

    def _rows(self, node: Config, num_envs: int) -> Any:
        return self.build(node | {"num_envs": num_envs})

    def brought(self, skills: SkillPolicy) -> dict[str, Any]:
        """The skills' own selector, where they were learnt with one, as an evaluation wants it."""
        if not isinstance(skills, BringsSelector):
            return {}
        with self._look_at("task", self.task | {"num_envs": 1}) as (spec, _), bad_input("task"):
            return {"controller": skills.selector(spec)}

    def _used(self, skills: SkillPolicy) -> dict[str, Any]:
        """How ``skills`` were put to use, as an evaluation wants it."""
        with self._look_at("task", self.task | {"num_envs": 1}) as (spec, _), bad_input("downstream"):
            learner = self.user(spec, skills, self.critic)
        with bad_input("controller"):
            learner.load_state_dict(safetensors.torch.load(self.phases[-1].result.read_bytes()))
        use = self.build(self.config["downstream"])
        measure = partial(use.measure, learner, seed=self.seeds["evaluation"])
        return {"controller": learner.prior(), "actor": learner.behaviour(), "measure": measure}


def check_fit(skills: SkillPolicy, spec: Spec) -> None:
    """Skills see and act as an env of ``spec`` lets them. Errors: ValueError saying what differs."""
    spec.obs.columns(skills.obs)
    if skills.action != spec.action:
        raise ValueError(f"they act with {skills.action}, the env wants {spec.action}")


def critic_of(learner: Learner) -> dict[str, Tensor]:
    """Its tensors. Errors: ValueError where it has none."""
    critic = learner.kept_critic()
    if critic is None:
        raise ValueError(f"downstream.keep: {type(learner).__name__} has no critic, keep the actor")
    return critic.state_dict()


def untrained(policy: SkillPolicy, seed: int) -> SkillPolicy:
    """The same architecture, fresh. Leaves the global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return type(policy)(**policy.arguments).eval()
