"""The picture of skills at the top of the README, ``skills.png`` and ``skills.dark.png`` beside this file.

    python docs/picture/make.py outputs/...

Left, the paths of all evaluation rollouts of a run; right, the body as our renderer shows it, three times along the
first rollout of each skill. The paths are those in eval/trajectories.npz; the body is filmed by doing those rollouts
again, which must lead along the very same paths.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))  # train.py, wherever this is started from
if sys.platform == "linux":
    os.environ.setdefault("MUJOCO_GL", "egl")

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT, DPI = 8.8, 3.2, 200  # inches: as wide as a README is shown, at twice the pixels
SKILLS, MOMENTS = 8, (0.3, 0.6, 0.9)  # at most so many are filmed, at these parts of the episode
GROUND = {"light": "#ffffff", "dark": "#0d1117"}  # a page's on GitHub


def film(run: Path, arrays: Mapping[str, np.ndarray]) -> tuple[dict[int, list[np.ndarray]], list[str]]:
    """row → its frames, and when they were taken. Errors: ValueError if the paths are not those in ``arrays``."""
    from skillrl import skill_library
    from skillrl.evaluation.protocol import MAX_ROWS, Deal
    from skillrl.evaluation.rollouts import Film, rollouts
    from skillrl.record import read_config
    from skillrl.runtime import spawn_seeds
    from train import build

    config = read_config(run)
    policy = skill_library.load(config["skills"] or run).cpu()
    deal = Deal.of(policy.space)
    count = min(SKILLS, deal.num_skills)
    rows = [i * deal.num_skills // count for i in range(count)]
    with closing(build(config["env"] | {"num_envs": min(len(deal.z), MAX_ROWS), "workers": 0})) as env:
        horizon, fps = env.metadata["horizon"], env.metadata["render_fps"]
        every = max(1, horizon // 30)
        seed = spawn_seeds(config["seed"])["evaluation"]
        shots = Film(rows, every, width=220, height=220)
        told = rollouts(env, policy, deal.z[: env.num_envs], seed=seed, film=shots)
    if not np.allclose(told.coordinates[rows], arrays["coordinates"][rows], atol=1e-3):
        raise ValueError(f"{run}: its skills no longer go where eval/ says: python eval.py run={run}")
    at = [round(part * (horizon - 1)) // every for part in MOMENTS]
    frames = {row: [told.frames[row][min(i, len(told.frames[row]) - 1)] for i in at] for row in rows}
    return frames, [f"{i * every / fps:.0f} s" for i in at]


def draw(arrays: Mapping[str, np.ndarray], frames: Mapping[int, list[np.ndarray]], times: list[str],
         ink: Mapping[str, Any]) -> "Figure":  # fmt: skip
    """The whole picture."""
    from matplotlib.figure import Figure

    from skillrl.evaluation.theme import skill_colours

    colours = skill_colours(int(arrays["label"].max()) + 1)
    figure = Figure(figsize=(WIDTH, HEIGHT))
    _paths(figure.add_axes((0.2 / WIDTH, 0.0, (HEIGHT + 0.2) / WIDTH, 1.0)), arrays, colours, ink)
    lines, columns = -(-len(frames) // 2), 2
    top, side = 0.25, (HEIGHT - 0.25) / max(lines, 4)  # inches
    for i, (row, shots) in enumerate(frames.items()):
        line, column = i % lines, i // lines
        left = WIDTH - (columns - column) * (3 * side + 0.3) + 0.3
        bottom = HEIGHT - top - (line + 1) * side
        for j, shot in enumerate(shots):
            axes = figure.add_axes(
                ((left + j * side) / WIDTH, bottom / HEIGHT, 0.97 * side / WIDTH, 0.95 * side / HEIGHT)
            )
            axes.imshow(shot, interpolation="lanczos")
            axes.set_axis_off()
            if line == 0:
                axes.set_title(times[j], fontsize=7, color=ink["faint"], pad=3)
        figure.text((left - 0.07) / WIDTH, (bottom + 0.48 * side) / HEIGHT, str(row), color=colours[row], fontsize=12,
                    fontweight="bold", ha="right", va="center")  # fmt: skip
    return figure


def _paths(axes: "Axes", arrays: Mapping[str, np.ndarray], colours: list[str], ink: Mapping[str, Any]) -> None:
    """Every rollout in its skill's colour, and the skill's number where they end."""
    from matplotlib.collections import LineCollection

    ends: dict[int, list[np.ndarray]] = {}
    for row in np.random.default_rng(0).permutation(np.flatnonzero(arrays["label"] >= 0)):
        label, path = int(arrays["label"][row]), arrays["coordinates"][row, : arrays["length"][row] + 1]
        if path.shape[1] == 1:
            path = np.column_stack([np.arange(len(path)), path])  # a body on a line: x over time
        axes.add_collection(LineCollection([path], colors=[colours[label]], lw=1.3, alpha=0.7, capstyle="round"))
        axes.scatter(*path[-1], s=9, color=colours[label], linewidths=0, zorder=3)
        ends.setdefault(label, []).append(path[-1])
    axes.margins(0.08)
    axes.autoscale_view()
    axes.set_axis_off()
    if arrays["coordinates"].shape[-1] == 2:
        axes.set_aspect("equal", adjustable="datalim")
        axes.scatter(*np.median(arrays["coordinates"][:, 0], axis=0), s=30, color=ink["text"], zorder=5)
        _scale(axes, ink)
    middle = np.median([end for found in ends.values() for end in found], axis=0)
    for label, found in ends.items():
        end = np.median(found, axis=0)
        way = (end - middle) / (np.linalg.norm(end - middle) + 1e-9)
        axes.annotate(str(label), end, xytext=9 * way, textcoords="offset points", fontsize=12, fontweight="bold",
                      color=colours[label], ha="center", va="center", zorder=6)  # fmt: skip


def _scale(axes: "Axes", ink: Mapping[str, Any]) -> None:
    """A bar of one unit of the world, at the lower left."""
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    bar = AnchoredSizeBar(axes.transData, 1, "1 m", "lower left", frameon=False, color=ink["faint"], pad=1.2, sep=3)
    bar.txt_label._text.set(color=ink["faint"], fontsize=8)
    axes.add_artist(bar)


def main() -> int:
    """Both pictures, of the run that the command line names."""
    import matplotlib
    from PIL import Image

    from skillrl.evaluation.theme import INK

    if len(sys.argv) != 2 or not (Path(sys.argv[1]) / "eval" / "trajectories.npz").is_file():
        print("usage: python docs/picture/make.py RUN, where RUN is the folder of an evaluated run", file=sys.stderr)
        return 2
    run = Path(sys.argv[1])
    arrays = dict(np.load(run / "eval" / "trajectories.npz"))
    frames, times = film(run, arrays)
    for theme, ink in INK.items():
        path = HERE / ("skills.png" if theme == "light" else f"skills.{theme}.png")
        with matplotlib.rc_context({"font.family": "DejaVu Sans"}):
            draw(arrays, frames, times, ink).savefig(path, dpi=DPI, facecolor=GROUND[theme])
        with Image.open(path) as picture:  # 256 colours: a third of the bytes, and no eye sees it
            small = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
