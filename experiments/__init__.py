"""Experiments: one module for each question, and ``main``, the only door."""
