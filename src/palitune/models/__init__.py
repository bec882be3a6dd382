"""Base models, adapters, and text generation."""
