"""Do answers of the policy itself help less where rewards are spread out?

The bandit of ``preference.bandits``, with the optimum far from the data policy and
rewards that fall off over 10, 20 or 30 bins, so that the data policy comes across more
and more of them. PPO and preferences between clearly different answers join in.

Source: Preference Fine-Tuning of LLMs Should Leverage Suboptimal, On-Policy Data,
Tajwar et al. 2024, arXiv:2404.14367, github.com/Asap7772/understanding-rlhf.
"""

import functools

from experiments.common.curves import drawn, with_finals
from experiments.common.references import stated
from experiments.preference import bandits
from experiments.preference.bandits import ALGORITHMS, OFFLINE, ON_POLICY, SAMPLING
from logitlab import report
from logitlab.train import Compute, Study


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    bandits.check(config)
    if not config.widths or min(config.widths) <= 0:
        raise ValueError(
            f"config.widths is {tuple(config.widths)}, expected positive numbers"
        )
    words = {name: ALGORITHMS[name].replace("\n", " ") for name in config.pick}
    arms = {
        bandits.arm_name(name, sampling): (name, sampling)
        for name in config.pick
        for sampling in SAMPLING
    }
    row = [report.Panel(f"{w:g}", f"reward, width {w:g}") for w in config.widths]
    own = [bandits.arm_name(name, ON_POLICY) for name in config.pick]
    return Study(
        arms={
            name: Compute(functools.partial(_values, *which, config))
            for name, which in arms.items()
        },
        figures={
            f"width_{width:g}": report.intervals(
                {
                    label: [bandits.arm_name(name, sampling) for name in config.pick]
                    for sampling, label in SAMPLING.items()
                },
                [ALGORITHMS[name] for name in config.pick],
                f"{width:g}",
                label="expected reward at the end",
            )
            for width in config.widths
        }
        | {
            "training": drawn(
                report.panels([row], log_steps=False, arms=own),
                range(0, config.steps + 1, config.evaluate_every),
            )
        },
        claims=_claims(config, words),
        labels={
            arm: f"{words[name]}, {SAMPLING[sampling]}"
            for arm, (name, sampling) in arms.items()
        },
        title="Own answers where rewards are spread out",
        summary=(
            f"{config.bins} answers; the optimum is at bin {config.far:g}, the data "
            f"are near bin 15 and in both end bins. {config.prompts} prompts with "
            f"{config.answers} answers each, {config.steps} steps of Adam, in "
            f"{config.rounds} rounds with answers of the policy, or without. Clear "
            f"pairs have rewards more than {config.settings.gap:g} apart."
        ),
        captions={"training": "Expected rewards while learning from own answers."}
        | {
            f"width_{width:g}": f"Rewards fall off over {width:g} bins."
            for width in config.widths
        },
    )


def _values(algorithm, sampling, config, key):
    problems = {f"{width:g}": (config.far, width) for width in config.widths}
    return with_finals(bandits.train(algorithm, sampling, config, problems, key))


def _claims(config, words):
    bounds, claims = config.tolerances, []
    first, last = (f"{config.widths[at]:g}" for at in (0, -1))

    def gain(name, width):
        arms = (bandits.arm_name(name, sampling) for sampling in (ON_POLICY, OFFLINE))
        return report.ahead(width, *arms)

    shared = dict(over="mean", unit="of expected reward")
    for name in config.pick:
        needs = tuple(bandits.arm_name(name, sampling) for sampling in SAMPLING)
        for width in config.widths:
            claims.append(
                report.Claim(
                    text=f"{words[name]}: own answers help, width {width:g}",
                    reference=stated("on-policy sampling wins far from the data"),
                    ours=gain(name, f"{width:g}"),
                    at_least=bounds.gain if f"{width:g}" == first else 0.0,
                    needs=needs,
                    **shared,
                )
            )
        claims.append(
            report.Claim(
                text=f"{words[name]}: and help most where rewards are narrow",
                ours=lambda r, name=name: gain(name, first)(r) - gain(name, last)(r),
                above=0.0,
                needs=needs,
                question=True,
                **shared,
            )
        )
    for ours, other in (("ppo", "reinforce"), ("dpo_gap", "dpo")):
        for sampling, label in SAMPLING.items():
            pair = tuple(bandits.arm_name(name, sampling) for name in (ours, other))
            claims.append(
                report.Claim(
                    text=f"{words.get(ours, ours)} is ahead of "
                    f"{words.get(other, other)}, {label}, width {first}",
                    ours=report.ahead(first, *pair),
                    above=0.0,
                    needs=pair,
                    question=True,
                    **shared,
                )
            )
    return claims
