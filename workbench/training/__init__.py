"""Floor 2: one visible training loop."""
