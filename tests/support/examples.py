"""A property draws few examples in `make quick`, some in `make test`, and all that it asks for in `make soak`.

Few and some are the same ones each time, so that a red run is a change's and not chance's; `make soak` draws new ones.
"""

from collections.abc import Iterable

import pytest
from hypothesis import settings

EXAMPLES = {"few": 20, "some": 40, "all": None}
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where Hypothesis keeps the settings of a test; it has no public way to lower those that a test gives itself."""


def draw_at_most(items: Iterable[pytest.Item], examples: int | None) -> None:
    """Let no property draw more examples than these, whatever its own settings or the profile say."""
    for item in items:
        drawn = getattr(getattr(item, "obj", None), _SETTINGS, None)
        if drawn is not None and examples is not None and drawn.max_examples > examples:
            setattr(item.obj, _SETTINGS, settings(drawn, max_examples=examples))  # type: ignore[attr-defined]
