"""Proof under load: many switches with faults, every answer recorded and judged."""
