"""The evaluation: which rollouts are made, what is measured on them, and what is written under ``eval/``."""

import json
import math
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skillrl.evaluation import metrics
from skillrl.evaluation.figures import draw_all
from skillrl.evaluation.foresight import ROLLOUTS, foresight
from skillrl.evaluation.rollouts import Film, Trajectories, rollout, rollouts
from skillrl.evaluation.video import control_video, skill_video
from skillrl.selector import Prior, Selector
from skillrl.skill_policy import Imagines, SkillPolicy
from skillrl.skill_spaces import SkillSpace

COVERAGE_ROLLOUTS, ROLLOUTS_A_SKILL, CONTINUOUS_SKILLS, INITIALISATIONS, EPISODES = 48, 12, 16, 3, 48
MAX_ROWS = 96  # envs at once: enough for a good batch, few enough for the memory of any body
UNTRAINED_SEED = 10_000  # far from the seeds of runs, so that "untrained" is never a run's own initialisation
FILMED_SKILLS, FILMED_EPISODES, FRAMES = 16, 4, 120

MakeEnv = Callable[[int], Any]
MakePolicy = Callable[[int], SkillPolicy]
Measure = Callable[[Any], tuple[dict[str, Any], dict[str, np.ndarray]]]
"""env → scores and arrays that a use of skills wants to see beside the others."""


@dataclass(frozen=True)
class Deal:
    """Which skill each rollout gets.

    labels: the skill's number, or −1 for a rollout that takes no part in telling skills apart.
    spread: the 48 rows on which coverage and displacement are measured: skills dealt evenly.
    """

    z: Tensor  # (R, ...)
    labels: np.ndarray  # (R,)
    spread: np.ndarray  # (48,)
    num_skills: int

    @classmethod
    def of(cls, space: SkillSpace) -> "Deal":
        """Countable skills share their rollouts; a continuous space shows 16 fixed draws and is spread over 48 more."""
        count = space.count
        if count is None:
            z = space.enumerate(CONTINUOUS_SKILLS)
            told = np.tile(np.arange(CONTINUOUS_SKILLS), ROLLOUTS_A_SKILL)
            labels = np.concatenate([told, np.full(COVERAGE_ROLLOUTS, -1)])
            spread = len(told) + np.arange(COVERAGE_ROLLOUTS)
            return cls(torch.cat([z[told], space.enumerate(COVERAGE_ROLLOUTS)]), labels, spread, CONTINUOUS_SKILLS)
        told = np.arange(max(COVERAGE_ROLLOUTS, ROLLOUTS_A_SKILL * count if count > 1 else 0))
        labels = np.where((told < ROLLOUTS_A_SKILL * count) & (count > 1), told % count, -1)
        spread = np.arange(COVERAGE_ROLLOUTS) * max(count, COVERAGE_ROLLOUTS) // COVERAGE_ROLLOUTS
        return cls(space.enumerate(len(told)), labels, spread, count)


def evaluate(
    *,
    make_env: MakeEnv,
    policy: SkillPolicy,
    run_dir: str | Path,
    seed: int = 0,
    make_untrained: MakePolicy | None = None,
    controller: Selector | None = None,
    make_task_env: MakeEnv | None = None,
    actor: SkillPolicy | None = None,
    measure: Measure | None = None,
    video: bool = True,
) -> dict[str, Any]:
    """Measures skills, and their use on a task; writes metrics, trajectories, figures and videos to ``run_dir/eval``.

    Args:
        make_env: num_envs → a vector env of ours; closed again here.
        make_untrained: seed → a policy of the same architecture that has learnt nothing.
        controller: a selector that chooses skills on the task; None: ``success_rate``, ``return_mean`` and
            ``episode_length`` are those of skills dealt evenly on the env itself.
        make_task_env: what the controller is used on; None is ``make_env``.
        actor: what acts there, if it is not ``policy`` itself: skills that were trained further.
        measure: what else is measured there.

    Returns:
        What ``metrics.json`` holds: every key of it is always there, None where it does not apply; then those of
        ``measure``, and of ``foresight`` where the skills have a world model.
    """
    folder = Path(run_dir) / "eval"
    clear(folder)
    deal, notes = Deal.of(policy.space), list[str]()
    with closing(make_env(min(len(deal.z), MAX_ROWS))) as env:
        film = _film(env, range(deal.num_skills), FILMED_SKILLS, notes) if video else None
        told = rollouts(env, policy, deal.z, seed=seed, film=film)
        scores, recognition = skill_metrics(told, deal, policy.space.count, _cell(env), seed=seed)
        of_untrained, untrained_coverage = _untrained(env, make_untrained, deal, seed)
        scores |= of_untrained
        if film:
            skill_video(told, film, folder / "videos" / "skills.mp4", fps=env.metadata["render_fps"])
    scores |= control_metrics(told.take(deal.spread)) | {"success_rate_random": None, "return_mean_random": None}
    arrays = _skill_arrays(told, deal, recognition) | untrained_coverage
    if isinstance(policy, Imagines):
        with closing(make_env(ROLLOUTS)) as env:
            of_model, made = foresight(env, policy, seed=seed)
        scores, arrays = scores | of_model, arrays | made
    if controller is not None:
        with closing((make_task_env or make_env)(EPISODES)) as task:
            film = _film(task, range(EPISODES), FILMED_EPISODES, notes) if video else None
            used = rollout(task, actor or policy, controller, seed=seed, film=film)
            by_chance = rollout(task, policy, Prior(policy.space, hold=controller.hold), seed=seed)
            scores |= control_metrics(used)
            scores |= {f"{key}_random": control_metrics(by_chance)[key] for key in ("success_rate", "return_mean")}
            goal = _goal(task, used)
            arrays |= _control_arrays(used, goal, task.metadata.get("goal_radius", 0.0))
            more, more_arrays = measure(task) if measure else ({}, {})
            scores, arrays = scores | more, arrays | more_arrays
            if film:
                target = folder / "videos" / "control.mp4"
                control_video(used, film, target, fps=task.metadata["render_fps"], goal=goal)
    scores["notes"] = notes
    save(folder, scores, arrays)
    draw_all(Path(run_dir))
    return scores


