"""What the pages show, as frozen data: one module per question, read from the sources that the verbs read."""
