"""How cross-entropy falls with parameters, data and compute."""
