"""Pictures of points in the plane, drawn with Pillow."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from envs.memory import Arrays
from envs.task import Area

_LIGHT, _DARK, _AXIS = (236, 240, 245), (222, 229, 237), (170, 180, 192)
_POINT, _START, _GOAL, _WALL = (222, 98, 38), (110, 120, 132), (46, 170, 96, 120), (88, 99, 114)
_SMOOTH = 3  # drawn larger and shrunk: Pillow draws without anti-aliasing


class PlanePicture:
    """An area with a checkered floor of 1 x 1 squares, the origin, walls, the point and its goal.

    Args:
        extent: half the side of what is shown around the centre.
        walls: rectangles (lowest and highest x, lowest and highest y).
        centre: of what is shown.
        corner: x and y at which squares of the floor meet.
    """

    def __init__(
        self,
        extent: float,
        walls: Sequence[Area] = (),
        centre: Sequence[float] | np.ndarray = (0, 0),
        corner: float = 0,
    ):
        self._extent, self._corner = extent, corner
        self._centre: np.ndarray | None = np.array(centre, dtype=np.float64)  # None: the point
        self._walls = walls
        self._goal_radius: float | None = None

    def show_goal(self, radius: float, area: Area) -> None:
        """Draws now["goal"] as a disc, and frames all of the area."""
        left, right, bottom, top = area
        self._centre = np.array([left + right, bottom + top]) / 2
        self._extent, self._goal_radius = 1.15 * max(right - left, top - bottom) / 2, radius

    def follow_goal(self, radius: float, extent: float) -> None:
        """Draws now["goal"] as a disc, and frames the point with `extent` around it."""
        self._centre, self._extent, self._goal_radius = None, extent, radius

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray:
        """now (xy, and goal where there is one) to (height, width, 3) uint8. Any camera looks from above."""
        centre = now["xy"] if self._centre is None else self._centre
        canvas = Canvas(width, height, extent=self._extent, centre=centre, corner=self._corner)
        for wall in self._walls:
            canvas.wall(wall)
        if self._goal_radius is not None:
            canvas.disc(now["goal"], self._goal_radius, _GOAL, _GOAL[:3])
        canvas.disc(np.zeros(2), canvas.small / 3, _START)
        canvas.disc(now["xy"], canvas.small, _POINT, (255, 255, 255))
        return canvas.finished()

    def close(self) -> None:
        pass


class Canvas:
    """A piece of the checkered floor, of 1 x 1 squares, seen from above, to draw on.

    Args:
        width, height: pixels. extent: half of the shorter side that is shown, around the centre.
        corner: x and y at which squares of the floor meet.
    """

    def __init__(
        self, width: int, height: int, *, extent: float, centre: Sequence[float] | np.ndarray, corner: float = 0
    ):
        self._size, self._mid_x, self._mid_y = (width, height), float(centre[0]), float(centre[1])
        self._wide, self._high = width * _SMOOTH, height * _SMOOTH
        self._scale = min(self._wide, self._high) / (2 * extent)  # pixels a unit
        self.small = min(self._wide, self._high) / 22 / self._scale  # a radius that can just be seen well
        middle = (self._mid_x - corner, self._mid_y - corner)
        self._image = Image.fromarray(_floor(self._wide, self._high, self._scale, middle))
        self._draw = ImageDraw.Draw(self._image, "RGBA")

    def disc(
        self, xy: np.ndarray, radius: float, fill: tuple[int, ...] | None, outline: tuple[int, ...] | None = None
    ) -> None:
        """radius: in the units of the floor."""
        (x, y), r = self._pixel(*xy), radius * self._scale
        self._draw.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=outline, width=2 * _SMOOTH)

    def wall(self, area: Area) -> None:
        left, right, bottom, top = area
        self._draw.rectangle([*self._pixel(left, top), *self._pixel(right, bottom)], fill=_WALL)

    def finished(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        return np.asarray(self._image.resize(self._size, Image.Resampling.LANCZOS))

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        return self._wide / 2 + (x - self._mid_x) * self._scale, self._high / 2 - (y - self._mid_y) * self._scale


def _floor(wide: int, high: int, scale: float, centre: tuple[float, float]) -> np.ndarray:
    x = (np.arange(wide) - wide / 2) / scale + centre[0]
    y = (high / 2 - np.arange(high)) / scale + centre[1]
    odd = (np.floor(x)[None, :] + np.floor(y)[:, None]) % 2 == 1
    floor = np.where(odd[..., None], np.array(_DARK, np.uint8), np.array(_LIGHT, np.uint8))  # (high, wide, 3)
    line = _SMOOTH / scale / 2
    floor[np.abs(y) <= line, :] = _AXIS
    floor[:, np.abs(x) <= line] = _AXIS
    return floor
