"""The picture of a benchmark: a bar for each median, a dot for each round."""

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from alternate import Benchmark
from measured import Row
from tables import values

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(benchmark: Benchmark, rows: Sequence[Row], case: str) -> dict[str, list[float]]:
    """Label → values of all rounds."""
    contenders, first = benchmark.cases[case], benchmark.columns[0]
    if benchmark.drawn:
        of = {column.title: (contenders[0].name, column.key) for column in benchmark.columns}
        of = {title: (name, key) for title, (name, key) in of.items() if key in benchmark.drawn}
    else:
        of = {contender.name: (contender.name, first.key) for contender in contenders}
    found = {label: list(values(rows, case, *where).values()) for label, where in of.items()}
    return {label: of_rounds for label, of_rounds in found.items() if of_rounds}


def draw(benchmark: Benchmark, rows: Sequence[Row], ink: dict[str, Any]) -> "Figure":
    """A panel for each case, of one scale where they share a unit."""
    from matplotlib.figure import Figure

    panels = {case: bars(benchmark, rows, case) for case in benchmark.cases}
    heights = [len(panel) + 1 for panel in panels.values()]
    figure = Figure(figsize=(7.0, 0.32 * sum(heights) + 0.5), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)
    for axes, (case, panel) in zip(grid[:, 0], panels.items(), strict=True):
        for place, of_rounds in enumerate(panel.values()):
            ours = place == 0 or bool(benchmark.drawn)
            colour = ink["accent"] if ours else ink["faint"]
            axes.barh(place, statistics.median(of_rounds), height=0.62, color=colour, alpha=0.75)
            axes.plot(of_rounds, [place] * len(of_rounds), ".", color=ink["text"], markersize=3)
        axes.set_yticks(range(len(panel)), list(panel), color=ink["text"])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.set_title(case, loc="left", fontsize=9, color=ink["text"])
    titles = [column for column in benchmark.columns if not benchmark.drawn or column.key in benchmark.drawn]
    grid[-1, 0].set_xlabel("share of the time" if benchmark.drawn else titles[0].title)
    return figure
