"""The rows of a run, one module per noun: each yields figures, `rows` gives them their intervals."""
