"""What a person asks for: settings, sweep files and the plan that they make. No store, no torch."""
