"""Run folders, their pages, plots and comparisons, and experiment trackers."""
