"""A failure of Spark's query in one line: what went wrong at the bottom, without the stacks of Java and Python around it."""

import re

LONGEST = 400
_RAISED = re.compile(
    r"^\s*(?:Caused by: )?((?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Refused|Held|Lost|Unavailable|Data|Fenced)): (.*)$"
)
_JAVA = ("java.", "scala.", "org.apache.", "py4j.", "pyspark.")


def in_one_line(failure: BaseException) -> str:
    """Return the last error of Python that the failure's text tells of, else of Java, else its own first line."""
    lines = str(failure).splitlines()
    raised = [found for found in map(_RAISED.match, lines) if found is not None]
    python = [found for found in raised if not found[1].startswith(_JAVA)]
    chosen = (python or raised)[-1:]
    first = next((line for line in lines if line.strip()), "no text")
    text = f"{chosen[0][1].rpartition('.')[2]}: {chosen[0][2]}" if chosen else f"{type(failure).__name__}: {first}"
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
