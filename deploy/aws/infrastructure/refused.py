"""The error of everything that is refused before a template is written."""


class InfrastructureRefused(Exception):
    """The environment or a stack is not as it must be; the text says where, what was found, and what to do."""
