"""Planning: memory, time and disk of a training, predicted without weights."""
