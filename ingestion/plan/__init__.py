"""What an edited app changes against what runs, what that costs, and whom it touches: said before anything happens."""
