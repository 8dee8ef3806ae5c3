"""How does the whole stack run on one machine? Redis, AWS stand-ins, MLflow and Java, without docker or root."""
