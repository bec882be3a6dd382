"""Readers for the official files of public benchmarks."""
