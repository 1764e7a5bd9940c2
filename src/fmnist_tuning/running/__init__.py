"""Executing a plan: reuse what is finished, train the rest, write everything down as it comes."""
