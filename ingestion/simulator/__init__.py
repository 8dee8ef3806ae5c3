"""Who uses the app in rehearsal? A seeded population, catalogue and behaviour; everything it makes is simulated."""
