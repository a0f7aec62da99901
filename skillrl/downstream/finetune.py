"""Finetuning: a skill is chosen, then trained further on the task's own reward, its z fixed.

By trial: DIAYN, section 4.2.1 (Eysenbach et al. 2018): "the skill with highest reward for each benchmark task", then
SAC. By regression: APS, section 4.3 (Liu & Abbeel 2021, arXiv:2108.13956), of the task's reward on samples of it.

What the URL benchmark's code (rll-research/url_benchmark) does instead is not done here: its finetuning goes on drawing
a random skill every 50 steps (DIAYN) or pins z to a constant (CIC), and so never chooses; that of APS regresses with
the arguments of ``lstsq`` the wrong way round, and again every 5 steps, on what an actor that has moved on collects.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skillrl.agents.base import Agent, build, check_whole, usual_critic
from skillrl.agents.sac import SAC
from skillrl.data.collector import Collector
from skillrl.downstream.base import Measured, Use
from skillrl.downstream.kept import copy_of, one_channel, with_tensors
from skillrl.downstream.zero_shot import fitted, reward_columns
from skillrl.evaluation.protocol import control_metrics
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.base import Batches, Learner
from skillrl.selector import Always, Fixed, Prior, Selector
from skillrl.skill_choice import SuccessiveElimination
from skillrl.skill_policy import ActorPolicy, SkillPolicy, columns_on, freeze
from skillrl.spec import Batch, Metrics, Need, Spec
from skillrl.training import Schedule, State, store

log = logging.getLogger(__name__)
KEEP = {"none": (False, False), "actor": (True, False), "critic": (False, True), "both": (True, True)}
TUNED_AGENT = partial(SAC, alpha_init=0.1)  # from 1 the entropy bonus could outweigh the reward


class Finetune(Use):
    """The best skill, trained further on the task's reward.

    Args:
        env_steps: budget in primitive steps, those of the choice included. warmup, collect, updates, overlap: as in
            pretraining. capacity: of the replay, in env steps; it holds the rollouts of the choice too.
        keep: actor, critic, both, or none: training from scratch, with the same networks.
        skill: best, or a skill's number; of a continuous space, among 16 fixed draws. regressed: the z that a
            regression of the task's reward asks for, of skills that fit rewards.
        confidence: of the choice. choice_env_steps: no further round of rollouts is begun once so many were spent; of
            ``regressed``, the samples. choice_hold: env steps for which a draw from the prior is kept while sampling.
        agent: the RL backbone. batch_size: transitions an update.
    """

    name, folder = "finetune", "finetuned"

    def __init__(
        self,
        *,
        env_steps: int = 100_000,
        warmup: int = 1_000,
        collect: int = 8,
        updates: int = 1,
        overlap: bool = False,
        capacity: int = 1_000_000,
        keep: str = "actor",
        skill: int | str = "best",
        confidence: float = 0.95,
        choice_env_steps: int = 20_000,
        choice_hold: int = 300,
        agent: Callable[..., Agent] = TUNED_AGENT,
        batch_size: int = 256,
    ):
        if keep not in KEEP:
            raise ValueError(f"downstream.keep is {keep!r}: it can be {', '.join(KEEP)}")
        if isinstance(skill, str) and skill not in ("best", "regressed"):
            raise ValueError(f"downstream.skill is {skill!r}: it must be best, regressed or a skill's number")
        if isinstance(skill, str) and keep != "none" and 0 < env_steps <= choice_env_steps:
            raise ValueError(
                f"downstream.choice_env_steps is {choice_env_steps}: it must be less than downstream.env_steps, "
                f"{env_steps}, or there is nothing left to train"
            )
        check_whole("downstream", choice_env_steps=choice_env_steps, choice_hold=choice_hold, batch_size=batch_size)
        SuccessiveElimination(1, confidence=confidence)
        self.schedule = Schedule(env_steps, warmup, collect, updates, overlap)
        self.capacity = capacity
        self.settings: dict[str, Any] = {"keep": keep, "skill": skill, "agent": agent, "batch_size": batch_size}
        self.settings |= {"confidence": confidence, "choice_env_steps": choice_env_steps, "choice_hold": choice_hold}

    def learner(
        self,
        spec: Spec,
        skills: SkillPolicy,
        controller: Callable[..., Learner] | None,
        critic: Callable[[], dict[str, Tensor]],
    ) -> "Finetuned":
        """One of ``skills``, to be trained on the task of ``spec``."""
        if controller is not None:
            raise ValueError("downstream=finetune has no use for a controller: leave controller out")
        return Finetuned(spec, skills, critic=critic, **self.settings)

    def measure(self, learner: "Finetuned", env: Any, *, seed: int) -> Measured:
        """How the skill did before, and what the choice cost."""
        scores: dict[str, Any] = learner.chosen()
        if learner.kept_actor:
            before = control_metrics(rollout(env, learner.skills, Always(learner.z), seed=seed))
            scores |= {f"{key}_before": before[key] for key in ("success_rate", "return_mean")}
        return scores, {}


class Finetuned(Learner):
    """A copy of ``skills`` that the task's reward trains, of one z. For the arguments see Finetune."""

    z: Tensor
    choice: Tensor

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        agent: Callable[..., Agent],
        keep: str,
        skill: int | str,
        confidence: float,
        choice_env_steps: int,
        choice_hold: int,
        batch_size: int,
        critic: Callable[[], dict[str, Tensor]],
    ):
        super().__init__(spec)
        if not isinstance(skills, ActorPolicy):
            raise ValueError(
                f"downstream=finetune trains an actor, and these skills ({type(skills).__name__}) have none"
            )
        self.columns = spec.obs.columns(skills.obs)  # refuses skills of another observation
        if skills.action != spec.action:
            raise ValueError(f"these skills act with {skills.action}, the task wants {spec.action}")
        self.kept_actor, kept_critic = KEEP[keep]
        self._kept = critic() if kept_critic else None
        candidates = skills.space.enumerate()
        number = skill if isinstance(skill, int) else 0
        if not 0 <= number < len(candidates):
            raise ValueError(
                f"downstream.skill is {skill}: it must be best, regressed or a number from 0 to {len(candidates) - 1}"
            )
        tensors = None if self._kept is None else one_channel(self._kept, skills.space, candidates[number])
        # the agent gets networks that hold what is kept, so that its target networks are copies of that
        self.policy, self.agent = build(
            agent,
            spec,
            critic=lambda *shapes: with_tensors(usual_critic(spec)(*shapes), tensors),  # type: ignore[arg-type]
            policy_class=partial(copy_of, skills, self.kept_actor),  # type: ignore[arg-type]
            **skills.arguments,
        )
        self.gamma, self.batch_size = self.agent.gamma, batch_size
        self.confidence, self.choice_env_steps, self.choice_hold = confidence, choice_env_steps, choice_hold
        self._skills = (freeze(skills),)  # in a tuple, so that nn.Module does not count it among its own

        # from scratch there is nothing to choose from: a fresh network's skills are alike
        self.by_trial = skill == "best" and keep != "none"
        self.by_regression = skill == "regressed" and keep != "none"
        self.reward_columns = reward_columns(spec, skills, "downstream.skill=regressed") if self.by_regression else None
        self.register_buffer("candidates", candidates)
        self.register_buffer("z", candidates[number].clone())
        self.register_buffer("choice", torch.tensor([number, 0, 0, 0, 0]))  # as CHOICE names them

    CHOICE = ("skill", "rollouts", "rollouts_uniform", "env_steps", "decided")

    @property
    def skills(self) -> SkillPolicy:
        """As they were."""
        return self._skills[0]

    def prior(self) -> Selector:
        return Always(self.z)

    def needs(self) -> dict[str, Need]:
        return {"batch": Need("transitions", self.batch_size)}

    # ---- the choice

    def prepare(self, state: State) -> None:
        """Try the skills out, as they were; the transitions go into the replay as well."""
        assert state.collector is not None
        if self.by_regression:
            self.regress(state)
            self.settle(state)
        if not self.by_trial:
            return
        trial = SuccessiveElimination(len(self.get_buffer("candidates")), confidence=self.confidence)
        most = min(self.choice_env_steps, state.schedule.total)
        while not trial.decided and state.env_steps < most:
            trial.tell(self.play(state, trial.left))
        if trial.alike:
            told = "finetuning: no skill earned more than another in %d rollouts: the first of them is trained further"
            log.warning(told, trial.rollouts)
        self.z.copy_(self.get_buffer("candidates")[trial.best])
        counts = [trial.best, trial.rollouts, trial.rollouts_uniform, state.env_steps, trial.decided]
        self.choice.copy_(torch.tensor(counts))
        self.settle(state)

    def settle(self, state: State) -> None:
        """z stands. A kept critic of several channels was along another; then fresh episodes."""
        assert state.collector is not None
        state.collector.reset(None)
        if self._kept is not None and "along" in self._kept:
            tensors = one_channel(self._kept, self.skills.space, self.z.cpu())
            for critic in (self.agent.critic, self.agent.target_critic):
                with_tensors(critic, tensors)  # type: ignore[arg-type]

    def regress(self, state: State) -> None:
        """Sample the task's reward by skills that the prior draws, then fit z to what was paid. The skills act at
        random, as they did when they were learnt."""
        assert state.collector is not None
        env, device, seed = state.collector.env, state.data.device, self.draw_seed()
        prior = Prior(self.skills.space, hold=self.choice_hold)
        sampling = Collector(env, self.skills, prior, spec=self.spec, seed=seed, device=device)
        sampling.reset(seed)
        seen = []
        while state.env_steps < min(self.choice_env_steps, state.schedule.total):
            step, _ = sampling.tick()
            store(state, step, None)
            state.env_steps += env.num_envs
            seen.append((step["next_obs"], step["reward"].to(device)))
        led, paid = (torch.cat(part) for part in zip(*seen, strict=True))
        self.z.copy_(fitted(self.skills, self.reward_columns, Batch(next_obs=led, reward=paid)))
        self.choice.copy_(torch.tensor([0, 0, 0, state.env_steps, 0]))

    def draw_seed(self) -> int:
        return int(torch.randint(2**31, (), generator=self.generator, device=self.generator.device))

    def play(self, state: State, skills: list[int]) -> list[float]:
        """The return of one episode of each skill."""
        assert state.collector is not None
        rows, returns = state.collector.num_envs, list[float]()
        for first in range(0, len(skills), rows):
            returns += self._episodes(state, skills[first : first + rows])
        return returns

    def _episodes(self, state: State, skills: list[int]) -> list[float]:
        """Of at most as many skills as there are rows; rows that have none, or have ended, wait."""
        assert state.collector is not None
        env, device = state.collector.env, state.data.device
        seed = self.draw_seed()
        number = torch.tensor(skills + [0] * (env.num_envs - len(skills)), device=device)
        dealt = Fixed(self.get_buffer("candidates")[number])
        play = Collector(env, self.skills, dealt, spec=self.spec, seed=seed, deterministic=True, device=device)
        play.reset(seed)
        running = torch.arange(env.num_envs, device=device) < len(skills)
        returns = torch.zeros(env.num_envs, dtype=torch.float64, device=device)
        while running.any():
            step, _ = play.tick(running)
            store(state, step, None)
            state.env_steps += int(running.sum())
            paid = step["reward"] if step["reward"].ndim == 1 else step["reward"].sum(-1)  # of a team
            returns += torch.where(running, paid, 0.0)
            running = running & ~(step["terminated"] | step["truncated"])
        return returns[: len(skills)].tolist()

    def chosen(self) -> dict[str, int]:
        """The skill; and if it was chosen by trial, at what cost, and whether the bounds told it from all others. A
        skill that was regressed has no number."""
        found = {f"choice_{name}": int(value) for name, value in zip(self.CHOICE, self.choice.tolist(), strict=True)}
        if self.by_regression:
            return {"choice_env_steps": found["choice_env_steps"]}
        return found if self.by_trial else {"choice_skill": found["choice_skill"]}

    # ---- the training

    def update(self, batches: Batches) -> Metrics:
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        columns, z = columns_on(self.columns, batch["obs"].device), self.z.expand_as(batch["z"])
        obs, next_obs = (self.policy.normalizer(batch[key][..., columns]) for key in ("obs", "next_obs"))
        seen = batch.replace(obs=obs, next_obs=next_obs, z=z, next_z=z)
        return self.agent.update(seen, self.generator) | {"reward/task": batch["reward"].mean()}

    def maintain(self, env_steps: int) -> Metrics:
        return {f"choice/{name.removeprefix('choice_')}": torch.tensor(value) for name, value in self.chosen().items()}

    def _apply(self, fn, recurse: bool = True):  # type: ignore[no-untyped-def]
        """Moves to a device together with the skills as they were."""
        self.skills._apply(fn, recurse)
        return super()._apply(fn, recurse)
