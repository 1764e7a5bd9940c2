"""The lab journal, computed from a study and left alone where a person wrote."""
