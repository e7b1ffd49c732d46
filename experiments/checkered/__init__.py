"""Checkered regression, and descent along cross-gradients."""
