"""Shows a value that somebody sent within a sentence: short, and safe whatever it is (pure)."""

LENGTH = 60


def shown(value: object) -> str:
    """Return a text's or number's first characters; of what may be nested, only what it is: a nest has no end."""
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
