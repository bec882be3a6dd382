"""Recognition of the format of a folder of data, from its file names and the start of its files."""
