"""Catalogue rows of ``logitlab.losses.multinomial_choice``."""

import jax

from logitlab.losses._rows import Row
from logitlab.losses.multinomial_choice import mnl_loss


def _choices(key, shape, dtype):
    """The last alternative is nobody's choice, so that it can be hidden."""
    key, choice_key = jax.random.split(key)
    utilities = 3 * jax.random.normal(key, shape, dtype)
    most = max(shape[-1] - 1, 1)
    return utilities, jax.random.randint(choice_key, shape[:-1], -1, most)


ROWS = (
    Row(
        mnl_loss,
        kind="example",
        make=_choices,
        source="Multinomial logit; position auctions, arXiv:2506.03309",
        definition="paper",
        shift_invariant=False,
        convex=True,
        symmetric=False,
        note="Choosing none of the alternatives has utility 0 by default.",
    ),
)
