"""Pictures of a point in the plane, drawn with Pillow."""

import numpy as np
from PIL import Image, ImageDraw

from envs.memory import Arrays

_LIGHT, _DARK, _AXIS = (236, 240, 245), (222, 229, 237), (170, 180, 192)
_POINT, _START, _GOAL = (222, 98, 38), (110, 120, 132), (46, 170, 96, 120)
_SMOOTH = 3  # drawn larger and shrunk: Pillow draws without anti-aliasing


class PlanePicture:
    """The square [-extent, extent]^2 with a checkered floor of 1 x 1 squares, the origin, the point and its goal."""

    def __init__(self, extent: float):
        self._extent = extent
        self._goal_radius: float | None = None

    def show_goal(self, distance: float, radius: float) -> None:
        """Draws now["goal"] as a disc, and frames the start with all goals that are `distance` away."""
        self._extent, self._goal_radius = 1.15 * (distance + radius), radius

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray:
        """now (xy, and goal where there is one) to (height, width, 3) uint8. Any camera looks from above."""
        wide, high = width * _SMOOTH, height * _SMOOTH
        scale = min(wide, high) / (2 * self._extent)  # pixels a unit
        image = Image.fromarray(self._floor(wide, high, scale))
        draw = ImageDraw.Draw(image, "RGBA")

        def disc(xy: np.ndarray, radius: float, fill: tuple[int, ...], outline: tuple[int, ...] | None = None) -> None:
            x, y = wide / 2 + xy[0] * scale, high / 2 - xy[1] * scale
            draw.ellipse(
                [x - radius, y - radius, x + radius, y + radius], fill=fill, outline=outline, width=2 * _SMOOTH
            )

        small = min(wide, high) / 22
        if self._goal_radius is not None:
            disc(now["goal"], self._goal_radius * scale, _GOAL, _GOAL[:3])
        disc(np.zeros(2), small / 3, _START)
        disc(now["xy"], small, _POINT, (255, 255, 255))
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))

    def close(self) -> None:
        pass

    def _floor(self, wide: int, high: int, scale: float) -> np.ndarray:
        x = (np.arange(wide) - wide / 2) / scale
        y = (high / 2 - np.arange(high)) / scale
        odd = (np.floor(x)[None, :] + np.floor(y)[:, None]) % 2 == 1
        floor = np.where(odd[..., None], np.array(_DARK, np.uint8), np.array(_LIGHT, np.uint8))  # (high, wide, 3)
        line = _SMOOTH / scale / 2
        floor[np.abs(y) <= line, :] = _AXIS
        floor[:, np.abs(x) <= line] = _AXIS
        return floor
