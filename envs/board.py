"""Pictures of games on a board of square cells, drawn with Pillow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from envs.memory import Arrays
from envs.task import Area

_LIGHT, _DARK, _WALL, _AROUND = (236, 240, 245), (226, 232, 240), (88, 99, 114), (206, 213, 222)
ORANGE, VIOLET, BLUE = (222, 98, 38), (140, 80, 170), (64, 105, 190)
_SMOOTH = 3  # drawn larger and shrunk: Pillow draws without anti-aliasing


@dataclass(frozen=True)
class Piece:
    """What stands on the board: middle, width and height in cells; ``round`` is a disc, else a bar."""

    x: float
    y: float
    width: float
    height: float
    colour: tuple[int, int, int]
    round: bool = True


class BoardPicture:
    """All of a board, from above.

    Args:
        columns, rows: of cells; cell (0, 0) is at the lower left, and its middle is the place (0, 0).
        walls: (columns, rows) bool, or None.
        pieces: what is to be drawn of one row's arrays.
    """

    def __init__(
        self, columns: int, rows: int, pieces: Callable[[Arrays], Sequence[Piece]], walls: np.ndarray | None = None
    ):
        self._size, self._pieces = (columns, rows), pieces
        self._walls = np.zeros((columns, rows), dtype=bool) if walls is None else walls

    def show_goal(self, radius: float, area: Area) -> None:
        raise NotImplementedError("a board has no goals")

    def follow_goal(self, radius: float, extent: float) -> None:
        raise NotImplementedError("a board has no goals")

    def frame(self, now: Arrays, *, width: int, height: int, camera: str) -> np.ndarray:
        """One row's arrays to (height, width, 3) uint8; any camera shows all of it."""
        columns, rows = self._size
        wide, high = width * _SMOOTH, height * _SMOOTH
        scale = min(wide / (columns + 0.6), high / (rows + 0.6))  # pixels a cell
        left, bottom = (wide - columns * scale) / 2, (high + rows * scale) / 2
        image = Image.new("RGB", (wide, high), _AROUND)
        draw = ImageDraw.Draw(image)

        def corners(x: float, y: float, across: float, along: float) -> list[float]:
            middle_x, middle_y = left + (x + 0.5) * scale, bottom - (y + 0.5) * scale
            half_x, half_y = across * scale / 2, along * scale / 2
            return [middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y]

        for x in range(columns):
            for y in range(rows):
                colour = _WALL if self._walls[x, y] else (_LIGHT, _DARK)[(x + y) % 2]
                draw.rectangle(corners(x, y, 1, 1), fill=colour)
        for piece in self._pieces(now):
            box = corners(piece.x, piece.y, piece.width, piece.height)
            (draw.ellipse if piece.round else draw.rectangle)(box, fill=piece.colour)
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))

    def close(self) -> None:
        pass
