"""Comparison of several runs: tables, paired bootstrap, plots and page."""
