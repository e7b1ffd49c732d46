"""What scores and denoisers learn, against oracles that are known exactly."""
