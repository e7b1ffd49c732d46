"""Losses against each other on data where they differ."""
