"""The figures of a study: its measure while learning, every seed and the mean, and beside it the score of each seed."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from judge import Found, scores_of
from seeds import Seed, complete
from study import Study

from skillrl.evaluation.curves import smooth
from skillrl.evaluation.statistics import mean_and_se
from skillrl.evaluation.theme import PALETTE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ink = dict[str, Any]
COLOURS = tuple(PALETTE[i] for i in (0, 2, 4, 1, 9, 3, 6, 8))
DASHED = (0, (4, 3))


def draw(study: Study, found: Found, folder: Path, name: str) -> list[Path]:
    """Writes ``name.png``, and ``name-with-pretraining.png`` where there is any; each for light and dark pages.

    Returns the light ones.
    """
    paths = {folder / f"{name}.png": False}
    if study.pretraining:
        paths[folder / f"{name}-with-pretraining.png"] = True
    for path, pretraining in paths.items():
        save(partial(learning_curves, study, found, pretraining), path)
    return list(paths)


def learning_curves(study: Study, found: Found, pretraining: bool, ink: Ink) -> "Figure":
    """pretraining: whether its env steps are counted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.4, 1))
    arms = {arm: list(seeds.values()) for arm, seeds in found.items() if seeds}
    colours = dict(zip(study.arms, COLOURS, strict=False))
    for arm, seeds in reversed(arms.items()):  # ours on top
        _curves(left, seeds, colours[arm], pretraining)
    for arm, seeds in arms.items():
        if not _learns(seeds):
            _level(left, seeds, colours[arm], pretraining)
    for i, arm in enumerate(arms):
        _points(right, i, scores_of(found[arm]), colours[arm], ink, mean=complete(study, found[arm]))
    if pretraining:
        _pretrained(left, [seed for seeds in arms.values() for seed in seeds], ink)
    _finish(study, left, right, pretraining, ink)
    _legend(figure, study, arms, colours)
    return figure


def mean_curve(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Of (steps, values) of the seeds: their mean, over the steps that all of them span."""
    low, high = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    return grid, np.mean([np.interp(grid, steps, values) for steps, values in curves], axis=0)


def _learns(seeds: Sequence[Seed]) -> bool:
    return any(len(seed.steps) for seed in seeds)


def _curves(axes: "Axes", seeds: Sequence[Seed], colour: str, pretraining: bool) -> None:
    curves = [
        (seed.steps + (seed.pretrain_env_steps if pretraining else 0), smooth(seed.curve))
        for seed in seeds
        if len(seed.steps)
    ]
    for steps, values in curves:
        axes.plot(steps, values, color=colour, lw=0.8, alpha=0.4, zorder=2)
    if curves:
        axes.plot(*mean_curve(curves), color=colour, lw=2.2, zorder=3, solid_capstyle="round")


def _level(axes: "Axes", seeds: Sequence[Seed], colour: str, pretraining: bool) -> None:
    """What learns nothing on the task has no curve: its evaluation is a dashed line, from when it could be had."""
    start = max(seed.pretrain_env_steps for seed in seeds) if pretraining else 0
    end = max([start + 1.0, *(float(np.asarray(line.get_xdata())[-1]) for line in axes.lines)])
    level = float(np.mean([seed.score for seed in seeds]))
    axes.plot([start, end], [level, level], color=colour, lw=1.4, ls=DASHED, zorder=1)


def _points(axes: "Axes", place: int, values: Sequence[float], colour: str, ink: Ink, mean: bool) -> None:
    """A dot for each seed, side by side; if wanted, their mean with its standard error."""
    offsets = np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else np.zeros(1)
    axes.scatter(place + offsets, values, s=16, color=colour, alpha=0.75, linewidths=0, zorder=3, clip_on=False)
    if mean:
        middle, se = mean_and_se(values)
        axes.plot([place - 0.3, place + 0.3], [middle, middle], color=ink["text"], lw=1.6, zorder=4)
        axes.plot([place, place], [middle - se, middle + se], color=ink["text"], lw=1.0, zorder=4)


def _pretrained(axes: "Axes", seeds: Sequence[Seed], ink: Ink) -> None:
    """Where a pretraining ended."""
    for steps in sorted({seed.pretrain_env_steps for seed in seeds if len(seed.steps)} - {0}):
        axes.axvline(steps, color=ink["faint"], lw=0.8, ls=":", zorder=1)
        axes.annotate("pretraining ends", (steps, 1.0), xycoords=axes.get_xaxis_transform(), xytext=(-4, -2),
                      textcoords="offset points", ha="right", va="top", fontsize=8, color=ink["faint"])  # fmt: skip


def _finish(study: Study, left: "Axes", right: "Axes", pretraining: bool, ink: Ink) -> None:
    from matplotlib.ticker import EngFormatter, PercentFormatter

    left.set(xlabel="env steps, pretraining counted" if pretraining else "env steps on the task")
    left.set_xlim(left=0)
    left.xaxis.set_major_formatter(EngFormatter(sep=""))
    if study.measure.share:
        left.set_ylim(-0.03, 1.03)
        left.yaxis.set_major_formatter(PercentFormatter(1.0))
    right.set_xticks([])
    right.margins(x=0.12)
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    what = study.measure.short.capitalize()
    titles = (f"{what} in training", "Last tenth" if study.last_tenth else "Evaluation")
    for axes, title in zip((left, right), titles, strict=True):
        axes.grid(axis="x", visible=False)
        axes.set_title(title, loc="left", fontsize=10, color=ink["text"])


def _legend(figure: "Figure", study: Study, arms: Mapping[str, Sequence[Seed]], colours: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    lines = [
        Line2D([], [], color=colours[arm], lw=2.2 if _learns(seeds) else 1.4, ls="-" if _learns(seeds) else DASHED)
        for arm, seeds in arms.items()
    ]
    titles = [study.arms[arm].title for arm in arms]
    figure.legend(lines, titles, loc="outside lower left", ncols=2, frameon=False, fontsize=8.5, handlelength=1.8)
