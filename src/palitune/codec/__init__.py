"""Text <-> geometry: `<loc>` boxes. Pure functions, no torch."""
