"""What several models know together when the test data are not the training data."""
