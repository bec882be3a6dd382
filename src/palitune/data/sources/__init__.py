"""Data sources: readers of annotation files in many formats."""
