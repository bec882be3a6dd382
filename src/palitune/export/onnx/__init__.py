"""ONNX files in the layout of transformers.js, quantized or not, and generation with them."""
