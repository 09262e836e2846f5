"""HTML as values: whatever is not `Html` already is escaped on its way into an element."""

import base64
import html
from collections.abc import Iterable, Sequence
from pathlib import Path

from omnictl.visible_text import visible

VOID = {"meta", "img", "line", "polyline", "circle"}
"""Elements without content, those of SVG that are used here among them."""

MEDIA_TYPES = {".png": "image/png", ".wav": "audio/wav"}
"""Of what can be embed_file."""

UNKNOWN = "–"
"""Stands for a number that is not known, or not finite."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:"
"""The page loads nothing and runs nothing, whatever is written in it."""

STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1f2328; --faint: #6a727c; --line: #dfe2e6; --card: #f4f5f7;
  --blue: #2563c9; --green: #1a7f4b; --amber: #9a6700; --red: #c0392b; --violet: #8250c8; --teal: #0f7d8c; --pink: #bf3989;
  --brown: #7a5230; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14171b; --ink: #e4e7eb; --faint: #97a0ab; --line: #2e343c; --card: #1d2127; --blue: #7aa8ff;
    --green: #5fc894; --amber: #e3b341; --red: #ff8a7a; --violet: #b795f5; --teal: #56c8d8; --pink: #f28bc5; --brown: #c9a27e; } }
* { box-sizing: border-box; }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem;
  padding: 2rem 1.5rem 5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { border-top: 1px solid var(--line); font-size: 1.3rem; margin: 3rem 0 1rem; padding-top: 1.2rem; }
h3 { font-size: 1rem; margin: 1.8rem 0 .6rem; }
a { color: var(--blue); }
p.about, figcaption, caption { color: var(--faint); font-size: .9rem; }
p { margin: .3rem 0; }
.headline { align-items: baseline; background: var(--card); border-radius: .6rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem;
  margin: 1rem 0; padding: .9rem 1.2rem; }
.headline strong { color: var(--blue); font-size: 2.2rem; font-variant-numeric: tabular-nums; line-height: 1.1; }
.row { align-items: flex-start; display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
caption { padding-bottom: .3rem; text-align: left; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem 1.2rem .3rem 0; text-align: left; vertical-align: top; }
th { color: var(--faint); font-weight: 500; }
tbody th { color: inherit; font-weight: 400; }
td { overflow-wrap: break-word; }
.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.right, .learned { color: var(--green); }
.weak { color: var(--amber); }
.not-learned { color: var(--red); }
.sample { max-width: 34rem; }
p.verdict { font-size: 1.05rem; margin: 1rem 0; }
ul.plain { list-style: none; margin: 0; padding: 0; white-space: nowrap; }
.curves { display: grid; gap: 1rem 2.5rem; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); margin: 1rem 0; }
dl { display: grid; font-size: .9rem; gap: .15rem 1.2rem; grid-template-columns: max-content 1fr; margin: 1rem 0; }
dt { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; }
figure { margin: 0; }
figure img { background: #fff; border-radius: .4rem; display: block; max-width: min(100%, 34rem); padding: .3rem; }
.wide img { border-radius: 0; max-width: none; padding: 0; }
td img { display: block; max-width: 8rem; }
audio { display: block; height: 2.2rem; margin-top: .2rem; width: 17rem; }
svg { display: block; height: auto; max-width: 30rem; width: 100%; }
svg text { fill: var(--faint); font-size: 12px; paint-order: stroke; stroke: var(--paper); stroke-width: 3px; }
svg .grid { stroke: var(--line); }
svg .curve { color: var(--blue); fill: none; stroke: currentColor; stroke-linejoin: round; stroke-width: 1.8; }
svg .limit { stroke: var(--faint); stroke-dasharray: 5 4; }
.curve-0, svg .curve-0 { color: var(--blue); }
.curve-1, svg .curve-1 { color: var(--red); }
.curve-2, svg .curve-2 { color: var(--green); }
.curve-3, svg .curve-3 { color: var(--amber); }
.curve-4, svg .curve-4 { color: var(--violet); }
.curve-5, svg .curve-5 { color: var(--teal); }
.curve-6, svg .curve-6 { color: var(--pink); }
.curve-7, svg .curve-7 { color: var(--brown); }
.legend { color: var(--faint); display: flex; flex-wrap: wrap; font-size: .9rem; gap: 0 1.2rem; margin: .2rem 0; }
svg .point { fill: var(--blue); }
svg .best { fill: none; stroke: var(--green); stroke-width: 2; }
details { margin: .8rem 0; }
summary { color: var(--faint); cursor: pointer; font-size: .9rem; }
pre { background: var(--card); border-radius: .4rem; font-size: .8rem; line-height: 1.4; overflow-x: auto; padding: .8rem 1rem; }
"""


