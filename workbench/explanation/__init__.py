"""Floor 2: where a model looked."""
