r"""Grokking at the edge of numerical stability (Prieto et al. 2025, arXiv:2501.04697).

python -m experiments.main --config=configs/grokking.py --workdir=runs/grokking

Variants, after a colon (`--config=configs/grokking.py:study`):
  quick    the telling arms at p=31, one seed, verdicts preliminary: four to six minutes
  study    every arm at p=31 for 60,000 steps, three fresh seeds: half an hour
  smoke    seconds; for tests and for looking at the machinery
  figure1  figure2  figure4  figure6    the paper's settings at p=113: hours on a CPU
Expected of `quick`: StableMax passes 90 % test accuracy near step 30,000, every other
unregularised cross-entropy stays below 30 %; perpGrad generalises while it memorises.
"""

import copy
import functools

from ml_collections import ConfigDict

from configs import base


def get_config(variant: str = "quick") -> ConfigDict:
    return base.choose(
        "grokking",
        variant,
        VARIANTS,
        SMOKE,
        common=_common,
        seeds=1,
        x64=True,  # for the float64 arms; every dtype below is spelled out
        mesh=dict(data=-1),
        nonfinite="stop",
        checkpoint=dict(keep=2),
    )


def _common(config):
    config.experiment = "grokking.study"
    config.preliminary = True
    config.seed, config.steps = 10, 30_000
    config.evaluate_per_decade = 25  # log-spaced evaluations
    config.stop_at = 0.95  # test accuracy at which a seed has shown what it can
    config.label = ""
    config.task = dict(name="modular", operation="add", p=31, start=0)
    config.task.update(samples=2000, parity_bits=3, noise_bits=40)  # of "parity"
    config.train_fraction = 0.8
    config.model = dict(name="MLP", param_dtype="float32")
    config.model.MLP = dict(widths=(128, 128), use_bias=False)
    config.model.OneLayerTransformer = dict(d_model=128, dropout=0.1)
    config.loss = dict(library="optax", name=CROSS_ENTROPY, link="", dtype="float32")
    config.optim = dict(name="adamw", learning_rate=1e-2, ortho_grad=False)
    config.optim.adamw = dict(b2=0.999, eps=1e-25, weight_decay=0.0)
    config.optim.sgd = dict(momentum=0.0)
    config.tolerances = dict(
        groks=0.9,  # test accuracy that counts as generalisation
        stays_below=0.3,  # test accuracy that counts as none
        collapsed=0.5,  # collapse fraction that counts as collapse
        memorised=0.999,  # train accuracy that counts as memorisation
        alignment=0.8,  # cosine between descent and weights, late in training
        alignment_within=0.2,
        weights_grow=2.0,  # times their norm at the start
    )


def _quick(config):
    config.arms = _own({name: ARMS[name] for name in QUICK})
    config.steps = 36_000  # StableMax with the study's first seed needs nearly 30,000


def _study(config):
    config.preliminary = False
    config.arms = _own(ARMS)
    config.seeds, config.steps = 3, 60_000
    config.nonfinite = "end"  # the eps of 1e-25 may blow a seed up, late


def _quick_smoke(config):
    config.arms = _own({name: {**ARMS[name], "steps": 200} for name in SMOKE_ARMS})
    config.task.p, config.model.MLP.widths = 7, (16, 16)
    config.evaluate_per_decade = 5


def _figure(name, config):
    config.seed = 42  # the official one; streams of random numbers differ anyway
    config.task.p, config.model.MLP.widths = 113, (200, 200)
    config.train_fraction, config.stop_at = 0.4, 0.99
    config.steps, arms = FIGURES[name]
    config.arms = _own(arms)


def _own(arms):
    """A ConfigDict shares what its source shares; an override is for one arm alone."""
    return {name: copy.deepcopy(arm) for name, arm in arms.items()}


CROSS_ENTROPY = "softmax_cross_entropy_with_integer_labels"
EXACT = dict(library="logitlab", name="cross_entropy")
STABLEMAX = dict(loss=dict(**EXACT, link="stablemax"))
# The official wrapper gives the inner optimiser its library's eps, whatever was asked.
PERP = dict(optim=dict(ortho_grad=True, adamw=dict(eps=1e-8)))

