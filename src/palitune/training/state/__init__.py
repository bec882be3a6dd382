"""Training state on disk: checkpoints, resuming, sharded and partitioned state."""
