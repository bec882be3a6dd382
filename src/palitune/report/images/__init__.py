"""Drawing of boxes and masks, and the image files of a page."""
