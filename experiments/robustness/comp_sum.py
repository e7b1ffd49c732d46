"""Does a penalty on how far an attack moves the margins do what TRADES does?

Smooth adversarial comp-sum losses (ADV-COMP-SUM) add to the clean loss the largest
change of the margins within a ball. Digits are learned with two weights of it, by the
cross-entropy of clean and of attacked images, and by TRADES.

Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.
"""

import dataclasses
import functools

import jax

from experiments.common.claims import ahead
from experiments.common.references import prototype, stated
from experiments.robustness._attacked import attacked_run, drawing, network
from logitlab import attacks, losses, report
from logitlab.train import Run, Study
from logitlab.train.config import check_name

CE, PGD, TRADES = "ce", "pgd", "trades"
CLEAN, ROBUST = "accuracy", "robust/union"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    plain = {
        CE: "cross-entropy",
        PGD: "of attacked images",
        TRADES: f"TRADES, β = {config.beta:g}",
    }
    for name in config.baselines:
        check_name(name, plain, "config.baselines")
    if not config.nus or min(config.nus) <= 0:
        raise ValueError(
            f"config.nus is {tuple(config.nus)}, expected positive weights"
        )
    draw = drawing(config.train)
    at = functools.partial(_smooth, config, draw)
    smooth = {arm_name(nu): {"nu": nu} for nu in config.nus}
    labels = {name: plain[name] for name in config.baselines}
    labels |= {arm_name(nu): f"comp-sum, ν = {nu:g}" for nu in config.nus}
    return Study(
        arms={name: _plain(config, draw, name) for name in config.baselines}
        | {
            name: dataclasses.replace(at(values), values=values, at=at)
            for name, values in smooth.items()
        },
        figures={
            "price": report.frontier(
                {words: {name: ""} for name, words in labels.items()},
                across=(CLEAN, "accuracy of clean images"),
                up=(ROBUST, "robust accuracy"),
            )
        },
        claims=_claims(config),
        labels=labels,
        title="Smooth adversarial comp-sum losses",
        summary=(
            f"An MLP learns {config.train} digits for {config.steps} steps of Adam on "
            f"batches of {config.batch_size}; all losses but one see what "
            f"{config.attack.steps} steps of PGD find within {config.attack.eps:g} of "
            "each pixel: what raises the loss, for TRADES the divergence from the "
            "clean output, for comp-sum the change of the margins. The others are "
            f"tested by {config.test_steps} steps of Auto-PGD within the same."
        ),
        captions={"price": "Up and to the right is better."},
    )


def arm_name(nu: float) -> str:
    """Name of the arm of a weight of the margins' change."""
    return f"nu_{nu:g}"


def found(config, logits_fn, batch, key, objective):
    """Images of a batch after the ascent of an objective, and the clean logits.

    The objective takes clean logits, attacked ones and labels.
    """
    still = jax.lax.stop_gradient(logits_fn(batch["x"]))
    eps = config.attack.eps
    return attacks.pgd(
        logits_fn,
        batch["x"],
        batch["y"],
        loss=lambda z, y: objective(still, z, y),
        eps=eps,
        steps=config.attack.steps,
        step_size=config.attack.step * eps,
        key=key,
    ).inputs


def _run(config, draw, objective, loss) -> Run:
    """Of a loss of clean logits, attacked ones and labels."""
    model = network(config)

    def each(params, batch, key):
        def logits_fn(x, params=params):
            return model.apply({"params": params}, x)

        clean = logits_fn(batch["x"])
        if objective is None:
            return loss(clean, None, batch["y"])
        fixed = functools.partial(logits_fn, params=jax.lax.stop_gradient(params))
        x = jax.lax.stop_gradient(found(config, fixed, batch, key, objective))
        return loss(clean, logits_fn(x), batch["y"])

    tested = {"inf": ("inf", config.attack.eps)}
    return attacked_run(config, draw, each, tested=tested)


def _plain(config, draw, name) -> Run:
    objective, loss = {
        CE: (None, lambda z, attacked, y: losses.cross_entropy(z, y)),
        PGD: (
            lambda z, attacked, y: attacks.label_odds(attacked, y),
            lambda z, attacked, y: losses.cross_entropy(attacked, y),
        ),
        TRADES: (
            functools.partial(losses.trades_loss, beta=1.0),
            functools.partial(losses.trades_loss, beta=config.beta),
        ),
    }[name]
    return _run(config, draw, objective, loss)


def _smooth(config, draw, values) -> Run:
    loss = functools.partial(losses.smooth_adversarial_comp_sum_loss, nu=values["nu"])
    return _run(config, draw, losses.margin_shift_penalty, loss)


def _claims(config):
    bounds, first = config.tolerances, arm_name(config.nus[0])
    better = "better than TRADES, clean and attacked"
    points = dict(scale=100, over="mean", unit="points")
    claims = [
        ahead(
            "comp-sum is far more robust than the cross-entropy of clean images",
            ROBUST,
            first,
            CE,
            reference=prototype("0.766 against 0.37"),
            at_least=100 * bounds.gain,
            **points,
        ),
        ahead(
            "and next to as accurate",
            CLEAN,
            first,
            CE,
            reference=prototype("0.971 against 0.97"),
            at_least=-100 * bounds.clean,
            **points,
        ),
        ahead(
            "it is as accurate on clean images as TRADES",
            CLEAN,
            first,
            TRADES,
            reference=stated(better, "0.971 against 0.966"),
            at_least=0.0,
            **points,
        ),
        ahead(
            "and not much less robust",
            ROBUST,
            first,
            TRADES,
            reference=prototype("0.766 against 0.775"),
            at_least=-100 * bounds.behind,
            **points,
        ),
        ahead(
            "it is more robust than TRADES",
            ROBUST,
            first,
            TRADES,
            reference=stated(better, "0.766 against 0.775"),
            above=0.0,
            **points,
        ),
        ahead(
            "it is more robust than training on attacked images",
            ROBUST,
            first,
            PGD,
            reference=prototype("0.766 against 0.751"),
            above=0.0,
            **points,
        ),
        *(
            ahead(
                f"a weight of {nu:g} instead of {config.nus[0]:g} costs {what}",
                metric,
                first,
                arm_name(nu),
                reference=prototype(numbers),
                above=0.0,
                **points,
            )
            for nu in config.nus[1:]
            for what, metric, numbers in (
                ("clean accuracy", CLEAN, "0.971 against 0.908"),
                ("robust accuracy", ROBUST, "0.766 against 0.702"),
            )
        ),
    ]
    arms = {*config.baselines, *map(arm_name, config.nus)}
    return [claim for claim in claims if arms >= {*claim.needs}]
