"""Tidy frames to what may be concluded from them. Pure: no store, no files, no terminal."""
