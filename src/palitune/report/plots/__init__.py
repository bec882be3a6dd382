"""SVG plots: training curves and score plots."""
