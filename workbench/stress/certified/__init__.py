"""What is proved rather than tried: randomised smoothing of the referable call, and the margin of a linear head."""
