"""One training inside a run: pretraining, or the use of skills. Stopped anywhere, it goes on from its checkpoints."""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from skillrl import offline
from skillrl.checkpoint import Checkpoints
from skillrl.data.replay import Replay
from skillrl.errors import Stopped, bad_input
from skillrl.learners.base import Learner
from skillrl.loggers import Logger
from skillrl.precision import equip
from skillrl.runtime import Runtime, place, seed_everything
from skillrl.signals import Signals
from skillrl.spec import Need, Spec
from skillrl.training import Guest, Hook, Schedule, State, begin, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """What is trained, in which env, for how long. All that lasts is in ``folder`` and in ``result``.

    Args:
        env: → a vector env, closed again here.
        seed, init_seed: of everything while training; of what is drawn before, the first weights.
        save: writes ``result``, last.
        dataset: a file to learn from; the env then only says what is observed and done, and the budget is in updates.
    """

    name: str
    env: Callable[[], Any]
    learner: Callable[[Spec], Learner]
    schedule: Schedule
    capacity: int
    seed: int
    init_seed: int
    folder: Path
    result: Path
    save: Callable[[Learner, State], None]
    hooks: tuple[Hook, ...] = ()
    dataset: str | None = None

    def checkpoints(self, **extra: Any) -> Checkpoints:
        return Checkpoints(self.folder, extra=extra)

    def begun(self) -> bool:
        return self.checkpoints().newest() is not None

    def done(self) -> bool:
        return self.result.exists() and (self.checkpoints().newest() or 0) >= self.schedule.total

    def check(self, budget: str, num_envs: int, needs: Mapping[str, Need]) -> None:
        """What is asked for can be collected, kept and learnt from. budget: the config's name for it."""
        if self.dataset is not None:
            return
        Replay(self.capacity, num_envs)
        self.schedule.check(needs, num_envs, self.capacity, budget)

    def train(
        self, *, device: torch.device, logger: Logger, signals: Signals, checkpoint_every: int, runtime: Runtime
    ) -> None:
        """To the end of the budget, from the newest checkpoint if there is one."""
        checkpoints = self.checkpoints(logger=logger)
        if self.done():
            return checkpoints.restore_extra()
        with closing(self.env()) as env:
            seed_everything(self.init_seed)
            learner = place(self.learner(Spec.from_env(env)), device, self.seed)
            stage = env if self.dataset is None else None
            data = self._data(learner, env.num_envs, device, checkpoints)
            state = begin(env=stage, learner=learner, data=data, schedule=self.schedule, seed=self.seed)
            equip(state, runtime)
            if isinstance(learner, Guest):
                checkpoints.extra["guest"] = learner.luggage
            if checkpoints.restore(state) and stage and not stage.metadata.get("exact_resume", True):
                log.warning("the physics of this env cannot be saved: the resumed run begins fresh episodes")
            logger.start(self.name, self.schedule.total, state.steps)
            saving = Saving(checkpoints, checkpoint_every, signals, state.steps)
            # saving comes last: a round that was saved has left all that it leaves
            hooks: list[Hook] = [partial(log_round, logger), *self.hooks, saving]
            with signals.deferred():
                if isinstance(learner, Guest):
                    learner.learn(state, hooks, stop=lambda: bool(signals.seen))
                else:
                    train(env=stage, learner=learner, data=data, schedule=self.schedule, hooks=hooks, state=state)
                checkpoints.save(state)
        self.save(learner, state)

    def check_data(self, learner: Learner) -> None:
        """The dataset is for this learner, and what the phase began with. Errors: ValueError."""
        if self.dataset is not None and not self.done():
            dataset = offline.load(self.dataset, learner)
            self.checkpoints(data=offline.SameData(self.dataset, dataset.digest())).restore_extra()
            offline.rehearse(dataset, learner)

    def _data(self, learner: Learner, num_envs: int, device: torch.device, checkpoints: Checkpoints) -> Replay:
        """Empty, or all of the dataset; a checkpoint then holds only what that data was."""
        if self.dataset is None:
            return Replay(self.capacity, num_envs, gamma=learner.gamma, device=device, seed=self.seed)
        with bad_input("data"):
            dataset = offline.load(self.dataset, learner)
        checkpoints.extra["data"] = offline.SameData(self.dataset, dataset.digest())
        return dataset.replay(gamma=learner.gamma, device=device, seed=self.seed)


@dataclass
class Saving:
    """A hook: a checkpoint every ``every`` steps, and one before a signal ends the run."""

    checkpoints: Checkpoints
    every: int
    signals: Signals
    last: int
    """Steps when it was last called: a guest's rounds differ in length."""

    def __call__(self, state: State) -> None:
        before, self.last = self.last, state.steps
        if state.steps // self.every > before // self.every or self.signals.seen:
            self.checkpoints.save(state)
        if self.signals.seen:
            raise Stopped(self.signals.seen)


def log_round(logger: Logger, state: State) -> None:
    """A hook: what a round has to tell."""
    logger.add(state.metrics)
    for episode in state.episodes:
        logger.add(episode)
    logger.progress(state.steps)
    if logger.due(state.steps) or state.finished():
        if state.visited:
            logger.add({"coverage/visited": float(len(state.visited))})
        logger.write(**state.counters(), steps=state.steps)
