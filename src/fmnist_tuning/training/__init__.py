"""One run, from initial weights to its outcome: only the mathematics."""
