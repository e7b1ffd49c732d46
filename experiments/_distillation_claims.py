"""What ``distillation`` claims, by the tolerances that its config has."""

from experiments._students import ahead, gain, wins
from logitlab import report

GAINS = dict(
    kd=("KD at T = 4", "+4.1 points, 16 of 16 seeds (pilot)"),
    kd_unscaled=("KD without the factor T²", "+4.0 points, 16 of 16 (pilot)"),
    mse=("matching the logits", "+4.7 points, 16 of 16 (pilot)"),
    dkd=("DKD", "+4.5 points, 16 of 16 (pilot)"),
    z_kd=("KD of standardised logits", "+3.6 points, 16 of 16 (pilot)"),
    nkd=("NKD", "+3.6 points, 16 of 16 (pilot)"),
    pld_4=("PLD at T = 4", "+3.2 points, 16 of 16 (pilot)"),
)
TWO_HEADS = dict(
    bkl=("BinaryKL", "+1.9 points (pilot)"),
    bkl_norm=("BinaryKL-Norm", "+2.3 points (pilot)"),
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
    def accuracy(arm, metric, text, paper, value):
        return report.Claim(
            text=text,
            paper=paper,
            ours=lambda r: r[arm].final(metric).mean(),
            equals=value,
            within=t.within,
            unit="test accuracy",
            needs=(arm,),
        )

    return [
        accuracy("kd", "teacher/accuracy", "the teacher is as good as the pilot's",
                 "0.976 (pilot)", t.teacher),
        accuracy("ce", "test/accuracy", "and so is the cross-entropy's student",
                 "0.900 (pilot)", t.student),
    ]  # fmt: skip


def _gains(t, paper=None, **more):
    out = []
    for arm, (name, pilot) in GAINS.items():
        text, source = f"{name} is ahead of the cross-entropy", paper or pilot
        out += [
            ahead(text, source, arm, "ce", t.points, **more),
            wins(f"{text} in most seeds", source, arm, "ce", t.wins, **more),
        ]
    return out


def _questions(t):
    """Do the gains of digits carry over to another data set?"""
    ours = dict(paper="not in a paper: ours", question=True)
    return [*_gains(t, **ours), *_softer(t, **ours)]


def _softer(t, paper=None, **more):
    pilots = {"dist": "+2.7 points (pilot)", "pld": "+2.8 points (pilot)"}
    return [
        ahead(
            f"{name.upper()} at T = 4 is ahead of itself at T = 1",
            paper or pilot,
            f"{name}_4",
            f"{name}_1",
            t.softer,
            **more,
        )
        for name, pilot in pilots.items()
    ]


def _weights(t):
    pilot = "90.4, 91.6, 93.2 % (pilot)"
    return [
        ahead("the weights of the list matter: equal ones are ahead of an over-sure "
              "teacher's", pilot, "list_mle", "pld_1", t.points),
        ahead("and a softened teacher's are ahead of equal ones", pilot, "pld_4",
              "list_mle", t.points),
    ]  # fmt: skip


def _two_heads(t):
    out = []
    for arm, (name, pilot) in TWO_HEADS.items():
        text = f"{name} on a second head is ahead of the cross-entropy"
        out += [
            ahead(text, pilot, f"{arm}_two", "ce", t.points),
            wins(f"{text} in most seeds", pilot, f"{arm}_two", "ce", t.wins),
        ]
    return out


def _one_head(t):
    """The paper's, of deep networks; a small one does not show them (pilot)."""
    paper = "the student collapses (CIFAR-100)"
    one, alone, two = "bkl_one", "bkl", "bkl_two"
    behind = "cross-entropy and BinaryKL on one head are worse than"
    return [
        ahead(f"{behind} the cross-entropy", paper, "ce", one, t.points),
        ahead(f"{behind} BinaryKL", paper, alone, one, t.points),
        ahead("two heads are better than one", paper, two, one, t.points),
        ahead("and than BinaryKL alone", paper, two, alone, t.points),
    ]


def _conflict(t):
    def apart(results, arm, step):
        at = results[arm].steps == step
        return (results[arm]["cosine/head"][at] - results[arm]["cosine/trunk"][at])[0]

    def mean(arm, step, paper, words, **more):
        return report.Claim(
            text="the gradients of cross-entropy and BinaryKL agree less in the last "
            f"layer than before it, {words} {step}",
            paper=paper,
            ours=lambda r: apart(r, arm, step).mean(),
            at_most=t.apart,
            unit="in cosine",
            needs=(arm,),
            **more,
        )

    slow, fast = "conflict_0.005", "conflict_0.01"
    pilot = {50: (0.203, 0.427), 200: (0.073, 0.180), 400: (0.025, 0.062)}
    return [
        *(
            mean(slow, step, f"{head:g} against {trunk:g} (pilot)", "at step")
            for step, (head, trunk) in pilot.items()
        ),
        report.Claim(
            text="in most seeds, at step 200",
            paper="87 % (pilot)",
            ours=lambda r: (apart(r, slow, 200) < 0).mean(),
            at_least=t.share,
            unit="of the seeds",
            needs=(slow,),
        ),
        mean(fast, 200, "not in the paper: ours", "at twice the learning rate, at step",
             question=True),
    ]  # fmt: skip


def _scales(t):
    example = "KD 0.11049 against 0.29971, standardised 0.03985 against 0"

    def of_toy(kind):
        def ours(results):
            wrong, right = (f"{kind}/{name}" for name in ("wrong", "right"))
            return (results["toy"].final(wrong) - results["toy"].final(right)).mean()

        return ours

    def toy(text, kind, value):
        return report.Claim(
            text=text, paper=example, ours=of_toy(kind), equals=value, within=t.toy,
            unit="nats", format=".5f", needs=("toy",),
        )  # fmt: skip

    def spread(results):
        arms = [results[f"z_kd_{scale}"] for scale in ("0.1", "1", "10")]
        means = [arm.final("test/accuracy").mean() for arm in arms]
        return 100 * (max(means) - min(means))

    words = "standardised KD is ahead of KD with the teacher's logits times 10"
    pilot = "93.6 against 90.3 % (pilot)"
    return [
        toy("in the paper's example KD prefers the wrong order to twice the right "
            "logits", "plain", 0.11049 - 0.29971),
        toy("and standardised KD does not", "standardized", 0.03985),
        report.Claim(
            text="standardised KD does not see the scale of the teacher's logits",
            paper="invariant (exact)",
            ours=lambda r: r["z_kd_1"].final("train/scale_dependence"),
            at_most=t.invariant,
            unit="nats apart",
            needs=("z_kd_1",),
        ),
        report.Claim(
            text="nor do the students that it trains",
            paper="93.55, 93.55, 93.55 % (pilot)",
            ours=spread,
            at_most=t.same,
            unit="points between scales",
            needs=("z_kd_0.1", "z_kd_1", "z_kd_10"),
        ),
        ahead(words, pilot, "z_kd_10", "kd_10", t.points),
        wins(f"{words}, in most seeds", pilot, "z_kd_10", "kd_10", t.wins),
        ahead("standardised KD is ahead of KD on the teacher's own logits",
              "76.62 against 73.33 % (CIFAR-100)", "z_kd_1", "kd_1", t.own),
    ]  # fmt: skip


def _significant(text, paper, arm, other, errors):
    def ours(results):
        points = gain(results, arm, other)
        return points.mean() / (points.std(ddof=1) / points.size**0.5)

    return report.Claim(
        text=text,
        paper=paper,
        ours=ours,
        at_least=errors,
        unit="standard errors",
        needs=(arm, other),
    )


def _vocabularies(t):
    paper = "+35.6 points on arithmetic (abstract); +0.1, not significant (pilot)"
    return [
        report.Claim(
            text="KD by position fails with another vocabulary's teacher",
            paper="0.9 % (pilot)",
            ours=lambda r: r["kd"].final("test/accuracy").mean(),
            at_most=t.fails,
            unit="test accuracy",
            needs=("kd",),
        ),
        ahead("ULD gains from it", "+2.1 points, 15 of 16 seeds (pilot)", "uld", "ce",
              t.points),
        *(
            _significant(f"{weight} GLD gain over {words}", paper, arm, other, t.errors)
            for weight, ending in (("0.1", ""), ("0.001", "_less"))
            for arm, other, words in (
                (f"gld{ending}", "ce", "the cross-entropy"),
                (f"uld_gld{ending}", "uld", "ULD"),
            )
        ),
    ]  # fmt: skip


def _self_knowledge(t):
    return [
        _significant("USKD is ahead of the cross-entropy without a teacher",
                     "+0.98 points, 7 standard errors (pilot)", "uskd", "ce", t.errors),
        ahead("and of label smoothing", "+0.4 points (pilot)", "uskd", "smooth",
              t.points),
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
)
