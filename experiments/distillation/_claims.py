"""What ``distillation`` claims, by the tolerances that its config has."""

import numpy as np

from experiments.common.references import prototype, stated
from experiments.distillation._students import ahead, wins
from logitlab import report

GAINS = dict(
    kd=("KD at T = 4", "+4.1 points, 16 of 16 seeds"),
    kd_unscaled=("KD without the factor T²", "+4.0 points, 16 of 16"),
    mse=("matching the logits", "+4.7 points, 16 of 16"),
    dkd=("DKD", "+4.5 points, 16 of 16"),
    z_kd=("KD of standardised logits", "+3.6 points, 16 of 16"),
    nkd=("NKD", "+3.6 points, 16 of 16"),
    pld_4=("PLD at T = 4", "+3.2 points, 16 of 16"),
)
TWO_HEADS = dict(
    bkl=("BinaryKL", "+1.9 points"),
    bkl_norm=("BinaryKL-Norm", "+2.3 points"),
)


def claims(config, arms) -> list[report.Claim]:
    """The claims of a config that its arms can answer."""
    made = [
        claim
        for name, group in GROUPS.items()
        if name in config.tolerances
        for claim in group(config.tolerances[name])
    ]
    return [claim for claim in made if set(claim.needs) <= set(arms)]


def _protocol(t):
    def accuracy(arm, metric, text, value):
        return report.Claim(
            text=text,
            reference=prototype(f"{value:.3f}"),
            ours=lambda r: r[arm].final(metric),
            equals=value,
            within=t.within,
            over="mean",
            unit="test accuracy",
            needs=(arm,),
        )

    return [
        accuracy("kd", "teacher/accuracy", "the teacher is as good as the prototype's",
                 t.teacher),
        accuracy("ce", "test/accuracy", "and so is the cross-entropy's student",
                 t.student),
    ]  # fmt: skip


def _gains(t, question=False):
    out = []
    for arm, (name, numbers) in GAINS.items():
        source = _asked_or(question, numbers)
        text = f"{name} is ahead of the cross-entropy"
        out += [
            ahead(text, arm, "ce", t.points, **source),
            wins(f"{text} in most seeds", arm, "ce", t.wins, **source),
        ]
    return out


def _asked_or(question, numbers):
    """An open question, or what a prototype answered."""
    return dict(question=True) if question else dict(reference=prototype(numbers))


def _questions(t):
    """Do the gains of digits carry over to another data set?"""
    return [*_gains(t, question=True), *_softer(t, question=True)]


def _softer(t, question=False):
    return [
        ahead(
            f"{name.upper()} at T = 4 is ahead of itself at T = 1",
            f"{name}_4",
            f"{name}_1",
            t.softer,
            **_asked_or(question, numbers),
        )
        for name, numbers in (("dist", "+2.7 points"), ("pld", "+2.8 points"))
    ]


def _weights(t):
    source = dict(reference=prototype("90.4, 91.6, 93.2 %"))
    return [
        ahead("the weights of the list matter: equal ones are ahead of an over-sure "
              "teacher's", "list_mle", "pld_1", t.points, **source),
        ahead("and a softened teacher's are ahead of equal ones", "pld_4", "list_mle",
              t.points, **source),
    ]  # fmt: skip


def _two_heads(t):
    out = []
    for arm, (name, numbers) in TWO_HEADS.items():
        source = dict(reference=prototype(numbers))
        text = f"{name} on a second head is ahead of the cross-entropy"
        out += [
            ahead(text, f"{arm}_two", "ce", t.points, **source),
            wins(f"{text} in most seeds", f"{arm}_two", "ce", t.wins, **source),
        ]
    return out


def _one_head(t):
    """The paper's, of deep networks; a small one does not show them."""
    source = dict(reference=stated("on CIFAR-100 such a student collapses"))
    one, alone, two = "bkl_one", "bkl", "bkl_two"
    behind = "cross-entropy and BinaryKL on one head are worse than"
    return [
        ahead(f"{behind} the cross-entropy", "ce", one, t.points, **source),
        ahead(f"{behind} BinaryKL", alone, one, t.points, **source),
        ahead("two heads are better than one", two, one, t.points, **source),
        ahead("and than BinaryKL alone", two, alone, t.points, **source),
    ]


def _conflict(t):
    def apart(arm, step):
        def ours(results):
            head, trunk = (results[arm][f"cosine/{part}"] for part in ("head", "trunk"))
            return (head - trunk)[results[arm].steps == step][0]

        return ours

    def mean(arm, step, words, **source):
        return report.Claim(
            text="the gradients of cross-entropy and BinaryKL agree less in the last "
            f"layer than before it, {words} {step}",
            ours=apart(arm, step),
            at_most=t.apart,
            over="mean",
            unit="in cosine",
            needs=(arm,),
            **source,
        )

    slow, fast = "conflict_0.005", "conflict_0.01"
    numbers = {50: (0.203, 0.427), 200: (0.073, 0.180), 400: (0.025, 0.062)}
    return [
        *(
            mean(slow, step, "at step",
                 reference=prototype(f"{head:g} against {trunk:g}"))
            for step, (head, trunk) in numbers.items()
        ),
        report.Claim(
            text="in most seeds, at step 200",
            reference=prototype("in 87 % of them"),
            ours=lambda r: -apart(slow, 200)(r),
            above=0.0,
            over="share",
            share=t.share,
            unit="in cosine",
            needs=(slow,),
        ),
        mean(fast, 200, "at twice the learning rate, at step",
             reference=stated("the losses' gradients conflict in the last layer")),
    ]  # fmt: skip


