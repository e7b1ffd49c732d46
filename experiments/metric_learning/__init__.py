"""Embeddings and similarities: what they find, and what they keep of a stream."""
