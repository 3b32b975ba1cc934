"""Floor 0: metrics are pure functions of arrays."""