def _scales(t):
    def toy(text, kind, value):
        return report.Claim(
            text=text,
            reference="closed form: KD 0.11049 against 0.29971, standardised 0.03985 "
            "against 0",
            ours=lambda r: (
                r["toy"].final(f"{kind}/wrong") - r["toy"].final(f"{kind}/right")
            ),
            equals=value,
            within=t.toy,
            unit="nats",
            format=".5f",
            needs=("toy",),
        )

    def spread(results):
        accuracies = [results[name].final("test/accuracy") for name in scales]
        best, worst = max(accuracies, key=np.mean), min(accuracies, key=np.mean)
        return 100 * (best - worst)

    scales = "z_kd_0.1", "z_kd_1", "z_kd_10"
    words = "standardised KD is ahead of KD with the teacher's logits times 10"
    source = dict(reference=prototype("93.6 against 90.3 %"))
    return [
        toy("in the paper's example KD prefers the wrong order to twice the right "
            "logits", "plain", 0.11049 - 0.29971),
        toy("and standardised KD does not", "standardized", 0.03985),
        report.Claim(
            text="standardised KD does not see the scale of the teacher's logits",
            reference="identity: standardised logits have no scale",
            ours=lambda r: r["z_kd_1"].final("train/scale_dependence"),
            at_most=t.invariant,
            unit="nats apart",
            needs=("z_kd_1",),
        ),
        report.Claim(
            text="nor do the students that it trains",
            reference=prototype("93.55, 93.55, 93.55 %"),
            ours=spread,
            at_most=t.same,
            over="mean",
            unit="points between the best scale and the worst",
            needs=scales,
        ),
        ahead(words, "z_kd_10", "kd_10", t.points, **source),
        wins(f"{words}, in most seeds", "z_kd_10", "kd_10", t.wins, **source),
        ahead("standardised KD is ahead of KD on the teacher's own logits", "z_kd_1",
              "kd_1", t.own, paper="76.62 against 73.33 % (CIFAR-100)"),
    ]  # fmt: skip


def _significant(text, arm, other, errors, **source):
    """A test statistic, one number for all seeds."""

    def ours(results):
        points = report.ahead("test/accuracy", arm, other)(results)
        return points.mean() / (points.std(ddof=1) / points.size**0.5)

    return report.Claim(
        text=text,
        ours=ours,
        at_least=errors,
        over="all",
        unit="standard errors",
        needs=(arm, other),
        **source,
    )


def _vocabularies(t):
    source = dict(paper="+35.6 points on arithmetic (abstract)")
    return [
        report.Claim(
            text="KD by position fails with another vocabulary's teacher",
            reference=prototype("0.9 %"),
            ours=lambda r: r["kd"].final("test/accuracy"),
            at_most=t.fails,
            over="mean",
            unit="test accuracy",
            needs=("kd",),
        ),
        ahead("ULD gains from it", "uld", "ce", t.points,
              reference=prototype("+2.1 points, 15 of 16 seeds")),
        *(
            _significant(f"GLD times {weight} gains over {words}", arm, other, t.errors,
                         **source)
            for weight, ending in ((1000, ""), (10, "_less"))
            for arm, other, words in (
                (f"gld{ending}", "ce", "the cross-entropy"),
                (f"uld_gld{ending}", "uld", "ULD"),
            )
        ),
    ]  # fmt: skip


def _self_knowledge(t):
    return [
        _significant("USKD is ahead of the cross-entropy without a teacher", "uskd",
                     "ce", t.errors,
                     reference=prototype("+0.98 points, 7 standard errors")),
        ahead("and of label smoothing", "uskd", "smooth", t.points,
              reference=prototype("+0.4 points")),
    ]  # fmt: skip


def _cnn(t):
    return _architecture(t, "69.90 to 71.96 % (ResNet-18)", "+0.89 points (ResNet-18)")


def _vit(t):
    return _architecture(t, "74.42 to 76.68 % (DeiT-Tiny)", "+0.55 points (DeiT-Tiny)")


def _architecture(t, nkd, uskd):
    return [
        ahead("NKD is ahead of the cross-entropy", "nkd", "ce", t.points, paper=nkd),
        ahead("USKD is ahead of it without a teacher", "uskd", "ce", t.points,
              paper=uskd),
    ]  # fmt: skip


GROUPS = dict(
    protocol=_protocol,
    gains=_gains,
    softer=_softer,
    weights=_weights,
    two_heads=_two_heads,
    one_head=_one_head,
    conflict=_conflict,
    scales=_scales,
    vocabularies=_vocabularies,
    self_knowledge=_self_knowledge,
    questions=_questions,
    cnn=_cnn,
    vit=_vit,
)
