"""The embedded stack on one machine: Redis, AWS stand-ins, MLflow and Java, without docker or root."""
