"""Reports as HTML pages, each one file that fetches nothing."""

import io
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #1c2430 }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; vertical-align: top; padding: .35rem .6rem;
border-bottom: 1px solid #dde2ea } .green { color: #17703a } .red { color: #b3261e; font-weight: 600 }
.note { background: #fff4d6; padding: .6rem .8rem; border-radius: .3rem } figure { margin: 1rem 0 } svg { max-width: 100%; height: auto }
.number { text-align: right; font-variant-numeric: tabular-nums } summary { cursor: pointer; color: #4a5568 }
"""


def document(title: str, body: str) -> str:
    """Return a whole page; `body` is HTML whose texts from outside are escaped already."""
    head = "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
    head += f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    return f"{head}\n{body}\n</html>\n"


def svg(figure: "Figure") -> str:
    """Return a plot as a part of a page. Equal plots give equal text."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "stillpoint"}):
        FigureCanvasSVG(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    _, tag, drawing = out.getvalue().partition("<svg")
    return tag + drawing
