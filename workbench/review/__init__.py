"""Floor 4: worklist, cases and the readers' decisions."""
