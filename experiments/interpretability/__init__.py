"""Where a logit comes from, and what may be taken from a network without harm."""
