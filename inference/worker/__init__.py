"""The queue worker: jobs, their outcome, push limits and consent, dead letters."""
