"""Data inspection: statistics, duplicate images and warnings, from one pass over all rows."""
