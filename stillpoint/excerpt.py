"""Formats a client's value for an error text: short, and safe for any value. (pure)"""

LENGTH = 60


def excerpt(value: object) -> str:
    """Return the first characters of a text or number; of a list or object only its kind, as it may be deeply nested."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return repr(value) if len(value) <= LENGTH else f"{value[:LENGTH]!r}…"
        case int() | float():
            text = repr(value) if isinstance(value, float) or value.bit_length() < 1_000 else "a number without end"
            return text if len(text) <= LENGTH else f"{text[:LENGTH]}…"
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
    return f"a {type(value).__name__}"
