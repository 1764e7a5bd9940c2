"""Whole studies as files: export, import, and merging two parts of a study."""
