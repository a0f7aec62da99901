"""The look of a report: one page that asks the network for nothing, in light and dark, on wide and narrow screens."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

PARTS = Path(__file__).parent / "page"

# The browser itself holds the page to it: nothing is loaded from anywhere.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(title: str, body: str) -> str:
    """A whole document; ``title`` is plain text, ``body`` HTML."""
    css, script = ((PARTS / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n{body}\n"
        f"<script>\n{script}</script>\n</body>\n</html>\n"
    )


def bar(sections: Sequence[tuple[str, str]]) -> str:
    """What stays in sight: links to the sections (id, title), and the button for all videos, which its script shows."""
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title in sections)
    button = '<button type="button" id="play" hidden>Play videos</button>'
    return f"<div class='bar'><div><nav aria-label='Contents'>{links}</nav>{button}</div></div>"


def card(title: str, number: str, unit: str, text: str, bars: Sequence[tuple[str, float, str]] = ()) -> str:
    """A headline number with what it means, and beside it the numbers to hold it against.

    bars: (name, share of the longest bar from 0 to 1, the value as text), the run's own first.
    """
    lines = "".join(
        f"<dt>{escape(name)}</dt><div class='track{' own' if i == 0 else ''}' aria-hidden='true'>"
        f"<i style='width:{100 * min(max(share, 0), 1):.1f}%'></i></div><dd>{escape(value)}</dd>"
        for i, (name, share, value) in enumerate(bars)
    )
    small = f" <small>{escape(unit)}</small>" if unit else ""
    head = f"<h3>{escape(title)}</h3><p class='number'>{escape(number)}{small}</p><p>{escape(text)}</p>"
    return (
        f"<li class='card wide'>{head}<dl class='bars'>{lines}</dl></li>" if lines else f"<li class='card'>{head}</li>"
    )


def section(name: str, title: str, text: str, content: str) -> str:
    """A part of the page that can be linked to."""
    return (
        f'<section id="{name}" aria-labelledby="{name}-title"><h2 id="{name}-title">{escape(title)}</h2>'
        f"<p>{escape(text)}</p>\n{content}</section>"
    )


def figure(content: str, caption: str) -> str:
    """``content`` is HTML, the caption plain text."""
    return f"<figure>{content}<figcaption>{escape(caption)}</figcaption></figure>"


def films(videos: Sequence[tuple[str, str]], note: str, caption: str) -> str:
    """Videos (name, address) that play together, with one slider for their time."""
    tiles = "".join(
        f'<video muted loop playsinline controls preload="auto" aria-label="{escape(name)}" src="{address}"></video>'
        for name, address in videos
    )
    slider = f'<input type="range" min="0" max="1" step="any" value="0" aria-label="Time. {escape(caption)}">'
    time = f"<div class='time' hidden>{slider}<span>{escape(note)}</span></div>"
    words = f"<figcaption>{escape(caption)}</figcaption>"
    return f"<figure class='films'><div class='tiles'>{tiles}</div>{time}{words}</figure>"


def table(rows: Sequence[tuple[str, str]], *, long: bool = False) -> str:
    """Two columns: name and value. long: values may be broken anywhere, others stand on one line."""
    value = "" if long else " class='value'"
    lines = "".join(
        f"<tr><th scope='row'>{escape(name)}</th><td{value}>{escape(text)}</td></tr>" for name, text in rows
    )
    return f"<div class='scroll'><table{' class=long' if long else ''}><tbody>{lines}</tbody></table></div>"


def skill_table(heads: Sequence[str], rows: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """A line a skill: (name, its colour, values under ``heads``)."""
    head = "".join(f"<th scope='col' class='value'>{escape(name)}</th>" for name in heads)
    lines = "".join(
        f"<tr><th scope='row'><span class='dot' style='background:{escape(colour)}'></span>{escape(name)}</th>"
        + "".join(f"<td class='value'>{escape(value)}</td>" for value in values)
        + "</tr>"
        for name, colour, values in rows
    )
    top = f"<thead><tr><th scope='col'>skill</th>{head}</tr></thead>"
    # What scrolls can be reached with the keyboard, or its right-hand side is out of reach there.
    return (
        "<div class='scroll' tabindex='0' role='region' aria-label='Skill by skill'>"
        f"<table>{top}<tbody>{lines}</tbody></table></div>"
    )


def folded(title: str, content: str) -> str:
    """Shown when it is opened, with the mouse or the keyboard."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
