"""Catalogue rows of ``logitlab.losses.policy_gradient``."""
