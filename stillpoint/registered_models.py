"""The names under which MLflow knows the models.

One registered model; a version per training run, tagged with the digest by which releases name it; and aliases, which
say where a version is now: `live`, `green`, `blue` (set by the release verbs), `candidate` (the newest trained one).
"""

MODEL_NAME = "stillpoint-ranker"
DIGEST_TAG = "bundle_sha256"
LIVE = "live"
CANDIDATE = "candidate"
