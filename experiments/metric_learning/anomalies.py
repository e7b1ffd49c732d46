"""Which of many unlabeled images are anomalous? Mutual scoring of their patches (MuSc).

Images are four digits of one class, tiled. Some of them got a block of noise, the same
in all of them as a defect that recurs, or a block of inverted pixels. No image is
labeled: a patch scores by its distance from the patches of the other images that match
it best.

Source: MuSc, Li et al. 2024, arXiv:2401.16753.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.claims import ahead
from experiments.common.datasets import digits
from experiments.common.keys import once_per_key
from experiments.common.references import stated
from logitlab import metrics, report
from logitlab.report import figures
from logitlab.train import Compute, Study

CLASSES, SIDE, TILES = 10, 8, 4
MUTUAL, ALL, NEAREST, RESCORED = "mutual", "all", "nearest", "rescored"
LABELS = {
    MUTUAL: "mutual scores",
    ALL: "mean over all images",
    NEAREST: "nearest image",
    RESCORED: "mutual scores, rescored",
}
KINDS = ("block", "flip")


class Images(NamedTuple):
    """Images of one class, of which the first few are anomalous.

    Attributes:
      pixels: from 0 to 1, [N, 16, 16].
      changed: bool, where an anomaly is, [N, 16, 16].
    """

    pixels: jax.Array
    changed: jax.Array


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    measured = once_per_key(lambda key: measure(key, config))
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in LABELS
        },
        figures={
            "auroc": report.intervals(
                {"all": list(LABELS)},
                [label.replace(" ", "\n") for label in LABELS.values()],
                "auroc",
                label="AUROC of images",
            ),
            "maps": _maps,
        },
        claims=_claims(config),
        labels=LABELS,
        title="Anomalies among unlabeled images",
        summary=(
            f"{config.images} images of four tiled digits of one class, for each of "
            f"the {len(config.classes)} classes, of which {config.anomalous} have an "
            f"anomaly: half of them have the same block of {config.block} times "
            f"{config.block} pixels of noise somewhere, in the others a block of "
            f"{config.flip} times {config.flip} pixels is inverted. A patch is the "
            "three times three pixels around each pixel, averaged over neighborhoods "
            f"of side {', '.join(map(str, config.degrees))}. The tokens for rescoring "
            "are the images less the mean image."
        ),
        captions={
            "auroc": (
                "How well scores tell anomalous images from the others, in the mean "
                "over classes."
            ),
            "maps": (
                "Anomalous images of the first seed, and mutual scores of their "
                "patches."
            ),
        },
    )


def _check(config):
    if not 2 <= config.anomalous < config.images or config.anomalous % 2:
        raise ValueError(
            f"config.anomalous is {config.anomalous}, expected an even number of "
            f"config.images, {config.images}"
        )
    if not config.classes or not all(0 <= c < CLASSES for c in config.classes):
        raise ValueError(f"config.classes is {tuple(config.classes)}, expected digits")
    rows = np.bincount(digits()[1])[list(config.classes)].min()
    if TILES * config.images > rows:
        raise ValueError(
            f"config.images is {config.images}, expected at most {rows // TILES}, for "
            "which there are digits"
        )
    for kind in KINDS:
        if not 1 <= config[kind] <= SIDE:
            raise ValueError(
                f"config.{kind} is {config[kind]}, expected a block inside of a digit"
            )


def draw(key, digit: int, *, images: int, anomalous: int, block: int, flip: int):
    """Images of a digit, each example of which is in one of them at most."""
    x, y = digits(centered=False)
    x = x.reshape(-1, SIDE, SIDE).astype(np.float32)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    tiles = rng.permutation(x[y == digit])[: TILES * images]
    pixels = np.block([[tiles[a::TILES] for a in pair] for pair in ((0, 1), (2, 3))])
    changed = np.zeros(pixels.shape, bool)
    noise = rng.uniform(size=(block, block))
    for i in range(anomalous):
        size = block if i % 2 == 0 else flip
        at = [SIDE * rng.integers(2) + rng.integers(SIDE - size + 1) for _ in "ij"]
        place = (i, *(slice(a, a + size) for a in at))
        pixels[place] = noise if i % 2 == 0 else 1 - pixels[place]
        changed[place] = True
    return Images(jnp.asarray(pixels), jnp.asarray(changed))


def patches(pixels: jax.Array) -> jax.Array:
    """The 3 x 3 pixels around each, [N, H, W] -> [N, H, W, 9]."""
    height, width = pixels.shape[1:]
    padded = jnp.pad(pixels, ((0, 0), (1, 1), (1, 1)))
    return jnp.stack(
        [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)],
        -1,
    )


def measure(key: jax.Array, config) -> dict:
    """AUROC of each kind of score, in the mean over classes; maps of the first."""
    sizes = {name: config[name] for name in ("images", "anomalous", *KINDS)}
    keys = jax.random.split(key, CLASSES)
    sets = [draw(keys[digit], digit, **sizes) for digit in config.classes]
    sets = jax.tree.map(lambda *a: jnp.stack(a), *sets)
    found = _scored(
        sets.pixels,
        degrees=tuple(config.degrees),
        shares=tuple(config.shares),
        ks=tuple(config.ks),
    )
    maps = found.pop("maps")
    values = {name: _aurocs(s, config.anomalous) for name, s in found.items()}
    shown = slice(0, min(4, config.anomalous))
    values[MUTUAL] |= {"pixels": sets.pixels[0, shown], "maps": maps[0, shown]}
    return values


@functools.partial(jax.jit, static_argnames=("degrees", "shares", "ks"))
def _scored(pixels, *, degrees, shares, ks):
    """Scores of the images of each class, [classes, N]; maps of mutual scores."""
    fractions = {MUTUAL: shares, ALL: (0.0, 1.0), NEAREST: (0.0, 1e-9)}

    def of_class(pixels):
        features = patches(pixels)
        maps = dict.fromkeys(fractions, 0.0)
        for degree in degrees:
            z = metrics.local_neighborhood_aggregate(features, degree=degree)
            for name, (low, high) in fractions.items():
                s = metrics.mutual_scores(z, frac_min=low, frac_max=high)
                maps[name] = maps[name] + s / len(degrees)
        scores = {name: s.max(-1) for name, s in maps.items()}
        tokens = pixels.reshape(len(pixels), -1)
        tokens = tokens - tokens.mean(0, keepdims=True)
        again = metrics.rescore_by_neighborhood(scores[MUTUAL], tokens, ks=ks)
        return scores | {RESCORED: again, "maps": maps[MUTUAL].reshape(pixels.shape)}

    return jax.lax.map(of_class, pixels)


def _aurocs(scores, anomalous):
    """Of scores [classes, N], in the mean over classes, by kind and for all."""

    def auroc(places):
        found = jax.vmap(lambda s: metrics.auroc(-s[anomalous:], -s[places]))(scores)
        return found.mean()

    first = np.arange(anomalous)
    kinds = {f"auroc/{k}": auroc(first[i::2]) for i, k in enumerate(KINDS)}
    return {"auroc": auroc(first)} | kinds


def _maps(results):
    import matplotlib

    arrays = results[MUTUAL].arrays
    rows = arrays["pixels"][0], arrays["maps"][0]
    with matplotlib.rc_context(figures._LOOK):
        figure = figures._figure((1.2, 1.2), len(rows[0]), 2, None)
        grid = figure.subplots(2, len(rows[0]), squeeze=False)
        for axes, images, color in zip(grid, rows, ("gray_r", "magma"), strict=True):
            top = np.max(images)
            for one, image in zip(axes, images, strict=True):
                one.imshow(image, cmap=color, vmin=0, vmax=top)
                one.set_xticks([])
                one.set_yticks([])
        for axes, name in zip(grid[:, 0], ("image", "scores"), strict=True):
            axes.set_ylabel(name)
        for axes, place in zip(grid[0], range(len(rows[0])), strict=True):
            axes.set_title("noise" if place % 2 == 0 else "inverted")
    return figure


def _claims(config):
    bounds = config.tolerances
    better = stated("an interval average of the best matches is the better score")
    return [
        report.Claim(
            text="mutual scores tell anomalous images from others",
            reference=stated("state of the art without labels or training"),
            ours=lambda r: r[MUTUAL].final("auroc"),
            above=bounds.auroc,
            over="mean",
            unit="AUROC",
            needs=(MUTUAL,),
        ),
        *(
            ahead(
                f"and do so better than {words}",
                "auroc",
                MUTUAL,
                other,
                reference=better,
                above=0.0,
                over="mean",
                unit="of AUROC ahead",
            )
            for other, words in (
                (ALL, "the mean over all images"),
                (NEAREST, "the nearest image alone"),
            )
        ),
        ahead(
            "scores averaged over images that look alike are no worse",
            "auroc",
            RESCORED,
            MUTUAL,
            reference=stated("rescoring suppresses false positives"),
            at_least=-bounds.rescored,
            over="mean",
            unit="of AUROC ahead",
        ),
    ]
