"""Floor 1: paired-eye networks and their checkpoints."""
