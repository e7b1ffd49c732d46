"""What the families of studies share."""
