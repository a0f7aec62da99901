"""A run's pictures and videos as HTML that holds them: nothing is left to be loaded."""

import base64
import json
import struct
from html import escape
from pathlib import Path

from skillrl.evaluation.report_page import figure, films
from skillrl.evaluation.theme import DPI

CSS_PIXELS = 100 / DPI  # an inch of a figure is 100 pixels of the page


def image(run: Path, name: str, caption: str, alt: str) -> str:
    """A figure of the run; see ``picture``."""
    return picture(run / "eval" / "figures" / f"{name}.png", caption, alt)


def picture(light: Path, caption: str, alt: str) -> str:
    """A figure for both themes; '' if there is none. alt: what it shows, for those who do not see it."""
    if not light.is_file():
        return ""
    dark = light.with_suffix(".dark.png")
    source = ""
    if dark.is_file():
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark, "image/png")}">'
    width, height = struct.unpack(">II", light.read_bytes()[16:24])  # of the PNG's header: the page does not jump
    size = f'width="{round(width * CSS_PIXELS)}" height="{round(height * CSS_PIXELS)}"'
    shown = f'<img src="{_data(light, "image/png")}" {size} alt="{escape(alt)}">'
    return figure(f"<picture>{source}{shown}</picture>", caption)


def videos(run: Path, name: str, caption: str) -> str:
    """The videos that ``name.json`` lists, side by side; '' if there are none."""
    folder = run / "eval" / "videos"
    if not (folder / f"{name}.json").is_file():
        return ""
    about = json.loads((folder / f"{name}.json").read_text())
    found = [(video["name"], folder / Path(video["file"]).name) for video in about["videos"]]
    tiles = [(what, _data(file, "video/mp4")) for what, file in found if file.is_file()]
    return films(tiles, about["note"], caption) if tiles else ""


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
