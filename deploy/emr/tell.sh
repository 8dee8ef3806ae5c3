#!/bin/bash
# Who hears of a failure? The subscribers of the topic, of what comes on standard input.
[ -n "${FAILURE_TOPIC:-}" ] || . "${STILLPOINT_ROOT:-/opt/stillpoint}/deploy/emr/stillpoint.env"
aws sns publish --topic-arn "$FAILURE_TOPIC" --subject "stillpoint on $(hostname)" --message "$(head -c 8000)" >/dev/null ||
    echo "the failure could not be told to $FAILURE_TOPIC" >&2
