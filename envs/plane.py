"""Pictures of a point in the plane, drawn with Pillow."""

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
        mid_x, mid_y = now["xy"] if self._centre is None else self._centre
        wide, high = width * _SMOOTH, height * _SMOOTH
        scale = min(wide, high) / (2 * self._extent)  # pixels a unit
        image = Image.fromarray(_floor(wide, high, scale, (mid_x - self._corner, mid_y - self._corner)))
        draw = ImageDraw.Draw(image, "RGBA")

        def disc(xy: np.ndarray, radius: float, fill: tuple[int, ...], outline: tuple[int, ...] | None = None) -> None:
            x, y = wide / 2 + (xy[0] - mid_x) * scale, high / 2 - (xy[1] - mid_y) * scale
            draw.ellipse(
                [x - radius, y - radius, x + radius, y + radius], fill=fill, outline=outline, width=2 * _SMOOTH
            )

        for left, right, bottom, top in self._walls:
            x, y = wide / 2 + (left - mid_x) * scale, high / 2 - (top - mid_y) * scale
            draw.rectangle([x, y, x + (right - left) * scale, y + (top - bottom) * scale], fill=_WALL)
        small = min(wide, high) / 22
        if self._goal_radius is not None:
            disc(now["goal"], self._goal_radius * scale, _GOAL, _GOAL[:3])
        disc(np.zeros(2), small / 3, _START)
        disc(now["xy"], small, _POINT, (255, 255, 255))
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))

    def close(self) -> None:
        pass


def _floor(wide: int, high: int, scale: float, centre: tuple[float, float]) -> np.ndarray:
    x = (np.arange(wide) - wide / 2) / scale + centre[0]
    y = (high / 2 - np.arange(high)) / scale + centre[1]
    odd = (np.floor(x)[None, :] + np.floor(y)[:, None]) % 2 == 1
    floor = np.where(odd[..., None], np.array(_DARK, np.uint8), np.array(_LIGHT, np.uint8))  # (high, wide, 3)
    line = _SMOOTH / scale / 2
    floor[np.abs(y) <= line, :] = _AXIS
    floor[:, np.abs(x) <= line] = _AXIS
    return floor