def skill_metrics(
    told: Trajectories, deal: Deal, count: int | None, cell: float | None, *, seed: int
) -> tuple[dict[str, Any], metrics.Recognition | None]:
    """What is measured of the skills themselves, and the fresh classifier's answers (None without cells or skills)."""
    spread, known = told.take(deal.spread), told.take(np.flatnonzero(deal.labels >= 0))
    labels, k = deal.labels[deal.labels >= 0], deal.num_skills
    has_skills = len(labels) > 0
    scores: dict[str, Any] = {"num_skills": count, "chance": 1 / k if has_skills else None, "coverage_cell": cell}
    scores |= dict.fromkeys(
        ("state_coverage", "displacement_median", "discriminability", "discriminability_permuted", "effective_skills")
    )
    scores["discriminability_agents"] = None
    recognition = None
    if cell is not None:
        scores["state_coverage"] = metrics.state_coverage(spread.coordinates, spread.length, cell)
        scores["displacement_median"] = _displacement(spread)
    if cell is not None and has_skills:
        table = metrics.cell_table(known.coordinates, known.length, cell)
        recognition = metrics.recognise(table, labels, k, seed=seed)
        scores["discriminability"] = recognition.accuracy
        scores["discriminability_permuted"] = metrics.permuted_accuracy(table, labels, k, seed=seed)
        scores["effective_skills"] = recognition.effective_skills
        if told.agents > 1:  # what each agent alone tells of the team's skill
            tables = [
                metrics.cell_table(own, known.length, cell) for own in metrics.of_each(known.coordinates, told.agents)
            ]
            scores["discriminability_agents"] = [
                metrics.recognise(own, labels, k, seed=seed).accuracy for own in tables
            ]
    everything = metrics.obs_table(known.obs, known.length) if has_skills and known.obs.size else None
    scores["discriminability_obs"] = everything and metrics.recognise(everything, labels, k, seed=seed).accuracy
    return scores, recognition


def control_metrics(episodes: Trajectories) -> dict[str, float | None]:
    """By the env's own reward; ``success_rate`` is None where the env knows no success."""
    return {
        "success_rate": None if episodes.success is None else float(episodes.success.mean()),
        "return_mean": float(episodes.returns.mean()),
        "episode_length": float(episodes.length.mean()),
    }


def _untrained(
    env: Any, make_untrained: MakePolicy | None, deal: Deal, seed: int
) -> tuple[dict[str, float | None], dict[str, np.ndarray]]:
    """The same rollouts, from the same starts, by fresh initialisations: their scores, and their coverage over time."""
    cell, classed, recognised, far = _cell(env), deal.labels >= 0, list[float](), list[float]()
    visited: list[np.ndarray] = []
    if make_untrained is not None and cell is not None:
        for i in range(INITIALISATIONS):
            told = rollouts(env, make_untrained(UNTRAINED_SEED + INITIALISATIONS * seed + i), deal.z, seed=seed)
            spread = told.take(deal.spread)
            far.append(_displacement(spread))
            visited.append(metrics.coverage_so_far(spread.coordinates, spread.length, cell))
            if classed.any():
                known = told.take(np.flatnonzero(classed))
                table = metrics.cell_table(known.coordinates, known.length, cell)
                answers = metrics.recognise(table, deal.labels[classed], deal.num_skills, seed=seed)
                recognised.append(answers.accuracy)
    scores = {
        "discriminability_untrained": float(np.mean(recognised)) if recognised else None,
        "displacement_median_untrained": float(np.mean(far)) if far else None,
        "state_coverage_untrained": float(np.mean([cells[-1] for cells in visited])) if visited else None,
    }
    if not visited:
        return scores, {}
    steps = max(map(len, visited))  # of the longest episode; what ended earlier sees nothing more
    levels = [np.pad(cells, (0, steps - len(cells)), mode="edge") for cells in visited]
    return scores, {"untrained_coverage": np.mean(levels, 0)}  # (T + 1,)