class Html(str):
    """Text that is already HTML."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str) -> Html:
    """An element; content that is not `Html` and all attributes are escaped.

    Args:
        tag: its name.
        content: texts and elements.
        attributes: `class_` is written `class`, `stroke_width` is written `stroke-width`.
    """
    attribute_text = "".join(f' {_attribute(name)}="{html.escape(visible(value))}"' for name, value in attributes.items())
    if tag in VOID:
        return Html(f"<{tag}{attribute_text}>" if tag in ("meta", "img") else f"<{tag}{attribute_text}/>")
    return Html(f"<{tag}{attribute_text}>{concat(content)}</{tag}>")


def concat(content: Iterable[str]) -> Html:
    """Texts and elements, one after the other."""
    return Html("".join(part if isinstance(part, Html) else html.escape(visible(part)) for part in content))


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-") if name not in ("viewBox",) else name


def page(title: str, *content: str, refresh_seconds: int | None = None) -> str:
    """A whole page; one that is `refresh_seconds` old is asked for again."""
    again = [] if refresh_seconds is None else [element("meta", http_equiv="refresh", content=str(refresh_seconds))]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        *again,
        element("title", title),
        element("style", Html(STYLE)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', *content), lang='en')}\n"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]], *, caption: str = "") -> Html:
    """A table whose first column names its rows; it scrolls by itself where it is too wide."""
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in headers)))
    body = element(
        "tbody",
        *(element("tr", element("th", row[0], scope="row"), *(_cell(value) for value in row[1:])) for row in rows),
    )
    title = (element("caption", caption),) if caption else ()
    return element("div", element("table", *title, head, body), class_="wide")


class Number(str):
    """A text that is set flush right."""

    __slots__ = ()


def _cell(value: str) -> Html:
    return element("td", value, class_="number") if isinstance(value, Number) else element("td", value)


def number(value: object) -> Number:
    """A number with four significant digits, or without decimals where it is larger; any other value as text, or `UNKNOWN`."""
    if value is None:
        return Number(UNKNOWN)
    if not isinstance(value, float):
        return Number(str(value))
    return Number(f"{value:,.0f}" if 9_999.5 <= abs(value) < 1e15 else f"{value:.4g}")


def items(entries: Iterable[str], kind: str = "plain") -> Html:
    """A list without bullets."""
    return element("ul", *(element("li", entry) for entry in entries), class_=kind)


def definition_list(entries: Iterable[tuple[str, str]]) -> Html:
    """Names and what they stand for."""
    return element("dl", *(part for name, value in entries for part in (element("dt", name), element("dd", value))))


def details(summary: str, *content: str) -> Html:
    """Content that is shown on a click."""
    return element("details", element("summary", summary), *content)


def embed_file(file: Path) -> Html:
    """An image, or a player of a recording, with its file embedded in the page."""
    data = base64.b64encode(file.read_bytes()).decode()
    source = f"data:{MEDIA_TYPES[file.suffix]};base64,{data}"
    if file.suffix == ".png":
        return element("img", src=source, alt=file.stem)
    return element("audio", src=source, controls="")
