"""What the rounds of a benchmark say: medians, ratios within a round, goals."""

import statistics
from collections.abc import Sequence

from alternate import Benchmark, Column
from measured import Row


def values(rows: Sequence[Row], case: str, contender: str, key: str) -> dict[int, float]:
    """round → value."""
    chosen = (row for row in rows if row["case"] == case and row["contender"] == contender)
    return {int(row["round"]): row[key] for row in chosen if isinstance(row.get(key), float)}


def ratios(rows: Sequence[Row], case: str, first: str, other: str, key: str) -> list[float]:
    """first / other, for each round that both were measured in."""
    ours, theirs = values(rows, case, first, key), values(rows, case, other, key)
    return [ours[number] / theirs[number] for number in sorted(ours.keys() & theirs.keys())]


def table(benchmark: Benchmark, rows: Sequence[Row], case: str) -> tuple[list[str], list[list[str]]]:
    """Head and lines of one case: medians, and the first contender's value over each other's."""
    contenders, columns = benchmark.cases[case], benchmark.columns
    first, several = contenders[0].name, len(contenders) > 1
    lines = []
    for name in (contender.name for contender in contenders):
        of_columns = [values(rows, case, name, column.key).values() for column in columns]
        line = [c.form.format(statistics.median(found)) if found else "–" for c, found in zip(columns, of_columns)]
        found = ratios(rows, case, first, name, columns[0].key) if name != first else []
        compared = [f"{statistics.median(found):.2f}", f"{min(found):.2f} to {max(found):.2f}"] if found else ["", ""]
        lines.append([name, *line, *(compared if several else [])])
    compared = [f"{first} / it", "lowest to highest"] if several else []
    return ["", *(column.title for column in columns), *compared], lines


def each_round(benchmark: Benchmark, rows: Sequence[Row], case: str) -> tuple[list[str], list[list[str]]]:
    """Head and lines: every column of every contender, round by round."""
    pairs = [(column, contender.name) for column in benchmark.columns for contender in benchmark.cases[case]]
    found = [values(rows, case, name, column.key) for column, name in pairs]
    numbers = sorted({number for of_rounds in found for number in of_rounds})
    lines = [
        [str(number), *(c.form.format(of[number]) if number in of else "–" for (c, _), of in zip(pairs, found))]
        for number in numbers
    ]
    return [benchmark.rounds_are, *(f"{column.title}, {name}" for column, name in pairs)], lines


def goals(benchmark: Benchmark, rows: Sequence[Row], case: str) -> list[list[str]]:
    """What, median, goal and whether it is met, and the same of the case's limit, where it was measured: of the
    columns, then of the ratios."""
    (first, *others), columns = benchmark.cases[case], benchmark.columns
    key, title = columns[0].key, columns[0].title
    limit = next((o.name for o in others if o.limit), None)

    def of_column(name: str | None, column: Column) -> list[float]:
        return list(values(rows, case, name, column.key).values()) if name else []

    def over(name: str | None, other: str) -> list[float]:
        return ratios(rows, case, name, other, key) if name else []

    found = [(c.title, of_column(first.name, c), of_column(limit, c), c.goal) for c in columns]
    found += [
        (f"{title}, {first.name} / {o.name}", over(first.name, o.name), over(limit, o.name), o.goal) for o in others
    ]
    return [
        [f"{case}: {what}", _middle(of_rounds), goal.judge(statistics.median(of_rounds)), _middle(at_limit)]
        for what, of_rounds, at_limit, goal in found
        if goal and of_rounds
    ]


def _middle(of_rounds: list[float]) -> str:
    return f"{statistics.median(of_rounds):.2f}" if of_rounds else ""


def listing(benchmark: Benchmark, rows: Sequence[Row], case: str, at_most: int = 12) -> list[list[str]]:
    """The largest of the keys that are listed: name and median of the rounds that had it."""
    if benchmark.listed is None:
        return []
    start, first = benchmark.listed[0], benchmark.cases[case][0].name
    keys = dict.fromkeys(key for row in rows for key in row if key.startswith(start))
    found = {key.removeprefix(start): list(values(rows, case, first, key).values()) for key in keys}
    middles = {name: statistics.median(of_rounds) for name, of_rounds in found.items() if of_rounds}
    largest = sorted(middles, key=middles.__getitem__, reverse=True)[:at_most]
    return [[f"`{name}`", f"{middles[name]:.2f}"] for name in largest]
