"""Does it help to draw the clicks that a recommender learns from by their loss?

Some clicks are at random. A factor model of users and items draws several clicks of a
user and learns from one, the likelier the smaller its loss among that user's
(personalized denoising). Which clicks are at random is known here, and so is what the
users like that they have not been shown.

Source: Personalized denoising, Zhang et al. 2025, arXiv:2502.00348.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.curves import drawn, with_finals
from experiments.common.references import BOUND, stated
from logitlab import losses, report, weights
from logitlab.train import Compute, Study

PLAIN, CLEAN = "plain", "clean"
NDCG, SHARE = "ndcg", "clean_share"
LOSSES = {"bpr": losses.bpr_loss, "bce": losses.pairwise_bce_loss}


class Clicks(NamedTuple):
    """What every user has clicked, and more that they like.

    Attributes:
      liked: items [users, L] of the training that the user likes.
      random: items [users, R] of the training that are clicked at random.
      others: items [users, O] that are neither; the test's are among them.
      wanted: items [users, W] that the user likes, for the test.
    """

    liked: jax.Array
    random: jax.Array
    others: jax.Array
    wanted: jax.Array


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    arms = {}
    for loss in LOSSES:
        arms[f"{loss}_{PLAIN}"] = (loss, np.inf, False)
        for t in config.temperatures:
            arms[f"{loss}_{t:g}"] = (loss, t, False)
        arms[f"{loss}_{CLEAN}"] = (loss, np.inf, True)
    labels = {}
    for name, (loss, temperature, clean) in arms.items():
        drawn_by = f"drawn by loss, T = {temperature:g}"
        words = "any click" if temperature == np.inf else drawn_by
        labels[name] = f"{loss.upper()}, {'no click at random' if clean else words}"
    main = (f"bpr_{PLAIN}", f"bpr_{config.temperature:g}", f"bpr_{CLEAN}")
    ticks = ["any click", *(f"T = {t:g}" for t in config.temperatures), "clean clicks"]
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, *arm))
            for name, arm in arms.items()
        },
        figures={
            "ndcg": report.intervals(
                {
                    loss.upper(): [name for name in arms if name.startswith(loss)]
                    for loss in LOSSES
                },
                ticks,
                NDCG,
                label="NDCG@20",
                across="which click is learned from",
            ),
            "training": drawn(
                report.panels(
                    [[report.Panel(NDCG, "NDCG@20"), report.Panel(SHARE, "clean")]],
                    arms=main,
                    log_steps=False,
                    across="epoch",
                ),
                range(1, config.epochs + 1),
            ),
        },
        claims=_claims(config),
        labels=labels,
        title="Clicks at random, and clicks drawn by their loss",
        summary=(
            f"{config.num_users} users like some of {config.num_items} items, by "
            f"{config.rank} factors. Each has clicked {config.liked} that they like "
            f"and {_random(config)} at random; {config.wanted} more are the "
            f"test, ranked among all that they have not clicked. From epoch "
            f"{config.warm_up} on one of {config.pool} clicks is drawn by its loss."
        ),
        captions={
            "ndcg": "How well the items that users like are ranked, after the last "
            "epoch.",
            "training": "The same in training, and the share of the clicks that are "
            "learned from and not at random.",
        },
    )


def _random(config):
    """Clicks at random of each user."""
    return round(config.noise * config.liked)


def _check(config):
    asked = config.liked + _random(config) + config.wanted
    if not 0 < asked < config.num_items:
        raise ValueError(
            f"config.liked, config.noise and config.wanted make {asked} items of a "
            f"user, expected fewer than the {config.num_items} that there are"
        )
    if not 1 <= config.pool <= config.liked:
        raise ValueError(
            f"config.pool is {config.pool}, expected 1 to config.liked, {config.liked}"
        )
    if not 1 <= config.warm_up < config.epochs:
        raise ValueError(
            f"config.warm_up is {config.warm_up}, expected 1 to below config.epochs, "
            f"{config.epochs}"
        )
    if config.temperature not in config.temperatures:
        raise ValueError(
            f"config.temperature is {config.temperature}, expected one of "
            f"config.temperatures, {tuple(config.temperatures)}"
        )


def draw(key: jax.Array, config) -> Clicks:
    """Clicks and likes: a user takes items at the odds of their affinity."""
    user_key, item_key, like_key, show_key, random_key = jax.random.split(key, 5)
    size = config.num_users, config.num_items
    u = jax.random.normal(user_key, (config.num_users, config.rank))
    v = jax.random.normal(item_key, (config.num_items, config.rank))
    affinity = config.sharpness * (u @ v.T) / config.rank**0.5
    order = jnp.argsort(-affinity - jax.random.gumbel(like_key, size), 1)
    likes, rest = jnp.split(order, [config.liked + config.wanted], 1)
    shuffled = jax.random.permutation(random_key, rest, axis=1, independent=True)
    shown = jax.random.permutation(show_key, likes, axis=1, independent=True)
    many = _random(config)
    return Clicks(
        liked=shown[:, : config.liked],
        random=shuffled[:, :many],
        others=jnp.concatenate([shown[:, config.liked :], shuffled[:, many:]], 1),
        wanted=shown[:, config.liked :],
    )


def ndcg(scores: jax.Array, hidden: jax.Array, wanted: jax.Array, k: int) -> jax.Array:
    """NDCG@k of each user, of items that are wanted or not.

    Args:
      scores: [users, items].
      hidden: bool, items that are not ranked.
      wanted: bool, those that count.
      k: how many are shown.
    """
    _, top = jax.lax.top_k(jnp.where(hidden, -jnp.inf, scores), k)
    gains = jnp.take_along_axis(wanted, top, 1)
    discounts = 1 / jnp.log2(jnp.arange(k) + 2.0)
    best = jnp.cumsum(discounts)[jnp.minimum(wanted.sum(1), k) - 1]
    return (gains * discounts[None]).sum(1) / best


def _values(config, loss, temperature, clean, key):
    draw_key, key = jax.random.split(key)
    measures = _trained(
        key,
        draw(draw_key, config),
        temperature,
        config.learning_rate,
        config.weight_decay,
        loss=loss,
        clean=clean,
        items=config.num_items,
        shape=(config.factors, config.pool, config.k),
        epochs=(config.warm_up, config.epochs),
    )
    late = np.asarray(measures[SHARE])[config.warm_up :]
    return with_finals(measures) | {"after_warm_up": late.mean()}


@functools.partial(
    jax.jit, static_argnames=("loss", "clean", "items", "shape", "epochs")
)
def _trained(
    key,
    clicks,
    temperature,
    learning_rate,
    weight_decay,
    *,
    loss,
    clean,
    items,
    shape,
    epochs,
):
    """NDCG, and share of clean clicks that were learned from, for each epoch."""
    (factors, pool, k), (warm_up, last) = shape, epochs
    users, liked = clicks.liked.shape
    mine = clicks.liked if clean else jnp.concatenate(clicks[:2], 1)
    at = jnp.arange(users)[:, None]
    nowhere = jnp.zeros((users, items), bool)
    hidden = nowhere.at[at, jnp.concatenate(clicks[:2], 1)].set(True)
    wanted = nowhere.at[at, clicks.wanted].set(True)
    optimizer = optax.adamw(learning_rate, weight_decay=weight_decay)
    keys = jax.random.split(key, 3)
    params = tuple(
        0.1 * jax.random.normal(k, (n, factors))
        for k, n in zip(keys[:2], (users, items), strict=True)
    )

    def costs(params, positive, negative):
        """Losses [users, P] of items [users, P] against one [users, 1] each."""
        u, v = params
        scores = [
            (u[:, None] * v[item]).sum(-1)
            for item in (positive, jnp.broadcast_to(negative, positive.shape))
        ]
        return LOSSES[loss](*scores)

    def step(carry, key):
        params, state, warm = carry
        pool_key, other_key, draw_key = jax.random.split(key, 3)
        _, places = jax.lax.top_k(jax.random.uniform(pool_key, mine.shape), pool)
        other = jax.random.randint(other_key, (users, 1), 0, clicks.others.shape[1])
        negative = jnp.take_along_axis(clicks.others, other, 1)
        found = costs(params, jnp.take_along_axis(mine, places, 1), negative)
        hot = jnp.where(warm, jnp.inf, temperature)
        place = weights.personal_loss_resample(
            draw_key, found, places, temperature=hot
        )[:, None]
        positive = jnp.take_along_axis(mine, place, 1)
        grads = jax.grad(lambda p: costs(p, positive, negative).mean())(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state, warm), (place < liked).mean()

    def epoch(carry, each):
        number, key = each
        params, state = carry
        start = params, state, number < warm_up
        steps = jax.random.split(key, mine.shape[1])
        (params, state, _), shares = jax.lax.scan(step, start, steps)
        score = ndcg(params[0] @ params[1].T, hidden, wanted, k).mean()
        return (params, state), {NDCG: score, SHARE: shares.mean()}

    start = params, optimizer.init(params)
    each = jnp.arange(last), jax.random.split(keys[2], last)
    return jax.lax.scan(epoch, start, each)[1]


def _claims(config):
    bounds = config.tolerances
    base = config.liked / (config.liked + _random(config))
    drawn_by = {loss: f"{loss}_{config.temperature:g}" for loss in LOSSES}

    def ahead(loss, **claim):
        plain = f"{loss}_{PLAIN}"
        return report.Claim(
            ours=report.ahead(NDCG, drawn_by[loss], plain, scale=100),
            at_least=bounds.ahead,
            over="mean",
            unit="points of NDCG@20",
            needs=(drawn_by[loss], plain),
            **claim,
        )

    return [
        report.Claim(
            text=f"of clicks drawn by their loss (T = {config.temperature:g}) fewer "
            f"are at random than the {1 - base:.1%} that there are",
            reference=stated("clean clicks have the smaller losses of a user's"),
            ours=lambda r: 100 * (r[drawn_by["bpr"]].final("after_warm_up") - base),
            at_least=bounds.cleaner,
            over="mean",
            unit="points fewer",
            needs=(drawn_by["bpr"],),
        ),
        ahead(
            "bpr",
            text="such clicks make a better ranking than any, with BPR",
            reference=stated("ahead of plain training on three data sets"),
        ),
        ahead(
            "bce",
            text="and with binary cross-entropies",
            reference=stated("ahead of plain training on three data sets"),
        ),
        report.Claim(
            text="clicks at random cost plain BPR some of its ranking",
            reference=BOUND,
            ours=report.ahead(NDCG, f"bpr_{CLEAN}", f"bpr_{PLAIN}", scale=100),
            at_least=bounds.cost,
            over="mean",
            unit="points of NDCG@20",
            needs=(f"bpr_{CLEAN}", f"bpr_{PLAIN}"),
        ),
    ]
