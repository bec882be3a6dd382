"""Training: configuration, self-check, trainer, checkpoints."""
