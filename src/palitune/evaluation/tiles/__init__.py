"""Answers tile by tile, and the merging of their objects."""
