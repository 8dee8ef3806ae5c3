"""The table of library and server errors that are outages; `stillpoint.outages` reads it.

Libraries' classes stand here by name, so that nothing is imported to know them. The words follow the server's name.
"""

import errno
import re

REDIS_ERRORS: dict[str, str] = {
    "TimeoutError": "did not answer in time; look at `redis-cli --latency` and SLOWLOG, or raise socket_timeout in the connection string",
    "AuthenticationError": "refused the user or the password; check username and password of the connection string",
    "AuthenticationWrongNumberOfArgsError": "refused the user or the password; check username and password of the connection string",
    "OutOfMemoryError": "is full (maxmemory reached under noeviction), nothing more is written; raise maxmemory or empty a retired project",
    "ReadOnlyError": "is a read-only replica; point the connection string at the primary",
    "NoPermissionError": "does not allow this to the user of the connection string; grant it with ACL SETUSER",
    "AuthorizationError": "does not allow this to the user of the connection string; grant it with ACL SETUSER",
    "BusyLoadingError": "is still loading its data; try again in a moment",
    "MasterDownError": "is a replica whose primary is away; a failover is under way",
    "ClusterDownError": "says that its cluster is down; look at `redis-cli cluster info`",
    "SlotNotCoveredError": "has slots that no node serves; look at `redis-cli cluster slots`",
    "TryAgainError": "is moving the slot of these keys; try again in a moment",
    "AskError": "is moving the slot of these keys; try again in a moment",
    "MovedError": "has moved the slot of these keys; try again in a moment",
    "MaxConnectionsError": "has no connection free in this process; raise max_connections in the connection string",
    "InvalidResponse": "answered what is no Redis protocol; the connection was dropped",
    "ConnectionError": "cannot be reached; is it running, and do host, port, ssl and user of the connection string fit?",
}
"""Classes of redis-py, looked for along the class and its bases, so the special stand in for themselves."""

REDIS_CODES: dict[str, str] = {
    "NOAUTH": REDIS_ERRORS["AuthenticationError"],
    "WRONGPASS": REDIS_ERRORS["AuthenticationError"],
    "NOPERM": REDIS_ERRORS["NoPermissionError"],
    "OOM": REDIS_ERRORS["OutOfMemoryError"],
    "READONLY": REDIS_ERRORS["ReadOnlyError"],
    "LOADING": REDIS_ERRORS["BusyLoadingError"],
    "MASTERDOWN": REDIS_ERRORS["MasterDownError"],
    "CLUSTERDOWN": REDIS_ERRORS["ClusterDownError"],
    "TRYAGAIN": REDIS_ERRORS["TryAgainError"],
    "ASK": REDIS_ERRORS["AskError"],
    "MOVED": REDIS_ERRORS["MovedError"],
    "MISCONF": "cannot save to its disk and takes no writes (stop-writes-on-bgsave-error); look at its disk and its log",
    "NOREPLICAS": "has too few replicas and takes no writes (min-replicas-to-write)",
    "BUSY": "is busy with a script; `redis-cli script kill` ends it",
    "DENIED": "runs in protected mode and takes no connection from here",
}
"""The first word of what Redis answered, also where it stands inside a script's or a pipeline's error."""

REDIS_TEXTS: dict[str, str] = {
    "used memory > 'maxmemory'": REDIS_ERRORS["OutOfMemoryError"],
    "Redis Cluster cannot be connected": REDIS_ERRORS["ConnectionError"],
    "Too many Cluster redirections": REDIS_ERRORS["MovedError"],
    "TTL exhausted": REDIS_ERRORS["MovedError"],
    "could not agree on a valid slots cache": REDIS_ERRORS["ClusterDownError"],
    "All slots are not covered": REDIS_ERRORS["SlotNotCoveredError"],
}
REDIS_CODE = re.compile(
    r"(?:.*of pipeline caused error: )?(?:ERR )?(?:Error running script .*?: @user_script: ?\d+: )?-?([A-Z]+)\b",
    re.DOTALL,
)

UNREACHABLE = "cannot be reached; is it running, and does the address fit?"
_CREDENTIALS = "has no valid credentials of ours; renew them"

AWS_ERRORS: dict[str, str] = {
    "HTTPClientError": UNREACHABLE,
    "ConnectionError": UNREACHABLE,
    "IncompleteReadError": "broke off its answer",
    "ChecksumError": "sent an answer that was damaged on the way",
    "FlexibleChecksumError": "sent an answer that was damaged on the way",
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "UnknownCredentialError": _CREDENTIALS,
    "NoAuthTokenError": _CREDENTIALS,
    "TokenRetrievalError": _CREDENTIALS,
    "MetadataRetrievalError": _CREDENTIALS,
    "RefreshWithMFAUnsupportedError": _CREDENTIALS,
    "SSOError": _CREDENTIALS,
    "LoginError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "CapacityNotAvailableError": "asks for fewer calls; they are repeated more slowly",
}
"""Classes of botocore, looked for along the class and its bases."""

