"""Floor 4: rows become a trust report."""
