"""Numbers and times as an engineer on call reads them at a glance. (pure)"""

from datetime import datetime

from console.drawing.html import Markup, tag

NOTHING = "–"


def count(number: float | None) -> str:
    """Return a count with separators; a dash where nothing is known.

    >>> count(64969), count(None)
    ('64,969', '–')
    """
    return NOTHING if number is None else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Return how many a second, exact enough to see small ones."""
    if number is None:
        return NOTHING
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}"


def share(number: float | None) -> str:
    """Return a share of a whole in percent.

    >>> share(0.0213), share(0)
    ('2.1 %', '0 %')
    """
    if number is None:
        return NOTHING
    return f"{100 * number:.1f} %" if 0 < number < 1 else f"{100 * number:.0f} %"


def age(seconds: float | None) -> str:
    """Return a duration in the largest unit of which it has two.

    >>> age(3.2), age(250), age(9000), age(200000), age(None)
    ('3 s', '4.2 min', '2.5 h', '2.3 days', '–')
    """
    if seconds is None:
        return NOTHING
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{max(0.0, seconds):.0f} s"


def milliseconds(seconds: float | None) -> str:
    """Return a short duration.

    >>> milliseconds(0.0042), milliseconds(1.25)
    ('4.2 ms', '1,250 ms')
    """
    if seconds is None:
        return NOTHING
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:,.0f} ms"


def size(number: float | None) -> str:
    """Return bytes in the unit that fits.

    >>> size(812), size(3_480_000)
    ('812 B', '3.5 MB')
    """
    if number is None:
        return NOTHING
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number:.0f} B"


def value(found: object) -> str:
    """Return a feature's value; an embedding by its first numbers and its length."""
    if found is None:
        return NOTHING
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, float):
        return f"{found:.4g}"
    if isinstance(found, int):
        return f"{found:,}"
    if isinstance(found, list | tuple):
        return f"[{', '.join(f'{float(one):.2f}' for one in found[:3])}, … {len(found)} numbers]"
    return str(found)


def moment(at: datetime | None, *, seconds: bool = True) -> Markup:
    """Return a time in UTC."""
    if at is None:
        return Markup(NOTHING)
    written = f"{at:%Y-%m-%d %H:%M:%S}" if seconds else f"{at:%Y-%m-%d %H:%M}"
    return tag("time", written, datetime=at.isoformat(), title="UTC")


def short(digest: str | None) -> str:
    """Return the beginning of a digest."""
    return NOTHING if digest is None else digest[:8]
