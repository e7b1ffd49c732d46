"""Training on clients that keep their data: long tails, label skew, exploration."""
