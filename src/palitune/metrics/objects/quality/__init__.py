"""What objects a model gets wrong, and from which score on they are worth keeping."""
