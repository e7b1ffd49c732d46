"""Grokking at the edge of numerical stability."""
