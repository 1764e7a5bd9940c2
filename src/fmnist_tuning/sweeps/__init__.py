"""What a user asks for: settings, sweep files, and their plan. Uses no store and no torch."""
