"""Videos that browsers play: the skills side by side, and a controller's episodes with the skill in use."""

import json
import math
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skillrl.evaluation.figures import moving
from skillrl.evaluation.metrics import of_each
from skillrl.evaluation.rollouts import Film, Trajectories
from skillrl.evaluation.theme import BAD, GOOD, skill_colours

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

BAR, GAP, MACROBLOCK, MAP = 26, 4, 16, 64  # pixels: label bar, space between tiles, H.264's unit, side of the inset map
INK, GROUND, QUIET = "#f4f6f8", "#14171c", "#aab3bf"
SLOWEST, FASTEST = 12.0, 30.0  # frames a second: below it stutters, above it costs bytes
SHORTEST, STEPWISE = 4.0, 4.0  # seconds that an episode lasts at least, unless that is below so many frames a second
HOLD = 0.8  # seconds for which the last frames stand


def skill_video(told: Trajectories, film: Film, path: Path, *, fps: float) -> None:
    """A tile for each filmed row, named "skill i" in the skill's colour, with a small map of where it has been."""
    # Rows are dealt skill 0, 1, ..., K - 1 first, so a filmed row's number is its skill's.
    colours = skill_colours(max(film.rows) + 1)
    teams = of_each(told.coordinates, told.agents)  # (agents, R, T + 1, D)
    limits = _limits(moving(teams[:, list(film.rows)]))
    tiles, told_of = [], list[str]()
    for row in film.rows:
        length, shots = int(told.length[row]), told.frames[row]
        names = [f"skill {row}" if len(film.rows) > 1 else "policy"] * len(shots)
        trail = _trail(teams[:, row, : length + 1], [colours[row]] * length, film.every, limits)
        ending = "fell" if told.terminated[row] else ""
        tiles.append(_tiles(shots, names, [colours[row]] * len(shots), trail, ending, QUIET))
        told_of.append(", ".join(filter(None, [names[0], ending])))
    _write(path, told_of, tiles, fps, film.every)


def control_video(used: Trajectories, film: Film, path: Path, *, fps: float, goal: np.ndarray) -> None:
    """A tile for each filmed episode: the current skill's name and colour, and at the end how it went.

    goal: (R, D), D = 0 without one. It is marked on the map.
    """
    discrete = used.z.ndim == 2 and np.issubdtype(used.z.dtype, np.integer)
    colours = skill_colours(int(used.z.max()) + 1 if discrete else 1)
    teams = of_each(used.coordinates, used.agents)  # (agents, R, T + 1, D)
    places = moving(teams[:, list(film.rows)])
    marked = goal.shape[-1] == places.shape[-1]
    goals = np.broadcast_to(goal[list(film.rows), None], (used.agents, len(film.rows), 1, goal.shape[-1]))
    limits = _limits(np.concatenate([places, goals], 2) if marked else places)
    tiles, told_of = [], list[str]()
    for row in film.rows:
        length, shots = int(used.length[row]), used.frames[row]
        skills = used.z[row, :length] if discrete else np.zeros(length, dtype=int)
        shown = skills[:: film.every][: len(shots)]
        names = [f"skill {i}" if discrete else _vector(used.z[row, k * film.every]) for k, i in enumerate(shown)]
        taken = [colours[i] for i in skills]
        aim = goal[row] if marked else None
        trail = _trail(teams[:, row, : length + 1], taken, film.every, limits, aim)
        ending, colour = _outcome(used, row)
        tiles.append(_tiles(shots, names, [colours[i] for i in shown], trail, ending, colour))
        told_of.append(f"episode {len(tiles)}: {ending} after {length} env steps")
    _write(path, told_of, tiles, fps, film.every)


def _outcome(used: Trajectories, row: int) -> tuple[str, str]:
    if used.success is not None:
        return ("success", GOOD) if used.success[row] else ("missed", BAD)
    return f"return {used.returns[row]:.1f}", QUIET


