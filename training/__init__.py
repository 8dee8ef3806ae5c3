"""Training: snapshots become models that may be released."""

import os

# MLflow's telemetry thread reads the environment while other threads write it, which crashes processes; nothing may be sent anyway.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

# Threads of a fit that wait for each other sleep instead of burning the processors that they wait for: on a machine that does
# other work too, a fit takes an eighth of the time. Read when XGBoost is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
