"""Numbers of location and segmentation tokens in PaliGemma's vocabulary."""

NUM_LOC_BINS = 1024
"""Bins of a coordinate."""
LOC_TOKENS = [f"<loc{number:04d}>" for number in range(NUM_LOC_BINS)]
"""Tokens `<loc0000>` to `<loc1023>`, by bin."""
NUM_CODES = 128
"""Tokens `<seg000>` to `<seg127>`: entries of the mask codec's codebook."""
CODES_PER_MASK = 16
"""`<seg>` tokens of one mask."""
