"""Floor 0: the nouns as plain data. Nothing here imports torch."""
