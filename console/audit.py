"""Who looks at a user's data, exports or erases it through the console, noted before it is shown or done."""

from console.sources import Sources
from stillpoint.audit.log import AuditAction, AuditLog
from stillpoint.tombstones import digest, erasure_key


def note(sources: Sources, action: AuditAction, user_id: str, *, by: str) -> None:
    """Append to the audit log.

    Raises:
        StackUnavailable: the lake does not answer; then nothing may be shown or done.
    """
    user = digest(erasure_key(sources.settings), user_id)
    AuditLog(sources.lake.objects, sources.clock).append(action, by=by, user=user)
