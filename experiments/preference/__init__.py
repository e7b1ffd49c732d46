"""Losses of preferences, where the answer can be known."""
