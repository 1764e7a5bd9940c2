"""Whole studies as files: out of one store, into another, two halves into one."""
