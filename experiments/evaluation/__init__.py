"""What numbers of a model are worth: calibration, sets, scores, estimates."""
