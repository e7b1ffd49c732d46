"""Numbers about predictions: calibration, sets, and accuracy without labels."""
