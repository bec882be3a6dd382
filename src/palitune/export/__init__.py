"""Export: merged checkpoints, ONNX graphs, parity checks, upload to the Hub."""
