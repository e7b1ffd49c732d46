"""What every config has, and how variants are chosen.

A config of your own needs no more than the name of its experiment, for ``experiments``
fills in the rest; ``config`` below makes it in one line:

    from configs import base

    def get_config(variant: str = "default"):
        return base.config("mine", steps=1000, learning_rate=1e-2)
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

Fill = Callable[[ConfigDict], None]


def config(experiment: str, **entries: Any) -> ConfigDict:
    """A locked config: the entries that the runner reads, and those given.

    Args:
      experiment: a module of ``experiments``, such as "mine" or "preference.noise".
      **entries: further ones, or other values; a dict becomes a section.
    """
    return _common(experiment, entries).lock()


def choose(
    family: str,
    variant: str,
    variants: Mapping[str, Fill],
    smoke: Mapping[str, Fill],
    *,
    common: Fill | None = None,
    **entries: Any,
) -> ConfigDict:
    """The locked config of one variant of a family of studies.

    Args:
      family: a folder of ``experiments``. The module is the one that is called like the
        variant, unless the variant sets ``config.experiment``.
      variant: a name of ``variants``; of ``smoke`` with "-smoke" after it; or "smoke",
        which is short for that of the first variant.
      variants: name -> function that fills in the entries of the variant.
      smoke: name -> function that makes a variant take seconds. Such a run is to see
        that everything runs: it has at most two seeds, and judges no claim.
      common: fills in what all variants begin with.
      **entries: as in :func:`config`, of all variants.

    Raises:
      ValueError: there is no such variant; the message lists those there are.
    """
    first = next(iter(variants))
    small = {f"{name}-smoke": name for name in smoke}
    short = {"smoke": first} if first in smoke else {}
    names = [*variants, *short, *small]
    if variant not in names:
        raise ValueError(f"variant {variant!r}, expected one of {', '.join(names)}")
    name = (small | short).get(variant, variant)
    config = _common(f"{family}.{name}", entries)
    config.variant = name
    if common is not None:
        common(config)
    variants[name](config)
    if name != variant:
        config.preliminary = config.smoke = True
        config.seeds = min(config.seeds, 2)
        smoke[name](config)
    return config.lock()


def complete(config: ConfigDict) -> ConfigDict:
    """A config, locked, with the entries that the runner reads and it lacks.

    Raises:
      ValueError: it does not name an experiment.
    """
    if "experiment" not in config:
        raise ValueError(
            "the config has no entry 'experiment', a module of experiments"
        )
    with config.unlocked():
        _fill(config, _common(config.experiment, {}))
    return config.lock()


def _fill(config, defaults):
    for key, value in defaults.items():
        if key not in config:
            config[key] = value
        elif isinstance(value, ConfigDict):
            _fill(config[key], value)


def _common(experiment, entries):
    config = ConfigDict()
    config.experiment, config.variant = experiment, ""
    config.preliminary = config.smoke = False
    config.seed, config.seeds, config.seeds_by = 0, 5, "auto"
    config.chosen_seed = ""  # how `seed` was chosen, where it was by what it gives
    config.x64 = False
    config.parallel, config.mesh, config.nonfinite = "jit", dict(data=1), "end"
    config.sharding, config.accumulate, config.precision = (), 1, ""
    config.checkpoint = dict(every_seconds=60.0, keep=1)
    config.tensorboard = False
    config.update(entries)
    return config
