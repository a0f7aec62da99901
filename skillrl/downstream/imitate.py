"""Imitation: the skill that an expert's observations speak of.

DIAYN, section 4.2.3 (Eysenbach et al. 2018): ẑ = argmax_z Σ_t log q(z | s_t) over an expert's trajectory of
observations, by the discriminator that taught the skills. Nothing is trained, and the expert's actions are not needed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skillrl.controllers.base import Controller
from skillrl.downstream.base import Measured, Use
from skillrl.evaluation.rollouts import rollouts
from skillrl.learners.base import Learner
from skillrl.selector import Always, Selector
from skillrl.skill_policy import InfersSkills, SkillPolicy
from skillrl.spec import Spec
from skillrl.training import Schedule

ROLLOUTS = 4  # of each skill, to see how far from the expert it goes


class Imitate(Use):
    """The skill that is most like an expert.

    Args:
        expert: an .npz with ``observations`` of the task, (T, obs_dim), or (R, T, obs_dim) and perhaps
            ``observations_length`` (R,): a run's ``eval/trajectories.npz`` is such a file. Of a team each observation
            is (agents, obs_dim).
        expert_row: which of R.
    """

    name, folder = "imitate", "imitator"
    capacity = 100_000  # never filled

    def __init__(self, *, expert: str, expert_row: int = 0):
        self.expert, self.expert_row = expert, expert_row
        self.schedule = Schedule(0)

    def learner(
        self,
        spec: Spec,
        skills: SkillPolicy,
        controller: Callable[..., Learner] | None,
        critic: Callable[[], dict[str, Tensor]],
    ) -> "Imitator":
        """The one of ``skills`` that imitates, fixed."""
        if controller is not None:
            raise ValueError("downstream=imitate has no use for a controller: leave controller out")
        return Imitator(spec, skills, read_expert(self.expert, self.expert_row, spec))

    def measure(self, learner: "Imitator", env: Any, *, seed: int) -> Measured:
        """How near to the expert each skill stays, in what the posterior looks at."""
        space, skill = learner.skills.space, int(learner.skill)
        told = rollouts(env, learner.skills, space.enumerate(ROLLOUTS * len(learner.log_q)), seed=seed)
        far = path_distance(learner.seen(told.obs), learner.seen(learner.expert))  # (R,)
        of_skill = far.reshape(ROLLOUTS, -1).mean(0)  # (K,): skills were dealt in turn
        scores = {
            "imitation_skill": skill,
            "imitation_posterior": float(learner.posterior()[skill]),
            "imitation_distance": float(of_skill[skill]),
            "imitation_distance_others": float(np.delete(of_skill, skill).mean()) if len(of_skill) > 1 else None,
            "imitation_nearest": int(of_skill.argmin()),
        }
        arrays = {"imitation_log_q": learner.log_q.numpy(), "imitation_distance": of_skill}
        return scores, arrays


class Imitator(Controller):
    """Plays the skill that the expert's observations speak of. There is nothing to learn."""

    log_q: Tensor
    skill: Tensor
    z: Tensor

    def __init__(self, spec: Spec, skills: SkillPolicy, expert: np.ndarray):
        super().__init__(spec, skills, hold=spec.horizon)
        if not isinstance(skills, InfersSkills) or skills.space.count is None:
            what = f"{type(skills).__name__} over {type(skills.space).__name__}"
            raise ValueError(f"downstream=imitate needs countable skills with a posterior q(z | s), these are {what}")
        self.columns = spec.obs.columns(skills.posterior_obs)
        self.expert = expert
        seen = torch.as_tensor(self.seen(expert), dtype=torch.float32)
        with torch.no_grad():
            log_q = skills.log_posterior(seen.to(next(skills.parameters()).device)).mean(0)  # (K,)
        self.register_buffer("log_q", log_q.cpu())
        self.register_buffer("skill", log_q.cpu().argmax())
        self.register_buffer("z", skills.space.enumerate()[self.skill].clone())

    def seen(self, obs: np.ndarray) -> np.ndarray:
        """The posterior's columns of whole observations."""
        return obs if self.columns is None else obs[..., self.columns]

    def posterior(self) -> Tensor:
        """(K,) of the whole trajectory: ∝ Π_t q(z | s_t), its steps taken as independent."""
        return (len(self.expert) * self.log_q.double()).softmax(-1)

    def prior(self) -> Selector:
        return Always(self.z, hold=self.hold)


def read_expert(path: str, row: int, spec: Spec) -> np.ndarray:
    """Observations (T, obs_dim), of a team (T, agents, obs_dim).

    Errors: ValueError, in a line, where the file holds none for an env of ``spec``.
    """
    where, wanted = f"downstream.expert {path}", ", ".join(map(str, spec.obs.shape))
    if not Path(path).is_file():
        raise ValueError(f"{where} is no file: give an .npz with observations (T, {wanted})")
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in ("observations", "observations_length") if name in file}
        observations = np.asarray(found["observations"], np.float32)
    except (KeyError, OSError, ValueError, EOFError) as error:
        raise ValueError(f"{where} has no array called observations that can be read") from error
    if observations.ndim == 1 + len(spec.obs.shape):
        observations = observations[None]
    if observations.shape[2:] != spec.obs.shape or not np.isfinite(observations).all():
        shape = f"{found['observations'].shape}"
        raise ValueError(f"{where}: observations are {shape}, of this task they must be finite and (T, {wanted})")
    if not 0 <= row < len(observations):
        raise ValueError(f"downstream.expert_row is {row}: {path} has rows 0 to {len(observations) - 1}")
    stop = found["observations_length"][row] if "observations_length" in found else observations.shape[1]
    return observations[row, : int(stop)]


def path_distance(paths: np.ndarray, expert: np.ndarray) -> np.ndarray:
    """(R, T, D) and (T', D) → (R,): mean over the expert's steps of the Euclidean distance, step by step, and over the
    agents of a team, (R, T, agents, D).

    A path that is shorter than the expert's stays where it ended.
    """
    at = np.minimum(np.arange(len(expert)), paths.shape[1] - 1)
    apart = np.linalg.norm(paths[:, at] - expert, axis=-1)  # (R, T', ...)
    return apart.reshape(len(apart), -1).mean(1)
