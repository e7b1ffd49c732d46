"""What the default run takes of many parameters."""

import pytest


def first_of(values):
    """Parameters of which the default run takes the first, and ``-m slow`` the rest."""
    first, *rest = values
    return [first, *(pytest.param(value, marks=pytest.mark.slow) for value in rest)]
