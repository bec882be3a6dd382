"""Text generation: KV cache, decoding strategies, and constrained decoding."""
