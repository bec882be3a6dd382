"""Image and video decoding, resizing, augmentation, and caches."""
