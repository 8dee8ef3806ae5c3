"""Training: snapshots become models that may be released."""

import os

# Its thread reads the environment while others write it, which ends processes; and nothing is sent anywhere.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Threads of a fit that wait for each other sleep instead of burning the processors that they wait for: on a machine that does
# other work too, a fit takes an eighth of the time. Read when XGBoost is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
