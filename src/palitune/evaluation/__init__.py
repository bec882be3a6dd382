"""Evaluation: inference, scoring, confidence intervals, submissions."""
