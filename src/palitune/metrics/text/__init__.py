"""Metrics on text: exact match, ANLS, VQA accuracy, error rates and others."""
