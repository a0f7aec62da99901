"""Comparing runs: groups by config, what each seed scored, and what may be said of several seeds."""

import os
from pathlib import Path

from skillrl.atomic import write
from skillrl.comparison.figures import all_figures
from skillrl.comparison.groups import Comparison, compare
from skillrl.comparison.page import html
from skillrl.comparison.tables import markdown, text, tidy
from skillrl.errors import BadInput
from skillrl.evaluation.theme import save
from skillrl.record import is_run

__all__ = ["Comparison", "compare", "text", "write_comparison"]


def write_comparison(pattern: str, out: str | Path | None = None) -> tuple[Comparison, Path]:
    """Compare the runs that a glob finds; comparison.md, .csv, .html and figures/ go to ``out``, which is returned too.

    out: by default ``comparison`` beside the runs. Errors: BadInput where nothing can be compared, or ``out`` is a run.
    """
    comparison, folders = compare(pattern)
    folder = Path(out) if out is not None else Path(os.path.commonpath([run.parent for run in folders])) / "comparison"
    if is_run(folder):
        raise BadInput(f"out={folder} is a run: name another folder for the comparison")
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for stem, (draw, caption) in all_figures(comparison).items():
        save(draw, folder / "figures" / f"{stem}.png")
        captions[stem] = caption
    write(folder / "comparison.csv", tidy(comparison))
    write(folder / "comparison.md", markdown(comparison, pattern, captions))
    write(folder / "comparison.html", html(comparison, pattern, captions, folder))
    return comparison, folder
