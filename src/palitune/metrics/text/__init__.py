"""Metrics on answers: exact match, ANLS, VQA accuracy, error rates, and others."""
