"""What ``--dry_run`` prints of an arm."""

from logitlab.train.forecast import Needs


def lines(arm: str, needs: Needs) -> list[str]:
    """The needs of an arm's step, a line each.

    >>> from experiments.common.forecasts import lines
    >>> from logitlab.train.forecast import Needs
    >>> needs = Needs(
    ...     device="TPU v5 lite",
    ...     mesh={"data": 256},
    ...     parameters=2_000_000_000,
    ...     optimizer=4_000_000_000,
    ...     data=1000,
    ...     temporaries=0,
    ...     peak=6_100_000_000,
    ...     collectives={"all-reduce": (3, 2_000_000_000)},
    ...     operations=1.97e12,
    ...     traffic=8.19e9,
    ...     seconds={"operations": 0.01, "memory": 0.001},
    ... )
    >>> print(*lines("sgd", needs), sep="\\n")
    sgd: a step, on each of 256 x TPU v5 lite, mesh data=256
      parameters          2 GB
      optimizer state     4 GB
      data                1 kB
      temporaries         0 B
      peak                6.1 GB
      all-reduce          2 GB in 3
      operations          1.97 TFLOP
      memory traffic      8.19 GB
      time                10 ms by its peaks: operations 10 ms, memory 1 ms
    """
    count, axes = 1, []
    for name, size in needs.mesh.items():
        count *= size
        axes.append(f"{name}={size}")
    rows = {
        "parameters": _amount(needs.parameters, "B"),
        "optimizer state": _amount(needs.optimizer, "B"),
        "data": _amount(needs.data, "B"),
        "temporaries": _amount(needs.temporaries, "B"),
        "peak": _amount(needs.peak, "B"),
    }
    for kind, (times, size) in sorted(needs.collectives.items()):
        rows[kind] = f"{_amount(size, 'B')} in {times}"
    if not needs.collectives:
        rows["collectives"] = "none"
    rows["operations"] = _amount(needs.operations, "FLOP")
    rows["memory traffic"] = _amount(needs.traffic, "B")
    rows["time"] = f"no peak of {needs.device} is published"
    if needs.seconds:
        each = [f"{name} {_amount(t, 's')}" for name, t in needs.seconds.items()]
        least = _amount(max(needs.seconds.values()), "s")
        rows["time"] = f"{least} by its peaks: {', '.join(each)}"
    title = f"{arm}: a step, on each of {count} x {needs.device}, mesh {' '.join(axes)}"
    return [title, *(f"  {name:<20}{value}" for name, value in rows.items())]


_PREFIXES = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")]
_SMALL = [(1, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")]


def _amount(number, unit):
    """Three digits and a prefix: 1.5 GB."""
    if number != number:
        return "unknown"
    prefixes = _SMALL if unit == "s" else _PREFIXES
    scale, prefix = next((p for p in prefixes if number >= p[0]), prefixes[-1])
    return f"{number / scale:.3g} {prefix}{unit}"
