"""One training inside a run: pretraining, or the use of skills. Stopped anywhere, it goes on from its checkpoints."""

import logging
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from skillrl.checkpoint import Checkpoints
from skillrl.data.replay import Replay
from skillrl.errors import Stopped
from skillrl.learners.base import Learner
from skillrl.loggers import Logger
from skillrl.runtime import place, seed_everything
from skillrl.signals import Signals
from skillrl.spec import Need, Spec
from skillrl.training import Hook, Schedule, State, begin, train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Phase:
    """What is trained, in which env, for how long. All that lasts is in ``folder`` and in ``result``.

    Args:
        env: → a vector env, closed again here.
        seed, init_seed: of everything while training; of what is drawn before, the first weights.
        save: writes ``result``, last.
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

    def checkpoints(self, **extra: Any) -> Checkpoints:
        return Checkpoints(self.folder, extra=extra)

    def begun(self) -> bool:
        return self.checkpoints().newest() is not None

    def done(self) -> bool:
        return self.result.exists() and (self.checkpoints().newest() or 0) >= self.schedule.total

    def check(self, budget: str, num_envs: int, needs: Mapping[str, Need]) -> None:
        """What is asked for can be collected, kept and learnt from. budget: the config's name for it."""
        Replay(self.capacity, num_envs)
        self.schedule.check(needs, num_envs, self.capacity, budget)

    def train(self, *, device: torch.device, logger: Logger, signals: Signals, checkpoint_every: int) -> None:
        """To the end of the budget, from the newest checkpoint if there is one."""
        checkpoints = self.checkpoints(logger=logger)
        if self.done():
            return checkpoints.restore_extra()
        with closing(self.env()) as env:
            seed_everything(self.init_seed)
            learner = place(self.learner(Spec.from_env(env)), device, self.seed)
            data = Replay(self.capacity, env.num_envs, gamma=learner.gamma, device=device, seed=self.seed)
            state = begin(env=env, learner=learner, data=data, schedule=self.schedule, seed=self.seed)
            if checkpoints.restore(state) and not env.metadata.get("exact_resume", True):
                log.warning("the physics of this env cannot be saved: the resumed run begins fresh episodes")
            logger.start(self.name, self.schedule.total, state.env_steps)
            saving = Saving(checkpoints, checkpoint_every, signals)
            hooks: list[Hook] = [partial(log_round, logger), saving, *self.hooks]
            with signals.deferred():
                train(env=env, learner=learner, data=data, schedule=self.schedule, hooks=hooks, state=state)
                checkpoints.save(state)
        self.save(learner, state)


@dataclass
class Saving:
    """A hook: a checkpoint every ``every`` env steps, and one before a signal ends the run."""

    checkpoints: Checkpoints
    every: int
    signals: Signals

    def __call__(self, state: State) -> None:
        if passed(state, self.every) or self.signals.seen:
            self.checkpoints.save(state)
        if self.signals.seen:
            raise Stopped(self.signals.seen)


def passed(state: State, every: int) -> bool:
    """Whether the newest round reached a multiple of ``every`` env steps."""
    return state.env_steps // every > (state.env_steps - state.schedule.collect) // every


def log_round(logger: Logger, state: State) -> None:
    """A hook: what a round has to tell."""
    logger.add(state.metrics)
    for episode in state.episodes:
        logger.add(episode)
    logger.progress(state.env_steps)
    if logger.due(state.env_steps) or state.finished():
        logger.write(**state.counters())
