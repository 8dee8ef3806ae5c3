"""Plots as SVG that take the page's colours: lines over time, bars, and two distributions side by side. (pure)

Each plot says in words what it shows, for those who cannot see it.
"""

from collections.abc import Sequence

from console.drawing.html import Markup, join, tag
from console.drawing.words import share

_WIDTH, _HEIGHT = 220.0, 44.0


def sparkline(values: Sequence[float | None], told: str) -> Markup:
    """Return values over time, oldest first, as a line; gaps where nothing is known."""
    known = [one for one in values if one is not None]
    if len(known) < 2:
        return tag("div", class_="spark none", role="img", aria_label=f"{told}: not enough is known yet")
    top = max(known) or 1.0
    step = _WIDTH / (len(values) - 1)
    runs: list[list[str]] = [[]]
    for place, one in enumerate(values):
        if one is None:
            runs.append([])
        else:
            runs[-1].append(f"{place * step:.1f},{_HEIGHT - 3 - (_HEIGHT - 6) * one / top:.1f}")
    lines = [run for run in runs if len(run) > 1]
    areas = (
        tag(
            "path",
            d=f"M{run[0].partition(',')[0]},{_HEIGHT} L{' L'.join(run)} L{run[-1].partition(',')[0]},{_HEIGHT} Z",
        )
        for run in lines
    )
    strokes = (tag("path", d=f"M{' L'.join(run)}", class_="line") for run in lines)
    return tag(
        "svg",
        tag("g", areas, class_="area"),
        strokes,
        viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
        preserveAspectRatio="none",
        class_="spark",
        role="img",
        aria_label=f"{told}: from {known[0]:.3g} to {known[-1]:.3g}, highest {max(known):.3g}",
    )


def meter(part: float, told: str, *, tone: str = "") -> Markup:
    """Return a share of a whole as a bar."""
    width = max(0.0, min(1.0, part))
    return tag(
        "div",
        tag("span", style=f"width:{100 * width:.1f}%"),
        class_=f"meter {tone}".strip(),
        role="img",
        aria_label=f"{told}: {share(part)}",
    )


def pushes(parts: Sequence[tuple[str, float]], told: str) -> Markup:
    """Return signed amounts as bars to the left and right of a middle line, the largest first as given."""
    top = max((abs(amount) for _, amount in parts), default=0.0) or 1.0
    rows = (
        tag(
            "div",
            tag("span", name, class_="name"),
            tag(
                "span",
                tag("span", style=f"width:{50 * abs(amount) / top:.1f}%", class_="up" if amount >= 0 else "down"),
                class_="track",
            ),
            tag("span", f"{amount:+.2f}", class_="amount"),
            class_="push",
        )
        for name, amount in parts
    )
    return tag("div", rows, class_="pushes", role="group", aria_label=told)


def two_distributions(
    labels: Sequence[str], before: Sequence[float], after: Sequence[float], names: tuple[str, str], told: str
) -> Markup:
    """Return two distributions over the same bins as pairs of bars, with the bins' labels below."""
    top = max((*before, *after), default=0.0) or 1.0
    bars = (
        tag(
            "div",
            tag(
                "div",
                tag("span", class_="before", style=f"height:{100 * left / top:.1f}%"),
                tag("span", class_="after", style=f"height:{100 * right / top:.1f}%"),
                class_="pair",
            ),
            tag("span", label, class_="bin"),
            title=f"{label}: {names[0]} {share(left)}, {names[1]} {share(right)}",
            class_="slot",
        )
        for label, left, right in zip(labels, before, after, strict=True)
    )
    legend = tag(
        "p", tag("span", names[0], class_="key before"), tag("span", names[1], class_="key after"), class_="legend"
    )
    numbers = "; ".join(
        f"{label} {share(left)} and {share(right)}" for label, left, right in zip(labels, before, after, strict=True)
    )
    drawn = tag(
        "div", bars, class_="distribution", role="img", aria_label=f"{told}. {names[0]} and {names[1]}: {numbers}"
    )
    return join(legend, drawn)


def days(counts: Sequence[tuple[str, float]], told: str) -> Markup:
    """Return one bar per day, oldest first."""
    top = max((amount for _, amount in counts), default=0.0) or 1.0
    bars = (
        tag(
            "span",
            style=f"height:{max(4.0 if amount else 0.0, 100 * amount / top):.1f}%",
            title=f"{day}: {amount:,.0f}",
        )
        for day, amount in counts
    )
    return tag("div", bars, class_="days", role="img", aria_label=f"{told}: highest day {top:,.0f}")
