"""Metrics on captions: CIDEr-D, BLEU, ROUGE-L, METEOR and SPICE."""
