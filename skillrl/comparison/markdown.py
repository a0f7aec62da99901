"""Pieces of a Markdown page."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def picture(stem: str, alt: str) -> str:
    """For light and for dark pages: ``stem.png`` and ``stem.dark.png``."""
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{stem}.dark.png">'
    return f'<picture>\n  {dark}\n  <img src="{stem}.png" alt="{alt}">\n</picture>'
