"""The look of a report: one page that asks the network for nothing, in light and dark, on wide and narrow screens."""

from collections.abc import Sequence
from html import escape

CSS = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--text:#1f2933;--soft:#5c6773;--line:#e4e7eb;--accent:#2f5fd0;
--control:#a9b4c2;--shade:0 1px 2px rgba(15,23,42,.05)}
@media (prefers-color-scheme:dark){:root{--bg:#101317;--card:#191d24;--text:#e6eaf0;--soft:#9aa5b4;--line:#2a313b;
--accent:#8fb4ff;--control:#566172;--shade:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--text);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif;-webkit-text-size-adjust:100%}
main,header,footer{max-width:1080px;margin:0 auto;padding:0 24px}
header{padding-top:44px;padding-bottom:8px}
h1{font-size:clamp(1.6rem,4vw,2.3rem);line-height:1.2;letter-spacing:-.02em;margin:0 0 6px;overflow-wrap:anywhere}
h2{font-size:1.3rem;letter-spacing:-.01em;margin:52px 0 4px}
h3{font-size:.95rem;margin:0;font-weight:600}
p{margin:0}
.soft,figcaption,h2+p{color:var(--soft)}
h2+p{margin-bottom:16px;max-width:68ch}
nav{display:flex;flex-wrap:wrap;gap:4px 18px;margin-top:18px;font-size:.9rem}
a{color:var(--accent);text-underline-offset:3px;text-decoration-thickness:1px}
:focus-visible{outline:2px solid var(--accent);outline-offset:3px;border-radius:4px}
.cards{display:flex;flex-wrap:wrap;gap:14px;margin:24px 0 0;padding:0;list-style:none}
.card,figure,details{background:var(--card);border:1px solid var(--line);border-radius:12px;box-shadow:var(--shade)}
.card{padding:18px 18px 16px;display:flex;flex-direction:column;gap:8px;flex:1 1 max(220px,calc(33.3% - 14px))}
.card.wide{flex-basis:max(300px,calc(50% - 14px))}
.number{font-size:2.1rem;font-weight:650;line-height:1.1;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.number small{font-size:1rem;font-weight:500;color:var(--soft);letter-spacing:0}
.card p:not(.number){font-size:.88rem;color:var(--soft)}
.bars{margin:auto 0 0;padding-top:4px;display:grid;grid-template-columns:auto 1fr auto;gap:5px 10px;align-items:center;
font-size:.82rem}
.bars dt{color:var(--soft)}.bars dd{margin:0;font-variant-numeric:tabular-nums;text-align:right}
.bars .track{height:6px;border-radius:3px;background:var(--line);overflow:hidden}
.bars .track i{display:block;height:100%;background:var(--control);border-radius:3px}
.bars .own i{background:var(--accent)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,400px),1fr));gap:16px;align-items:start}
.pair>figure,figure{margin:0}figure+figure,.pair+figure,figure+.pair{margin-top:16px}.pair>figure+figure{margin-top:0}
figure{padding:14px;overflow:hidden}
figure video{display:block;width:100%;height:auto;border-radius:6px}
figure img{display:block;max-width:100%;height:auto;margin:0 auto}
figcaption{font-size:.88rem;margin-top:10px;max-width:80ch}
.note{border-left:3px solid var(--line);padding:2px 0 2px 12px;color:var(--soft);font-size:.92rem;margin:12px 0}
details{margin-top:12px;padding:0 16px}summary{cursor:pointer;padding:12px 0;font-weight:600}
details[open] summary{border-bottom:1px solid var(--line);margin-bottom:12px}
pre{margin:0 0 14px;overflow:auto;font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;tab-size:2}
pre.wrap{white-space:pre-wrap;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin-bottom:14px}table{border-collapse:collapse;width:100%;font-size:.88rem}
th,td{text-align:left;padding:5px 16px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}th{font-weight:500;
color:var(--soft)}
td{font-variant-numeric:tabular-nums;overflow-wrap:anywhere}tr:last-child>*{border:0}
footer{padding-top:40px;padding-bottom:48px;color:var(--soft);font-size:.85rem}
@media (max-width:560px){main,header,footer{padding-left:16px;padding-right:16px}
header{padding-top:28px}figure{padding:10px}}
@media print{video{display:none}}
"""

# Videos play at once, except for people who asked for less motion: they press play.
SCRIPT = """
if (matchMedia('(prefers-reduced-motion: reduce)').matches)
  document.querySelectorAll('video').forEach(v => { v.autoplay = false; v.pause(); });
"""

# The browser itself holds the page to it: nothing is loaded from anywhere.
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def page(title: str, body: str) -> str:
    """A whole document; ``title`` is plain text, ``body`` HTML."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n<script>{SCRIPT}</script>\n"
        "</body>\n</html>\n"
    )


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


def table(rows: list[tuple[str, str]]) -> str:
    """Two columns: name and value."""
    lines = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f"<div class='scroll'><table>{lines}</table></div>"


def folded(title: str, content: str) -> str:
    """Shown when it is opened, with the mouse or the keyboard."""
    return f"<details><summary>{escape(title)}</summary>{content}</details>"
