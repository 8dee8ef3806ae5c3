#!/bin/bash
# How does a verb of `stillpoint` run here? With the secrets in its environment and nowhere else, once or for ever.
#   run.sh once|forever VERB [ARGUMENT...]
# "forever" starts it again whatever its end was, after a pause that grows to a minute, and tells of each end. SIGTERM is
# passed on, waited for, and ends the loop.
set -uo pipefail
mode=$1
shift
root=${STILLPOINT_ROOT:-/opt/stillpoint}
# EMR points these at its own Spark and at HDFS; ours comes with the locked packages and keeps its checkpoint in a folder.
unset SPARK_HOME SPARK_CONF_DIR HADOOP_CONF_DIR YARN_CONF_DIR
export PYTHONPATH=$root
set -a
. "$root/deploy/emr/stillpoint.env"
set +a
cd "$root" || exit 1
child=
stopping=
trap 'stopping=yes; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT

fetch_secrets() {
    local found
    found=$(aws secretsmanager get-secret-value --secret-id "$SECRET_ID" --query SecretString --output text) || return 1
    while IFS= read -r -d '' pair; do
        export "$pair"
    done < <(python3 -c 'import json, sys
for name, value in json.load(sys.stdin).items(): sys.stdout.write(f"{name}={value}\0")' <<<"$found")
}

run_once() {
    fetch_secrets || { echo "the secret $SECRET_ID cannot be read" >&2; return 75; }
    [ -z "$stopping" ] || return 0
    "$root/.venv/bin/python" -m stillpoint "$@" &
    child=$!
    [ -z "$stopping" ] || kill -TERM "$child" # SIGTERM came before the trap knew the child
    wait "$child"
    local status=$?
    if [ -n "$stopping" ]; then # the trap ended the first wait
        wait "$child"
        status=$?
    fi
    child=
    return "$status"
}

pause=1
while [ -z "$stopping" ]; do
    began=$SECONDS
    run_once "$@"
    status=$?
    if [ "$mode" = once ]; then
        echo "stillpoint $* ended with $status" # the step's log ends with this line, whatever happened
        [ "$status" = 0 ] || echo "stillpoint $* ended with $status" | "$root/deploy/emr/tell.sh"
        exit "$status"
    fi
    [ -n "$stopping" ] && break
    [ $((SECONDS - began)) -gt 600 ] && pause=1
    echo "stillpoint $* ended with $status; it starts again in $pause s" | "$root/deploy/emr/tell.sh"
    sleep "$pause" &
    wait $!
    pause=$((pause * 2 > 60 ? 60 : pause * 2))
done
