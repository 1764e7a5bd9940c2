"""One run, from initial weights to its outcome: the mathematics, and nothing around it."""
