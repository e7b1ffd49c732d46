"""Data: where batches come from."""

from logitlab.data.algorithmic import modular_pairs, sparse_parity, split

__all__ = ["modular_pairs", "sparse_parity", "split"]
