"""Sources whose masks are image files, and the decoding of polygons and run lengths."""
