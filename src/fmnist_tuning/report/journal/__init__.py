"""The lab journal: its blocks are computed from a study, and a person's own text is kept."""
