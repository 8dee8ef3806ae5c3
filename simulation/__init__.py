"""The wellness app's simulated users: who they are, what they do, and how their events arrive."""
