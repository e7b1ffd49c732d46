"""What is estimated rather than trained: quantiles, votes, effective parameters."""
