"""Several processes: collectives, strategies, the launcher, and preemption."""
