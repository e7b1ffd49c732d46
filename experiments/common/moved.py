"""Where configs, modules and kept results are that once had other names."""

import pathlib

CONFIGS = {  # files of configs/, and variants of theirs
    "benchmark": "benchmarks",
    "checkered_regression": "checkered",
    "cross_entropy_scaling": "scaling",
    "loss_comparison": "classification",
    "speculative_draft": "distillation:speculative_draft",
    "speculative_draft:smoke": "distillation:speculative_draft-smoke",
}
MODULES = {  # values of config.experiment
    "benchmark": "benchmarks.loop",
    "checkered_regression": "checkered.study",
    "combined_rewards": "preference.rewards",
    "cross_entropy_scaling": "scaling.study",
    "cyclic_preferences": "preference.cyclic",
    "delta_learning": "preference.delta",
    "dense_rewards": "policy_gradient.tokens",
    "distillation": "distillation.few_examples",
    "distillation_costs": "benchmarks.distillation",
    "entanglement": "preference.entanglement",
    "few_bits": "distillation.bits",
    "generative_logistic": "classification.naive_bayes",
    "grokking": "grokking.study",
    "head_costs": "benchmarks.heads",
    "kernel_ridge": "distillation.kernel_ridge",
    "length_rewards": "policy_gradient.length",
    "loss_comparison": "classification.noise",
    "loss_costs": "benchmarks.losses",
    "multi_aspect": "distillation.aspects",
    "negative_flips": "distillation.flips",
    "noisy_preferences": "preference.noise",
    "one_shot": "policy_gradient.one_shot",
    "one_step_generator": "distillation.sid",
    "optimal_masks": "classification.dice",
    "partial_coverage": "preference.coverage",
    "policy_gradient": "policy_gradient.groups",
    "preference_bandits": "preference.bandits",
    "prompt_sampler": "policy_gradient.sampler",
    "rare_events": "classification.presto",
    "speculative_draft": "distillation.speculative_draft",
    "spherical_costs": "benchmarks.spherical",
    "tabular_baselines": "classification.breast_cancer",
    "unnormalised": "classification.meco",
    "unpaired_feedback": "preference.shift",
    "value_regression": "classification.hl_gauss",
}
RESULTS = {"speculative_draft/characters": "distillation/speculative_draft"}


def config(name: str) -> str | None:
    """A line that says where a config file is now, if it has moved.

    >>> config("configs/loss_comparison.py:noise")
    'configs/loss_comparison.py is now configs/classification.py'
    """
    path, _, variant = name.partition(":")
    file = pathlib.PurePath(path)
    if file.parent.name != "configs" or file.suffix != ".py":
        return None
    for old in (f"{file.stem}:{variant}", file.stem):
        if old in CONFIGS:
            return f"{_file(old)} is now {_file(CONFIGS[old])}"
    return None


def module(name: str) -> str | None:
    """The same of ``config.experiment``.

    >>> module("loss_comparison")
    "config.experiment 'loss_comparison' is now 'classification.noise'"
    """
    new = MODULES.get(name)
    return new and f"config.experiment {name!r} is now {new!r}"


def result(path: str | pathlib.PurePath) -> str | None:
    """The same of a kept result, from wherever it is named.

    >>> result("experiments/results/few_bits/bits/claims.json")
    'experiments/results/few_bits/bits is now experiments/results/distillation/bits'
    """
    parts = pathlib.PurePath(path).parts
    places = [i for i in range(1, len(parts)) if parts[i - 1 : i + 1] == _RESULTS]
    if not places or len(parts) < places[-1] + 3:
        return None
    name, variant = parts[places[-1] + 1 : places[-1] + 3]
    old, family = f"{name}/{variant}", MODULES.get(name, name).partition(".")[0]
    new = RESULTS.get(old, f"{family}/{variant}")
    if new == old:
        return None
    return f"experiments/results/{old} is now experiments/results/{new}"


_RESULTS = ("experiments", "results")


def _file(name):
    stem, colon, variant = name.partition(":")
    return f"configs/{stem}.py{colon}{variant}"
