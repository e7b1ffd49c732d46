"""What to run: a file for each family of studies, ``get_config(variant)`` in it."""