_THROTTLED = "asks for fewer calls; they are repeated more slowly"
_ABSENT = "lacks what the settings name; create it, or mend the settings"
AWS_CODES: dict[str, str] = {
    **dict.fromkeys(
        (
            "Throttling",
            "ThrottlingException",
            "ThrottledException",
            "RequestThrottled",
            "RequestThrottledException",
            "RequestLimitExceeded",
            "BandwidthLimitExceeded",
            "LimitExceededException",
            "OverLimit",
            "SlowDown",
            "TooManyRequestsException",
            "ProvisionedThroughputExceededException",
            "KMSThrottlingException",
            "KMS.ThrottlingException",
            "KmsThrottled",
            "PriorRequestNotComplete",
            "TransactionInProgressException",
        ),
        _THROTTLED,
    ),
    **dict.fromkeys(
        (
            "ExpiredToken",
            "ExpiredTokenException",
            "TokenRefreshRequired",
            "RequestExpired",
            "RequestTimeTooSkewed",
            "InvalidToken",
            "InvalidClientTokenId",
            "InvalidAccessKeyId",
            "InvalidSecurity",
            "UnrecognizedClientException",
            "SignatureDoesNotMatch",
            "InvalidSignatureException",
            "IncompleteSignature",
            "MissingAuthenticationToken",
            "AuthFailure",
            "AccessDenied",
            "AccessDeniedException",
            "KMSAccessDeniedException",
            "KmsAccessDenied",
            "OptInRequired",
        ),
        "refuses our credentials; renew them, or grant what they need",
    ),
    **dict.fromkeys(
        (
            "NoSuchBucket",
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
            "ResourceNotFoundException",
            "KmsDisabled",
            "KMSDisabledException",
            "KMSInvalidStateException",
            "KMS.DisabledException",
            "KMS.NotFoundException",
            "KMS.KMSInvalidStateException",
            "KMS.KeyUnavailableException",
            "KMS.InvalidKeyUsageException",
            "KMS.IncorrectKeyException",
            "KmsInvalidState",
        ),
        _ABSENT,
    ),
    **dict.fromkeys(
        (
            "InternalError",
            "InternalFailure",
            "InternalServerError",
            "ServiceUnavailable",
            "ServiceUnavailableException",
            "Unavailable",
            "RequestTimeout",
            "RequestTimeoutException",
            "OperationAborted",
            "ConditionalRequestConflict",
            "ModelNotReadyException",
            "InternalDependencyException",
        ),
        "cannot answer now",
    ),
}
"""Codes of AWS's errors. Besides, a status of 401, 403, 408, 429 or from 500 on is an outage whatever its code."""

AWS_STATUS = frozenset({401, 403, 408, 429})
INPUT_CODES = frozenset({"ModelError"})
"""Codes of 4xx or 5xx that are about what was sent all the same: SageMaker's for a container that refused its input."""

LIBRARY_ERRORS: dict[str, tuple[str, ...]] = {
    "urllib3": ("HTTPError",),
    "requests": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "httpx": ("TransportError",),
    "urllib": ("URLError",),
    "http": ("HTTPException",),
    "ssl": ("SSLError",),
    "socket": ("gaierror", "herror"),
}
"""Classes of other libraries that mean that a server was not reached, or broke off."""

ERRNOS: dict[int, str] = {
    errno.ENOSPC: "has no space left on its disk",
    errno.EDQUOT: "has used up its quota of disk",
    errno.EROFS: "has a disk that is read-only",
    errno.EIO: "cannot read or write its disk",
    errno.EMFILE: "has too many files open",
    errno.ENFILE: "has too many files open",
    errno.ENOMEM: "has no memory left",
    **dict.fromkeys(
        (
            errno.ECONNREFUSED,
            errno.ECONNRESET,
            errno.ECONNABORTED,
            errno.EPIPE,
            errno.ENOTCONN,
            errno.EHOSTUNREACH,
            errno.EHOSTDOWN,
            errno.ENETUNREACH,
            errno.ENETDOWN,
            errno.ETIMEDOUT,
            errno.EADDRNOTAVAIL,
        ),
        "cannot reach a server",
    ),
}

ARROW = re.compile(r"AWS Error ([A-Z_]+)")
ARROW_INPUT = frozenset({"NO_SUCH_KEY", "RESOURCE_NOT_FOUND", "NO_SUCH_UPLOAD"})
OBJECT_STORE = re.compile(r"Generic (?:S3|HttpClient) error")