def _vector(z: np.ndarray) -> str:
    return "z = " + " ".join(f"{value:+.1f}" for value in z.reshape(-1)[:3]) + (" …" if z.size > 3 else "")


def _limits(coordinates: np.ndarray) -> tuple[np.ndarray, float] | None:
    """The square that shows every path (..., 2), (centre, half side); None for bodies that do not move in the plane."""
    if coordinates.shape[-1] != 2:
        return None
    low, high = (ends(coordinates.reshape(-1, 2), 0) for ends in (np.min, np.max))
    return (low + high) / 2, 0.55 * max(float((high - low).max()), 1e-3)


def _trail(
    paths: np.ndarray,
    colours: Sequence[str],
    every: int,
    limits: tuple[np.ndarray, float] | None,
    goal: np.ndarray | None = None,
) -> list[np.ndarray]:
    """One inset map (MAP, MAP, 4) uint8 for every filmed step: the paths so far, (agents, t + 1, 2), each step in its
    skill's colour."""
    from PIL import Image, ImageDraw

    if limits is None:
        return []
    fine = 3 * MAP  # drawn larger and shrunk: Pillow's lines are not smooth
    centre, half = limits

    def pixel(place: np.ndarray) -> np.ndarray:
        return ((place - centre) / half * [1, -1] + 1) / 2 * (fine - 12) + 6

    spots = pixel(paths)  # (agents, t + 1, 2)
    image = Image.new("RGBA", (fine, fine), (20, 23, 28, 150))
    draw, maps = ImageDraw.Draw(image), []
    if goal is not None:
        x, y = pixel(goal)
        draw.ellipse([x - 12, y - 12, x + 12, y + 12], outline=GOOD, width=5)
    for step, colour in enumerate(colours):
        if step % every == 0:
            now = image.copy()
            for x, y in spots[:, step]:
                ImageDraw.Draw(now).ellipse([x - 6, y - 6, x + 6, y + 6], fill=colour, outline=INK, width=2)
            maps.append(np.asarray(now.resize((MAP, MAP), Image.Resampling.LANCZOS)))
        for path in spots:
            draw.line([tuple(path[step]), tuple(path[step + 1])], fill=colour, width=5)
    return maps


def _tiles(
    shots: Sequence[np.ndarray],
    names: Sequence[str],
    colours: Sequence[str],
    trail: Sequence[np.ndarray],
    ending: str,
    ending_colour: str,
) -> list[np.ndarray]:
    """Each shot under its label bar; the last one says how it ended."""
    from PIL import Image, ImageDraw

    font, tiles = _font(15), []
    for i, shot in enumerate(shots):
        height, width = shot.shape[:2]
        tile = Image.new("RGB", (width, height + BAR), GROUND)
        tile.paste(Image.fromarray(shot), (0, BAR))
        draw = ImageDraw.Draw(tile)
        draw.rounded_rectangle([6, 7, 18, 19], radius=3, fill=colours[i])
        draw.text((25, BAR / 2), names[i], font=font, fill=INK, anchor="lm")
        if ending and i == len(shots) - 1:
            draw.text((width - 8, BAR / 2), ending, font=font, fill=ending_colour, anchor="rm")
        if trail:
            inset = Image.fromarray(trail[i])
            tile.paste(inset, (width - MAP - 4, height + BAR - MAP - 4), inset)
        tiles.append(np.asarray(tile))
    return tiles


