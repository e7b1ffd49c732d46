"""What holds when the test data are not the training data."""
