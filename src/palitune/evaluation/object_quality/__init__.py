"""Thresholds of object scores, and suspected errors of labels."""
