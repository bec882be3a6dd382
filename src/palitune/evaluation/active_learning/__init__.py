"""Order of unlabeled images by the value of a label for training."""