def _write(path: Path, names: Sequence[str], tiles: Sequence[Sequence[np.ndarray]], fps: float, every: int) -> None:
    """All tiles in one picture, each tile alone (``skills-0.mp4``), and beside them what a page says of those.

    All are equally long: rows that ended keep their last tile. names: one a tile, for those who do not see it.
    """
    steps = max(len(tile) for tile in tiles)
    rate = pace(steps, fps, every)
    speed = rate * every / fps
    note = "" if abs(speed - 1) < 0.05 else f"{speed:.2g}× speed"
    frames = steps + round(HOLD * rate)
    lasting = [[tile[min(i, len(tile) - 1)] for i in range(frames)] for tile in tiles]  # (tiles, frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    _encode(path, (_grid(pictures, note) for pictures in zip(*lasting, strict=True)), rate)
    files = [path.with_stem(f"{path.stem}-{i}") for i in range(len(tiles))]
    for file, pictures in zip(files, lasting, strict=True):
        _encode(file, (_grid([picture], gap=0) for picture in pictures), rate)
    about = {"note": note, "videos": [{"file": file.name, "name": name} for file, name in zip(files, names)]}
    path.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")


def pace(steps: int, fps: float, every: int) -> float:
    """Frames a second: as in real time where that can be watched, and a short episode more slowly."""
    rate = float(np.clip(fps / every, SLOWEST, FASTEST))
    return min(rate, max(steps / SHORTEST, STEPWISE))


def _encode(path: Path, pictures: Iterable[np.ndarray], rate: float) -> None:
    """(H, W, 3) pictures, of sides that are multiples of 16, to H.264; whole or not at all."""
    import imageio_ffmpeg

    pictures = iter(pictures)
    first = next(pictures)
    height, width = first.shape[:2]
    settings: dict[str, Any] = {"codec": "libx264", "pix_fmt_out": "yuv420p", "macro_block_size": MACROBLOCK}
    options = ["-crf", "24", "-preset", "medium", "-threads", "1", "-movflags", "+faststart", "-bitexact"]
    partial = path.with_suffix(".partial.mp4")
    writer = imageio_ffmpeg.write_frames(
        str(partial),
        (width, height),
        fps=rate,
        quality=None,
        output_params=options,
        ffmpeg_log_level="error",
        **settings,
    )
    writer.send(None)
    for picture in chain([first], pictures):
        writer.send(np.ascontiguousarray(picture))
    writer.close()
    partial.replace(path)


def _grid(tiles: Sequence[np.ndarray], note: str = "", gap: int = GAP) -> np.ndarray:
    """(H, W, 3) with H and W multiples of 16: H.264 in 4:2:0 wants whole blocks, and browsers then crop nothing."""
    from PIL import Image, ImageColor, ImageDraw

    height, width = tiles[0].shape[:2]
    columns = columns_of(len(tiles))
    lines = math.ceil(len(tiles) / columns)
    foot = 22 if note else 0
    full_w = -(-(columns * (width + gap) + gap) // MACROBLOCK) * MACROBLOCK
    full_h = -(-(lines * (height + gap) + gap + foot) // MACROBLOCK) * MACROBLOCK
    picture = np.empty((full_h, full_w, 3), np.uint8)
    picture[:] = ImageColor.getrgb(GROUND)
    left, top = (full_w - columns * (width + gap) + gap) // 2, (full_h - foot - lines * (height + gap) + gap) // 2
    for i, tile in enumerate(tiles):
        y, x = top + i // columns * (height + gap), left + i % columns * (width + gap)
        picture[y : y + height, x : x + width] = tile
    if note:
        image = Image.fromarray(picture)
        ImageDraw.Draw(image).text((full_w - 10, full_h - foot / 2), note, font=_font(13), fill=QUIET, anchor="rm")
        picture = np.asarray(image)
    return picture


def columns_of(n: int) -> int:
    """Columns of a grid of ``n`` tiles that is wider than high, with as few empty places as possible."""
    if n <= 4:
        return n
    widest = min(n, max(2, math.ceil(math.sqrt(2 * n))))
    return min(range(math.ceil(math.sqrt(n)), widest + 1), key=lambda columns: (-n % columns, -columns))


def _font(size: int) -> "FreeTypeFont":
    """DejaVu Sans, which comes with matplotlib: the same letters on every machine."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
