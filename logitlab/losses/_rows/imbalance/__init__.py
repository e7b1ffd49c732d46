"""Catalogue rows of ``logitlab.losses.imbalance``."""
