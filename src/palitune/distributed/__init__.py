"""Distributed runs: collectives, strategies, process launcher and preemption."""
