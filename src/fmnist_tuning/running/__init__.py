"""Running a plan: reuse what is finished, train the rest, and record each result at once."""
