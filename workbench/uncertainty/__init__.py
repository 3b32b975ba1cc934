"""Floor 2: draws, and what reduces them."""
