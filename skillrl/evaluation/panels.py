"""Small figures of one quantity each, of one size: a page lays them out side by side, or below each other."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skillrl.evaluation.curves import smooth
from skillrl.evaluation.theme import blank, skill_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL, LARGE = (3.3, 2.1), (4.0, 2.5)  # inches
DASHED = (0, (4, 3))


def curve(
    name: str,
    steps: np.ndarray,
    values: np.ndarray,
    ink: dict[str, Any],
    *,
    over: str = "env steps",
    levels: Sequence[tuple[str, float]] = (),
    size: tuple[float, float] = SMALL,
) -> "Figure":
    """A column of metrics.csv over env steps, or what else the steps are: faint as logged, strong its running mean.

    levels: (what, value) of what did not learn; each is a dashed line with its name on it.
    """
    from matplotlib.ticker import EngFormatter

    figure, axes = blank(*size)
    axes.plot(steps, values, color=ink["accent"], alpha=0.3, lw=1)
    axes.plot(steps, smooth(values), color=ink["accent"], lw=1.8)
    for what, value in levels:
        axes.axhline(value, color=ink["text"], lw=1.2, linestyle=DASHED)
        axes.annotate(what, (0.01, value), xycoords=("axes fraction", "data"), xytext=(0, 3),
                      textcoords="offset points", fontsize=8.5, color=ink["text"])  # fmt: skip
    axes.set_title(name, loc="left", fontsize=10, color=ink["text"])
    axes.set_xlabel(over)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    _few_ticks(axes)
    return figure


def coverage(visited: np.ndarray, untrained: np.ndarray | None, ink: dict[str, Any]) -> "Figure":
    """(T + 1,) distinct cells seen so far at each env step of the episodes, and by untrained networks."""
    figure, axes = blank(*LARGE)
    beaten = untrained is not None and untrained[-1] > visited[-1]
    if untrained is not None:
        axes.plot(untrained, color=ink["faint"], lw=1.6, linestyle=DASHED)
        at_the_bottom = untrained[-1] < visited[-1] / 5  # below it there is the axis, and much room above
        _name_end(axes, untrained, "untrained", ink["faint"], above=beaten or bool(at_the_bottom))
    axes.plot(visited, color=ink["accent"], lw=2)
    _name_end(axes, visited, "these skills", ink["accent"], above=not beaten)
    axes.set(xlabel="env step of the episode", ylabel="distinct cells visited", ylim=(0, None), xlim=(0, None))
    _few_ticks(axes, whole=True)
    return figure


def returns(earned: np.ndarray, labels: np.ndarray, ink: dict[str, Any]) -> "Figure":
    """The env's own reward, summed over each rollout (R,): a dot a rollout, a bar at the mean of each skill."""
    count = int(labels.max()) + 1
    figure, axes = blank(*LARGE)
    colours = np.array(skill_colours(count))
    axes.axhline(0, color=ink["faint"], lw=0.8, zorder=1)
    axes.scatter(labels, earned, s=13, c=colours[labels], alpha=0.7, linewidths=0, zorder=3)
    means = np.array([earned[labels == skill].mean() for skill in range(count)])
    axes.hlines(means, np.arange(count) - 0.35, np.arange(count) + 0.35, color=ink["text"], lw=1.6, zorder=4)
    axes.set(xlabel="skill", ylabel="return", xlim=(-0.7, count - 0.3))
    axes.grid(axis="x", visible=False)
    _few_ticks(axes)
    axes.set_xticks(range(0, count, math.ceil(count / 16)))
    return figure


