"""Small problems of deciding whose regret can be computed."""
