"""``comparison.html``: a comparison on one self-contained page, in the look of a run's report."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from skillrl.comparison.groups import Comparison
from skillrl.comparison.tables import RULE, each_seed, heading, notes, summary
from skillrl.evaluation.embedded import picture
from skillrl.evaluation.report_page import folded, page, section


def html(comparison: Comparison, pattern: str, figures: dict[str, str], folder: Path) -> str:
    """The whole page. figures: stem → caption, of the pictures in ``folder/figures``."""
    images = {stem: picture(folder / "figures" / f"{stem}.png", caption, caption) for stem, caption in figures.items()}
    curves = "".join(image for stem, image in images.items() if stem.endswith("_curves"))
    remarks = "".join(f"<p class='note'>{escape(note)}</p>" for note in notes(comparison))
    seeds = "".join(folded(metric, table(*each_seed(comparison, metric))) for metric in comparison.metrics)
    parts = [
        ("scores", "Scores", RULE, remarks + table(*summary(comparison)) + images.get("scores", "")),
        ("learning", "Learning", "What was logged in training, over env steps.", curves),
        ("profiles", "Profiles", "How many of a group's runs do at least that well.", images.get("profiles", "")),
        ("seeds", "Every seed", "All numbers of the evaluations.", seeds),
    ]
    title = f"Comparison: {heading(comparison)}"
    command = f"python eval.py runs='{pattern}'"
    return page(
        f"{title}: skillrl",
        f"<header><h1>{escape(title)}</h1><p class='soft'><code>{escape(command)}</code></p></header>\n<main>\n"
        + "\n".join(section(*part) for part in parts if part[-1])
        + "\n</main>\n<footer>Made by skillrl from the runs' own files. Everything on this page is inside it.</footer>",
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Many columns: the first row is their names."""
    names = "".join(f"<th scope='col'>{escape(name)}</th>" for name in head)
    lines = "".join(f"<tr>{''.join(f'<td>{escape(value)}</td>' for value in row)}</tr>" for row in rows)
    return f"<div class='scroll' tabindex='0'><table><tr>{names}</tr>{lines}</table></div>"
