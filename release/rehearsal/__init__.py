"""Rehearsal: many switches under load and with faults, every answer recorded and judged."""
