"""HTML pages: run report, inspection, predictions, plan."""