def _displacement(told: Trajectories) -> float:
    return float(np.median(metrics.displacement(told.coordinates, told.length, told.agents)))


def _cell(env: Any) -> float | None:
    coverage = env.metadata.get("coverage")
    return float(coverage["cell"]) if coverage else None


def _goal(env: Any, episodes: Trajectories) -> np.ndarray:
    """(R, D): the goal that stands in the observation; D = 0 where there is none, or one that moves within episodes.

    Success is then not about the place where the goal was first.
    """
    start, stop = env.metadata.get("obs_names", {}).get("goal", (0, 0))
    goals = episodes.obs[..., start:stop]  # (R, T + 1, D)
    goals = goals.reshape(*goals.shape[:2], math.prod(goals.shape[2:]))
    return goals[:, 0, :0] if (goals != goals[:, :1]).any() else goals[:, 0]


def _film(env: Any, rows: Sequence[int], most: int, notes: list[str]) -> Film | None:
    """At most ``most`` of the rows, evenly spaced. None, and a note of why, where nothing can be drawn."""
    rows = [row for row in rows if row < env.num_envs]
    chosen = [rows[i * len(rows) // most] for i in range(most)] if len(rows) > most else rows
    try:
        env.reset(seed=0)
        env.render_rows([0], width=32, height=32, camera="track")
    except Exception as error:  # whatever a renderer raises: no OpenGL, no display, no render mode
        notes.append(f"No video: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return None
    return Film(chosen, every=max(1, math.ceil(env.metadata["horizon"] / FRAMES)))


def _skill_arrays(told: Trajectories, deal: Deal, recognition: metrics.Recognition | None) -> dict[str, np.ndarray]:
    arrays = {
        "coordinates": told.coordinates.astype(np.float32),  # (R, T + 1, D)
        "length": told.length,  # (R,)
        "label": deal.labels,  # (R,) the skill's number; -1: in none of the classes
        "z": deal.z.cpu().numpy(),  # (R, ...)
        "spread": deal.spread,  # (48,) rows of the coverage and displacement measures
        "returns": told.returns,  # (R,)
        "agents": np.array(told.agents),  # coordinates are those of so many, side by side
    }
    if told.obs.ndim - (told.agents > 1) == 3:  # for whoever is to imitate them, states as they are
        shown = [int(np.flatnonzero(deal.labels == label)[0]) for label in np.unique(deal.labels[deal.labels >= 0])]
        shown = shown or [0]
        arrays["observations"] = told.obs[shown].astype(np.float32)  # (K, T + 1, obs_dim) a rollout of each skill
        arrays["observations_length"] = told.length[shown] + 1  # (K,)
    return arrays if recognition is None else arrays | {"confusion": recognition.confusion()}


def _control_arrays(used: Trajectories, goal: np.ndarray, radius: float) -> dict[str, np.ndarray]:
    return {
        "control_coordinates": used.coordinates.astype(np.float32),
        "control_length": used.length,
        "control_z": used.z,  # (R, T, ...)
        "control_returns": used.returns,
        "control_success": np.zeros(0, dtype=bool) if used.success is None else used.success,
        "control_goal": goal.astype(np.float32),
        "control_goal_radius": np.array(radius, np.float32),  # 0: not known
    }


def clear(folder: Path) -> None:
    """Takes away an earlier evaluation, so that nothing of it is shown beside the new numbers."""
    for pattern in ("metrics.json", "trajectories.npz", "figures/*.png", "videos/*.mp4", "videos/*.json"):
        for path in folder.glob(pattern):
            path.unlink()


def save(folder: Path, scores: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """trajectories.npz, then metrics.json: whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "trajectories.partial.npz", allow_pickle=False, **arrays)  # type: ignore[arg-type]
    os.replace(folder / "trajectories.partial.npz", folder / "trajectories.npz")
    (folder / "metrics.partial.json").write_text(json.dumps(scores, indent=2, sort_keys=True) + "\n")
    os.replace(folder / "metrics.partial.json", folder / "metrics.json")
