"""Catalogue rows of ``logitlab.losses.robust``."""
