"""What representations of data are worth, and what fits of them may rely on."""
