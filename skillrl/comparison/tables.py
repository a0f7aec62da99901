"""The numbers of a comparison, as text: each seed's, and the interquartile mean where it is allowed."""

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from skillrl.comparison.figures import undrawn
from skillrl.comparison.groups import Comparison, Group
from skillrl.comparison.markdown import picture, table
from skillrl.evaluation.statistics import FEWEST_SEEDS, estimate

COLUMNS = ("group", "name", "seed", "metric", "value", "run")
RULE = (
    f"From {FEWEST_SEEDS} seeds on: interquartile mean [95 % bootstrap interval]. With fewer, each seed's value and "
    "nothing more."
)


def told(value: float | np.ndarray, digits: int = 3) -> str:
    number = float(value)
    return f"{number:.0f}" if 1e3 <= abs(number) < 1e7 else f"{number:.{digits}g}"


def estimated(points: Sequence[float]) -> str:
    """``0.41 [0.17, 0.77]``; empty where that is not allowed."""
    found = estimate(np.array(points))
    return "" if found is None else f"{told(found.iqm)} [{told(found.low)}, {told(found.high)}]"


def cell(points: Sequence[float]) -> str:
    """The estimate, or else the seeds' values."""
    return estimated(points) or " ".join(map(told, points)) or "–"


def heading(comparison: Comparison) -> str:
    """``12 runs in 3 groups``."""
    runs, groups = sum(len(group.seeds) for group in comparison.groups), len(comparison.groups)
    out = f", {len(comparison.left_out)} left out" if comparison.left_out else ""
    return f"{runs} run{'s' * (runs != 1)} in {groups} group{'s' * (groups != 1)}{out}"


def summary(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of the headline's metrics, a row for each group."""
    head = ["", "group", "seeds", *(name.replace("_", " ") for name in comparison.headline)]
    rows = [
        [group.letter, group.name, str(len(group.seeds)), *(cell(group.points(m)) for m in comparison.headline)]
        for group in comparison.groups
    ]
    return head, rows


def each_seed(comparison: Comparison, metric: str) -> tuple[list[str], list[list[str]]]:
    """Head and rows of one metric's table: each seed of each group."""
    head = ["", "group", *(f"seed {seed}" for seed in comparison.seeds), "IQM [95 %]"]
    return head, [[group.letter, group.name, *_seeds(group, comparison.seeds, metric)] for group in comparison.groups]


def _seeds(group: Group, seeds: Sequence[int], metric: str) -> Iterator[str]:
    for seed in seeds:
        run = group.seeds.get(seed)
        yield "missing" if run is None else told(run.scores[metric], 4) if metric in run.scores else "–"
    yield estimated(group.points(metric))


# ---- for the terminal, for pages, for programs


def text(comparison: Comparison, width: int | None = None) -> str:
    """Groups, the headline's numbers in tables that are at most ``width`` wide where that can be, notes."""
    head, rows = summary(comparison)
    parts = [heading(comparison), _columns([head[:3], *(row[:3] for row in rows)], words=2)]
    blocks: list[list[int]] = [[]]
    for column in range(3, len(head)):
        grown = [*blocks[-1], column]
        if blocks[-1] and width and len(_block(head, rows, grown).splitlines()[0]) > width:
            grown = [column]
            blocks.append(grown)
        blocks[-1] = grown
    parts += [_block(head, rows, block) for block in blocks if block]
    return "\n\n".join([*parts, "\n".join(notes(comparison))]).rstrip()


def _block(head: list[str], rows: list[list[str]], columns: list[int]) -> str:
    return _columns([[line[i] for i in [0, *columns]] for line in [head, *rows]], words=1)


def _columns(lines: Sequence[Sequence[str]], words: int) -> str:
    """In columns, all but the first ``words`` of them to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = [
        [x.ljust(w) if i < words else x.rjust(w) for i, (x, w) in enumerate(zip(line, widths))] for line in lines
    ]
    return "\n".join("  ".join(line) for line in aligned)


def notes(comparison: Comparison) -> list[str]:
    """All that a reader must know beside the numbers."""
    return [*comparison.notes(), *undrawn(comparison)]


def markdown(comparison: Comparison, pattern: str, figures: dict[str, str]) -> str:
    """The whole page. figures: stem → caption."""
    remarks = "\n".join(f"- {_safe(note)}" for note in notes(comparison))
    parts = [f"# Comparison: {heading(comparison)}", f"    python eval.py runs='{pattern}'", remarks, RULE]
    parts.append(_table(*summary(comparison)))
    for stem, caption in figures.items():
        parts += [picture(f"figures/{stem}", caption), caption]
    parts.append("## Every seed")
    for metric in comparison.metrics:
        parts += [f"### {metric}", _table(*each_seed(comparison, metric))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(head: list[str], rows: list[list[str]]) -> str:
    return table(head, [[_safe(one) for one in row] for row in rows])


def _safe(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;")


def tidy(comparison: Comparison) -> str:
    """CSV, one row for each value: its columns are ``COLUMNS``, and numbers stand as they were measured."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(COLUMNS)
    for group in comparison.groups:
        for seed, run in group.seeds.items():
            for metric in comparison.metrics:
                if metric in run.scores:
                    row = (group.letter, group.name, seed, metric, repr(run.scores[metric]), run.folder)
                    writer.writerow(row)
    return written.getvalue()
