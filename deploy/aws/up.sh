#!/usr/bin/env bash
# From an account to a running system: `make deploy ENVIRONMENT=my.toml`, again for every change. Needs the credentials of an
# account, docker with buildx, and the aws command. Each step may be repeated; one that fails ends it, and says which it was.
set -euo pipefail
cd "$(dirname "$0")/../.."
environment=${1:-}
[ -n "$environment" ] && [ -f "$environment" ] || {
    echo "error: no environment: make deploy ENVIRONMENT=my.toml; copy deploy/aws/environments/example.toml" >&2
    exit 1
}
environment=$(realpath "$environment")
step() { printf '\n== %s\n' "$*" >&2; current=$*; }
trap 'echo "error: the step \"${current:-}\" failed; what was made before it stays, run the same command again" >&2' ERR

step "tools"
.ci/infra environment
export PATH="$PWD/.venv-infra/bin:$PATH"
node --version >/dev/null
(cd deploy/aws && node "$(command -v npm || echo "$PWD/../../.venv-infra/bin/npm")" ci --silent)
cdk() { (cd deploy/aws && node node_modules/aws-cdk/bin/cdk --context environment="$environment" "$@"); }
value() { python -c 'import sys; sys.path.insert(0, "deploy/aws"); from infrastructure.environment import load; from pathlib import Path; print(getattr(load(Path(sys.argv[1])), sys.argv[2]))' "$environment" "$1"; }
prefix=$(value prefix) account=$(value account) region=$(value region) tag=$(value images)
export AWS_DEFAULT_REGION=$region

step "the account"
found=$(aws sts get-caller-identity --query Account --output text)
[ "$found" = "$account" ] || { echo "error: the credentials are of the account $found; $environment names $account" >&2; exit 1; }
cdk bootstrap "aws://$account/$region"

step "the registry, and what images and jobs need"
cdk deploy --require-approval never "$prefix-registry" "$prefix-storage" "$prefix-caches"

step "images"
address="$account.dkr.ecr.$region.amazonaws.com"
aws ecr get-login-password | docker login --username AWS --password-stdin "$address"
for image in service stream daily lambda model-server training; do
    aws ecr describe-images --repository-name "$prefix/$image" --image-ids imageTag="$tag" >/dev/null 2>&1 && continue
    platforms=linux/arm64
    case $image in model-server) platforms=linux/amd64 ;; training) platforms=linux/amd64,linux/arm64 ;; esac
    docker buildx build --platform "$platforms" --provenance=false --push -f "deploy/$image/Dockerfile" -t "$address/$prefix/$image:$tag" .
done

step "tokens of the service"
if [ "$(aws secretsmanager get-secret-value --secret-id "$prefix/tokens" --query SecretString --output text)" = "[]" ]; then
    made=$(PYTHONPATH=. .venv/bin/python -m inference.tokens operator read predict write-events admin)
    aws secretsmanager put-secret-value --secret-id "$prefix/tokens" --secret-string "{\"tokens\": [$(tail -n 1 <<<"$made")]}" >/dev/null
    echo "The operator's token, which is shown only now: $(head -n 1 <<<"$made")"
fi

step "everything else"
cdk deploy --require-approval never --all
python deploy/aws/outputs.py "$environment"
