"""Floor 2: what changes an exam: attacks and corruptions."""
