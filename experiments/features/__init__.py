"""What features networks learn: lazy and rich training, layer after layer."""
