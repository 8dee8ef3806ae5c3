"""The errors that the product raises on purpose, with texts that a user can act on.

Every error that the product raises on purpose derives from `StillpointError`. Its text says where, what was found, what
was expected and what to do. `exit_code` is what the command line returns for it, by one table: 0 done; 1 refused or
failed, which another moment, other data or a running server may change; 2 usage, when the words of the command or the
settings themselves are wrong, whatever the data; 130 interrupted; 143 ended by SIGTERM before its work was done.
"""


class StillpointError(Exception):
    """The root of all errors raised on purpose."""

    exit_code = 1


class InvalidSettings(StillpointError):
    """A setting is missing, malformed or contradicts another."""

    exit_code = 2


class InvalidInput(StillpointError):
    """A user or a client gave input that cannot be used."""

    exit_code = 2


class NotFound(InvalidInput):
    """A well-formed name of something that does not exist: a snapshot, recommendation, evaluation or user."""

    exit_code = 1


class DataRefused(InvalidInput):
    """The stored data does not allow the operation: too few rows, other definitions, too old, another history."""

    exit_code = 1


class InvalidSpine(InvalidInput):
    """An entity dataframe lacks a join key, a timestamp or a time zone."""


class NothingStored(NotFound):
    """A source has no files yet."""


class UnknownFeature(InvalidInput):
    """A feature, view, service or entity was named that the registry does not hold."""


class StackUnavailable(StillpointError):
    """A server that the work needs (Redis, S3, Kinesis, SQS, SageMaker) does not answer."""


class AlreadyExists(StillpointError):
    """A create-only object exists already, written by somebody else."""


class ObjectMissing(StillpointError):
    """An object of the lake does not exist."""


class CorruptData(StillpointError):
    """Stored bytes do not match their format or their digest. Never answered by guessing."""


class PlanRefused(StillpointError):
    """A read plan cannot be compiled from this registry."""


class ReleaseRefused(StillpointError):
    """A release verb refuses, and the live release is undisturbed."""


class GateRefused(ReleaseRefused):
    """The check of a release is red, missing or too old."""


class LeaseHeld(StillpointError):
    """Somebody else holds the lease; the text names the holder."""


class Fenced(StillpointError):
    """A newer epoch of the lease exists: another process has taken over, and this one must stop."""


class ModelRefused(StillpointError):
    """A model artifact or its input does not match the signature."""
