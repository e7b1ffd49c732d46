"""Learning while playing: regrets against what would have been best in hindsight."""
