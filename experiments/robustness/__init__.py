"""Attacks, training against them, certificates, and telling attacked inputs."""