ARMS = dict(
    stablemax=dict(label="StableMax", **STABLEMAX),
    ce16=dict(label="softmax, float16", loss=dict(dtype="float16")),
    ce_bf16=dict(label="softmax, bfloat16", loss=dict(dtype="bfloat16")),
    ce32=dict(label="softmax, float32"),
    ce64=dict(label="softmax, float64", loss=dict(dtype="float64")),
    exact=dict(label="softmax, exact in float32", loss=EXACT),
    weight_decay=dict(
        label="softmax + weight decay",
        train_fraction=0.7,
        steps=4000,
        optim=dict(adamw=dict(b2=0.98, weight_decay=1.0)),
    ),
    perp=dict(
        label="softmax + perpGrad",
        train_fraction=0.7,
        steps=600,
        stop_at=1.1,  # memorisation comes after generalisation here: go on past it
        evaluate_per_decade=75,
        optim=dict(learning_rate=5e-3, ortho_grad=True, adamw=dict(eps=1e-8)),
    ),
    perp113=dict(
        label="softmax + perpGrad, p=113",
        task=dict(p=113),
        model=dict(MLP=dict(widths=(200, 200))),
        train_fraction=0.4,
        steps=300,
        stop_at=1.1,
        evaluate_per_decade=75,
        **PERP,
    ),
)
QUICK = ("stablemax", "ce16", "ce32", "ce64", "exact", "weight_decay", "perp")
SMOKE_ARMS = ("stablemax", "ce16", "perp")


def _precisions(fraction: float, eps: float) -> dict:
    optim = dict(learning_rate=5e-4, adamw=dict(b2=0.99, eps=eps))
    return {
        f"ce{bits}_{int(100 * fraction)}": dict(
            label=f"softmax, float{bits}, {fraction:.0%} of the pairs",
            train_fraction=fraction,
            loss=dict(dtype=f"float{bits}"),
            optim=optim,
        )
        for bits in (16, 32, 64)
    }


_PARITY = dict(
    label="StableMax, sparse parity",
    task=dict(name="parity"),
    train_fraction=0.5,
    model=dict(MLP=dict(use_bias=True)),
    optim=dict(adamw=dict(eps=1e-18)),
    **STABLEMAX,
)
_TRANSFORMER = dict(
    task=dict(start=1),
    model=dict(name="OneLayerTransformer"),
    optim=dict(learning_rate=1e-3),
)
_MLP6 = dict(steps=500, stop_at=1.1, optim=dict(learning_rate=5e-3))

FIGURES = dict(
    figure1=(
        80_000,
        dict(
            stablemax=ARMS["stablemax"],
            ce64=ARMS["ce64"],
            perp=dict(label="softmax + perpGrad", steps=300, stop_at=1.1, **PERP),
        ),
    ),
    figure2=(
        20_000,
        {
            **_precisions(0.4, 1e-30),
            **_precisions(0.6, 1e-25),
            **_precisions(0.7, 1e-25),
        },
    ),
    figure4=(
        100_000,
        dict(
            add=dict(label="StableMax, addition", **STABLEMAX),
            multiply=dict(
                label="StableMax, multiplication",
                task=dict(operation="multiply"),
                **STABLEMAX,
            ),
            parity=_PARITY,
        ),
    ),
    figure6=(
        5000,
        dict(
            transformer=dict(label="transformer", **_TRANSFORMER),
            transformer_decay=dict(
                _TRANSFORMER,
                label="transformer + weight decay",
                optim=dict(learning_rate=1e-3, adamw=dict(weight_decay=1.5)),
            ),
            transformer_perp=dict(
                _TRANSFORMER,
                label="transformer + perpGrad",
                optim=dict(learning_rate=1e-3, ortho_grad=True, adamw=dict(eps=1e-8)),
            ),
            mlp=dict(label="MLP", **_MLP6),
            mlp_perp=dict(
                _MLP6,
                label="MLP + perpGrad",
                optim=dict(learning_rate=5e-3, ortho_grad=True, adamw=dict(eps=1e-8)),
            ),
            mlp_sgd=dict(
                _MLP6,
                label="MLP, StableMax, SGD + perpGrad",
                loss=dict(**EXACT, link="stablemax", dtype="float64"),
                model=dict(param_dtype="float64"),
                optim=dict(
                    name="sgd",
                    learning_rate=10.0,
                    ortho_grad=True,
                    sgd=dict(momentum=0.8),
                ),
            ),
        ),
    ),
)

VARIANTS = dict(
    quick=_quick,
    study=_study,
    **{name: functools.partial(_figure, name) for name in FIGURES},
)
SMOKE = dict(quick=_quick_smoke)
