"""Limits that are set by environment variables; a malformed one is refused with one sentence."""

from typing import Any, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from stillpoint.errors import InvalidSettings


class LimitSettings(BaseSettings):
    """Limits from variables and `.env`, read by entry points; a subclass names its `env_prefix`."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, allow_inf_nan=False
    )

    @classmethod
    def load(cls, **given: Any) -> Self:
        """Read the variables; what is `given` goes before them, None is not given.

        Raises:
            InvalidSettings: names every limit that is malformed, all at once.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        try:
            return cls(**chosen)
        except ValidationError as error:
            prefix = cls.model_config.get("env_prefix", "")
            lines = []
            for problem in error.errors():
                name = ".".join(str(part) for part in problem["loc"])
                said = name if name in chosen else f"{prefix}{name.upper()}"
                lines.append(f"{said} is {problem['input']!r}: {problem['msg']}")
            raise InvalidSettings("limits refused; " + "; ".join(lines)) from None
