"""Names of the ONNX files, and how their weights are stored."""

from enum import Enum

VISION, EMBEDDINGS, DECODER = "vision_encoder", "embed_tokens", "decoder_model_merged"
"""Names of the graphs in transformers.js."""


class OnnxQuantization(Enum):
    """Storage of the weights of the ONNX files."""

    none = "none"
    """float32."""
    int8 = "int8"
    """8 bits with one scale per matrix, and products in 8 bits: smallest and fastest."""
    int8_blocks = "int8_blocks"
    """8 bits with a scale per 32 weights, and products in float32: closest to the model, and the
    one for boxes, which rounding changes first. The table of embeddings is in float16."""
    int4 = "int4"
    """As int8_blocks, with 4 bits in the decoder."""
