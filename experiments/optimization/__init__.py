"""Optimizers that know what a logit is, schedules, searches, soups."""
