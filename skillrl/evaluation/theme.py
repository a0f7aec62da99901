"""The look of all figures: their colours, on light and on dark pages."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Draw = Callable[[dict[str, Any]], Figure]

# Ten hues that stay apart on white and on black, also for most colour-blind readers (Observable 10).
PALETTE = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
)  # fmt: skip
INK = {
    "light": {
        "text": "#1f2933",
        "faint": "#7b8794",
        "line": "#dfe4ea",
        "accent": "#4269d0",
        "map": ("#ffffff", "#1d4ed8"),
    },
    "dark": {
        "text": "#e6eaf0",
        "faint": "#8a94a3",
        "line": "#39414d",
        "accent": "#8fb4ff",
        "map": ("#191d24", "#8fb4ff"),
    },
}
GOOD, BAD = "#2ea043", "#e5534b"
DPI = 170


def skill_colours(n: int) -> list[str]:
    """A colour for each skill, the same everywhere. Above ten, a circle of hues of equal lightness (OKLCH)."""
    return list(PALETTE[:n]) if n <= len(PALETTE) else [_oklch(0.72, 0.14, 2 * math.pi * i / n) for i in range(n)]


def save(draw: "Draw", path: Path) -> None:
    """Draws for both themes, on a transparent ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for theme, ink in INK.items():
        with _style(ink):
            figure = draw(ink)
            target = path if theme == "light" else path.with_suffix(".dark.png")
            figure.savefig(target, dpi=DPI, transparent=True, bbox_inches="tight", metadata={"Software": None})


def blank(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


@contextmanager
def _style(ink: dict[str, Any]) -> Iterator[None]:
    """One look for all figures. Figures are made without pyplot, so no window system is ever asked."""
    import matplotlib

    rc: Any = {
        "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": ink["faint"], "axes.labelcolor": ink["faint"], "xtick.color": ink["faint"],
        "ytick.color": ink["faint"], "text.color": ink["text"], "axes.grid": True, "grid.color": ink["line"],
        "grid.linewidth": 0.6, "axes.linewidth": 0.8, "axes.axisbelow": True, "figure.facecolor": "none",
        "axes.facecolor": "none",
    }  # fmt: skip
    with matplotlib.rc_context(rc):
        yield


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """sRGB hex of an OKLCH colour (Ottosson 2020)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    rgb = np.array(
        [[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
         [-0.0041960863, -0.7034186147, 1.7076147010]]
    ) @ (lms @ [lightness, a, b]) ** 3  # fmt: skip
    rgb = np.clip(rgb, 0, 1)
    srgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * value):02x}" for value in srgb.tolist())
