"""Catalogue rows of ``logitlab.losses.preference``."""
