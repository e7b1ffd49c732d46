"""Catalogue rows of ``logitlab.losses.distillation``."""