def imitation(log_q: np.ndarray, distance: np.ndarray, chosen: int, ink: dict[str, Any]) -> "Figure":
    """For each skill, (K,) each, how well it explains the expert's observations, and how far from the expert it is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2 * SMALL[0], SMALL[1]), layout="constrained")
    skills = np.arange(len(log_q))
    colours = [ink["accent"] if skill == chosen else ink["faint"] for skill in skills]
    shown = {"mean log q(z | s) along the expert": log_q, "distance to the expert": distance}
    for axes, (title, values) in zip(figure.subplots(1, 2), shown.items()):
        axes.bar(skills, values, color=colours)
        axes.set_title(title, loc="left", fontsize=10, color=ink["text"])
        axes.set_xlabel("skill")
        _few_ticks(axes)
        axes.set_xticks(skills[:: math.ceil(len(skills) / 10)])
    return figure


def foreseen(error: np.ndarray, of_mean: np.ndarray, known: int, ink: dict[str, Any]) -> "Figure":
    """(T,) squared errors along an episode, of a world model that sees ``known`` moments, and of the mean."""
    figure, axes = blank(*LARGE)
    axes.axvspan(0, known - 1, color=ink["line"], alpha=0.6, lw=0)
    axes.plot(of_mean, color=ink["faint"], lw=1.6, linestyle=DASHED, label="mean observation")
    axes.plot(error, color=ink["accent"], lw=2, label="world model")
    axes.legend(frameon=False, fontsize=8.5, loc="best")
    axes.set(xlabel="env step of the episode (shaded: seen)", ylabel="squared error", ylim=(0, None), xlim=(0, None))
    _few_ticks(axes)
    return figure


def foreseen_pictures(
    obs: np.ndarray, model: np.ndarray, steps: np.ndarray, known: int, ink: dict[str, Any]
) -> "Figure":
    """Pictures (K, T, H, W, C) of K episodes over what the model makes of them, at some of the steps that were."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    last = int(steps.max()) - 1
    ahead = np.unique(np.linspace(known, last, min(8, last - known + 1)).round().astype(int))
    times = [*np.unique([0, known - 1]).tolist(), *ahead.tolist()]
    tight = ConstrainedLayoutEngine(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=(0.84 * len(times) + 0.6, 0.84 * 2 * len(obs) + 0.5), layout=tight)
    grid = figure.subplots(2 * len(obs), len(times), squeeze=False)
    for row, axes_of_row in enumerate(grid):
        pictures = (obs, model)[row % 2][row // 2]
        for axes, time in zip(axes_of_row, times, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if time < steps[row // 2]:
                picture = pictures[time]
                axes.imshow(picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=255)
            if row == 0:
                axes.set_title(f"seen {time}" if time < known else f"{time}", fontsize=8.5, color=ink["faint"])
        axes_of_row[0].set_ylabel(("was", "model")[row % 2], fontsize=8.5, color=ink["faint"])
    return figure


def foreseen_paths(obs: np.ndarray, model: np.ndarray, steps: np.ndarray, known: int, ink: dict[str, Any]) -> "Figure":
    """Coordinates (K, T, 1 or 2) of K episodes, and dashed what the model makes of them from the last seen one on."""
    figure, axes = blank(4.0, 3.0)
    for true, told, colour, length in zip(obs, model, skill_colours(len(obs)), steps.tolist(), strict=True):
        time = np.arange(length)
        for path, style in ((true[:length], "-"), (told[:length], DASHED)):
            points = path if path.shape[-1] == 2 else np.column_stack([time, path])
            shown = points if style == "-" else points[known - 1 :]
            axes.plot(*shown.T, color=colour, lw=1.6, linestyle=style)
        start = true[known - 1] if true.shape[-1] == 2 else np.array([known - 1, true[known - 1, 0]])
        axes.plot(*start, "o", ms=5, color=colour)
    if obs.shape[-1] == 2:
        axes.set_aspect("equal", adjustable="datalim")
    names = ("x", "y") if obs.shape[-1] == 2 else ("env step", "x")
    axes.set(xlabel=names[0], ylabel=names[1])
    _few_ticks(axes)
    return figure


def _name_end(axes: "Axes", line: np.ndarray, name: str, colour: str, *, above: bool) -> None:
    axes.annotate(f"{name}: {line[-1]:.0f}", (len(line) - 1, line[-1]), xytext=(0, 4 if above else -4), ha="right",
                  textcoords="offset points", va="bottom" if above else "top", fontsize=9, color=colour)  # fmt: skip


def _few_ticks(axes: "Axes", *, whole: bool = False) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(4, integer=whole))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=whole))
    axes.grid(axis="x", visible=False)
