"""Who should stand where, if every ad that is shown takes clicks from the others?

Users choose one of the ads that they see, or none, by a multinomial logit model. The
best allocation knows that, an assignment of ads to positions by clicks of their own
does not. Payments are those of Vickrey, Clarke and Groves, or of Myerson: then virtual
values take the place of the values, and revenue that of the welfare. In the cascade
model users read ads in order and stop at the first click.

Source: Position Auctions in AI-Generated Content, arXiv:2506.03309.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import stated
from logitlab import decisions, report
from logitlab.train import Compute, Study

OPTIMAL, SEPARABLE = "optimal", "separable"
VCG, FIRST, MYERSON = "vcg", "first_price", "myerson"
CASCADE = "cascade"
LABELS = {
    OPTIMAL: "best for the choice model",
    SEPARABLE: "assignment by own clicks",
    VCG: "VCG",
    FIRST: "pay your bid",
    MYERSON: "Myerson",
    CASCADE: "cascade",
}


def build(config) -> Study:
    """The study; nothing here draws, writes or prints."""
    reports = tuple(config.reports)
    if 1.0 not in reports or list(reports) != sorted(set(reports)) or reports[0] < 0:
        raise ValueError(
            f"config.reports is {reports}, expected growing numbers, one of them 1"
        )
    if not 1 <= max(config.small.k, config.k) <= config.positions:
        raise ValueError(
            f"config.k and config.small.k are {config.k} and {config.small.k}, "
            f"expected 1 to config.positions, {config.positions}"
        )
    return Study(
        arms={
            name: Compute(functools.partial(values, config))
            for name, values in {
                OPTIMAL: _exact,
                SEPARABLE: _separable,
                VCG: functools.partial(_misreports, VCG),
                FIRST: functools.partial(_misreports, FIRST),
                MYERSON: _revenue,
                CASCADE: _cascade,
            }.items()
        },
        figures={
            "welfare": report.trends(
                {s: f"welfare/{s:g}" for s in config.spreads},
                arms=(SEPARABLE,),
                label="share of the best welfare",
                across="standard deviation of the utilities",
                bound=(1.0, LABELS[OPTIMAL]),
            ),
            "misreports": report.trends(
                {share: f"gain/{share:g}" for share in reports},
                arms=(VCG, FIRST),
                label="utility gained by misreporting",
                across="bid over true value",
                bound=(0.0, "the truth"),
            ),
            "cascade": report.trends(
                {k: f"welfare/{k}" for k in range(1, config.cascade.most + 1)},
                arms=(CASCADE,),
                label="welfare of the order by p v, over the best",
                across="ads in the list",
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Auctions of positions when ads compete for one click",
        summary=(
            f"{config.advertisers} advertisers and {config.positions} positions, of "
            f"which {config.k} are filled at most. Values are uniform in [0, 1], "
            "utilities normal, lower further down. The best allocation is tried "
            "against all others where there are few."
        ),
        captions={
            "welfare": "What an assignment that ignores the other ads loses.",
            "misreports": "What an advertiser gains by another bid than the truth.",
            "cascade": "What the order by expected value loses where users stop at the "
            "first click.",
        },
    )


def draw(rng, advertisers: int, positions: int, spread: float):
    """Utilities [I, J] and values [I]."""
    utilities = rng.normal(size=(advertisers, 1)) * spread + 0.5 * rng.normal(
        size=(advertisers, positions)
    )
    return utilities - 0.3 * np.arange(positions), rng.uniform(size=advertisers)


def welfare(alloc, utilities, values) -> float:
    """Expected value of the click in the choice model."""
    clicks = np.where(alloc, np.exp(utilities), 0).sum(1)
    return (values * clicks).sum() / (1 + clicks.sum())


def best_of_all(utilities, values, k: int) -> float:
    """The largest welfare of all allocations, each tried."""
    advertisers, positions = utilities.shape
    best = 0.0
    for many in range(1, k + 1):
        for places in itertools.combinations(range(positions), many):
            for ads in itertools.permutations(range(advertisers), many):
                alloc = np.zeros(utilities.shape, bool)
                alloc[ads, places] = True
                best = max(best, welfare(alloc, utilities, values))
    return best


def separable(utilities, values, k: int) -> np.ndarray:
    """Allocation by values times the clicks that an ad has if it is the only one."""
    from scipy.optimize import linear_sum_assignment

    gains = values[:, None] / (1 + np.exp(-utilities))
    rows, columns = linear_sum_assignment(gains[:, :k], maximize=True)
    alloc = np.zeros(utilities.shape, bool)
    alloc[rows, columns] = True
    return alloc


def clicks_of(utilities, values, k: int, ad: int) -> float:
    """Probability that an ad is clicked in the allocation that is best for values."""
    alloc = decisions.mnl_optimal_allocation(utilities, values, k=k)
    return welfare(alloc, utilities, np.eye(len(values))[ad])


def best_cascade(values, probs, k: int) -> tuple[float, tuple]:
    """Largest welfare of a list of at most k ads, and the list.

    By a program over ads in the order of their values, which is that of a best list:
    two neighbors in another order gain from changing places.
    """
    best = [(0.0, ())] * (k + 1)  # of the ads so far, the cheapest first
    for ad in np.argsort(values):
        first = [
            (values[ad] * probs[ad] + (1 - probs[ad]) * w, (ad, *ads))
            for w, ads in best
        ]
        best = [best[0], *map(max, zip(best[1:], first, strict=False))]
    return best[k]


def listed(ads, values, probs) -> float:
    """Welfare of a list of ads in the cascade model."""
    ads = np.array(ads, int)
    clicks = decisions.cascade_click_probs(jnp.asarray(probs[ads], "f4"))
    return float((np.asarray(clicks, float) * values[ads]).sum())


def _rng(key):
    return np.random.default_rng(int(jax.random.randint(key, (), 0, 2**31 - 1)))


def _exact(config, key):
    """How far the best allocation is from the best of all that are tried."""
    rng, small, worst = _rng(key), config.small, 0.0
    for _ in range(small.instances):
        u, v = draw(rng, small.advertisers, small.positions, 1.0)
        alloc = decisions.mnl_optimal_allocation(u, v, k=small.k)
        found = float(
            decisions.mnl_welfare(jnp.asarray(alloc), *map(jnp.asarray, (u, v)))
        )
        worst = max(worst, abs(found - best_of_all(u, v, small.k)))
    return {"off": worst}


def _separable(config, key):
    rng, values = _rng(key), {}
    for spread in config.spreads:
        totals = np.zeros(2)
        for _ in range(config.instances):
            u, v = draw(rng, config.advertisers, config.positions, spread)
            best = decisions.mnl_optimal_allocation(u, v, k=config.k)
            totals += [
                welfare(alloc, u, v) for alloc in (separable(u, v, config.k), best)
            ]
        values[f"welfare/{spread:g}"] = totals[0] / totals[1]
    return values


def _misreports(rule, config, key):
    """Utility of one advertiser with other bids, less that with the true value."""
    rng, gains = _rng(key), []
    for _ in range(config.bidders):
        u, v = draw(rng, config.advertisers, config.positions, 1.0)
        ad = rng.integers(config.advertisers)
        row = []
        for share in config.reports:
            bids = v.copy()
            bids[ad] *= share
            clicks = clicks_of(u, bids, config.k, ad)
            if rule == VCG:
                paid = decisions.vcg_payments(u, bids, k=config.k)[ad]
            else:
                paid = bids[ad] * clicks
            row.append(v[ad] * clicks - paid)
        gains.append(np.array(row) - row[list(config.reports).index(1.0)])
    gains = np.array(gains)
    means = zip(config.reports, gains.mean(0), strict=True)
    return {"most": gains.max()} | {f"gain/{s:g}": gain for s, gain in means}


def _revenue(config, key):
    """Revenue with virtual values and with VCG, and what virtual values promise."""
    rng, rows = _rng(key), []
    for _ in range(config.instances):
        u, v = draw(rng, config.advertisers, config.positions, 1.0)
        virtual = 2 * v - 1  # v - (1 - F) / f of the uniform distribution
        alloc = decisions.mnl_optimal_allocation(u, virtual, k=config.k)
        paid = sum(
            _myerson_payment(u, v, config.k, ad, config.grid)
            for ad in np.flatnonzero(alloc.any(1))
        )
        vcg = decisions.vcg_payments(u, v, k=config.k).sum()
        rows.append([paid, vcg, welfare(alloc, u, virtual)])
    paid, vcg, promised = np.mean(rows, 0)
    return {"revenue": paid, "vcg": vcg, "promised": promised}


def _myerson_payment(u, v, k, ad, grid):
    """Value times clicks, less the clicks at all lower bids (midpoint rule)."""
    low = 0.5  # below it the virtual value is negative: no clicks
    lower = low + (v[ad] - low) * (np.arange(grid) + 0.5) / grid

    def clicks(bid):
        bids = v.copy()
        bids[ad] = bid
        return clicks_of(u, 2 * bids - 1, k, ad)

    return v[ad] * clicks(v[ad]) - (v[ad] - low) * np.mean([*map(clicks, lower)])


def _cascade(config, key):
    rng, cascade, off = _rng(key), config.cascade, 0.0
    totals = np.zeros((cascade.most, 2))
    for _ in range(cascade.instances):
        v, p = rng.uniform(size=cascade.ads), rng.uniform(size=cascade.ads)
        by_gain = np.argsort(-v * p)
        for k in range(1, cascade.most + 1):
            best, ads = best_cascade(v, p, k)
            off = max(off, abs(best - listed(ads, v, p)))
            if k <= cascade.tried:
                lists = itertools.permutations(range(cascade.ads), k)
                chosen = np.array(list(lists))
                reached = np.cumprod(1 - p[chosen], 1)
                reached = np.concatenate(
                    [np.ones((len(chosen), 1)), reached[:, :-1]], 1
                )
                every = (v[chosen] * p[chosen] * reached).sum(1)
                off = max(off, abs(best - every.max()))
            totals[k - 1] += listed(by_gain[:k], v, p), best
    shares = totals[:, 0] / totals[:, 1]
    return {"off": off} | {f"welfare/{k + 1}": s for k, s in enumerate(shares)}


def _claims(config):
    bounds = config.tolerances
    spread = config.spreads[-1]
    return [
        report.Claim(
            text="Dinkelbach's iteration finds the best allocation",
            reference="theorem: it ends at the largest ratio",
            ours=lambda r: r[OPTIMAL].final("off"),
            at_most=bounds.exact,
            unit="off the best of all",
            needs=(OPTIMAL,),
        ),
        report.Claim(
            text="no misreport raises an advertiser's utility under VCG",
            reference="theorem: VCG is truthful",
            ours=lambda r: r[VCG].final("most"),
            at_most=bounds.exact,
            unit="gained at most",
            needs=(VCG,),
        ),
        report.Claim(
            text="with payments of the bid some do",
            reference="theorem: at the true value nothing is left",
            ours=lambda r: r[FIRST].final("most"),
            above=bounds.gain,
            unit="gained at most",
            needs=(FIRST,),
        ),
        report.Claim(
            text="the allocation that knows the choice model is ahead of an assignment "
            "by own clicks",
            reference=stated("substitution between ads must be taken into account"),
            ours=lambda r: 1 - r[SEPARABLE].final(f"welfare/{spread:g}"),
            at_least=bounds.ahead,
            over="mean",
            format=".1%",
            unit="of the welfare",
            needs=(SEPARABLE,),
        ),
        report.Claim(
            text="virtual values bring in more than VCG",
            reference="theorem: no truthful auction brings in more (Myerson)",
            ours=lambda r: r[MYERSON].final("revenue") / r[MYERSON].final("vcg") - 1,
            at_least=bounds.revenue,
            over="mean",
            format=".1%",
            unit="more",
            needs=(MYERSON,),
        ),
        report.Claim(
            text="Myerson's payments are the virtual values of the clicks, on average",
            reference="theorem: revenue is virtual welfare",
            ours=lambda r: r[MYERSON].final("revenue") - r[MYERSON].final("promised"),
            equals=0.0,
            within=bounds.promised,
            over="mean",
            unit="apart",
            needs=(MYERSON,),
        ),
        report.Claim(
            text="in a cascade the best list is in the order of values",
            reference="theorem: neighbors in another order gain by changing places",
            ours=lambda r: r[CASCADE].final("off"),
            at_most=bounds.exact,
            unit="off the best of all lists",
            needs=(CASCADE,),
        ),
        report.Claim(
            text="it is ahead of the list by values times click probabilities",
            reference=stated("the order matters to the allocation"),
            ours=lambda r: 1 - r[CASCADE].final(f"welfare/{config.cascade.most}"),
            at_least=bounds.ahead,
            over="mean",
            format=".1%",
            unit="of the welfare",
            needs=(CASCADE,),
        ),
    ]
