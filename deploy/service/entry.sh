#!/bin/sh
# Runs a verb of stillpoint. Hashed tokens that the platform gives as HTTP_TOKENS become the file that the service reads.
set -eu
if [ -n "${HTTP_TOKENS:-}" ]; then
    umask 077
    mkdir -p "${STILLPOINT_HOME}"
    printf '%s' "${HTTP_TOKENS}" > "${STILLPOINT_HOME}/tokens.json"
    export STILLPOINT_HTTP_TOKENS="${STILLPOINT_HOME}/tokens.json"
    unset HTTP_TOKENS
fi
exec python -m stillpoint "$@"
