"""The engine of streamed features: declarations in, exact rows out, the same for a stream, history and a test."""
