"""Data sets: sources, benchmarks, images, example cache, training set, samplers, collator."""
