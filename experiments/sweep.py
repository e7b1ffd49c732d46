"""Any experiment at many points: a grid or a random search over its config."""

import dataclasses
import itertools
import json
from collections.abc import Mapping

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.common import recipes, studies
from logitlab import report
from logitlab.train import Run, Study
from logitlab.train.config import check_name, flat

BEST_BY = ("min", "max")


def build(config) -> Study:
    """A study whose arms are those of the base experiment at every point."""
    check_name(config.best_by, BEST_BY, "config.best_by")
    base = _base(config)
    points = _grid(config) if not config.points else _random(config)
    shared, arms, where = {}, {}, {}
    for point in points:
        study = studies.build(_with(base, point))
        chosen = config.arms or tuple(study.arms)
        for name in chosen:
            check_name(name, study.arms, "config.arms")
            arm = f"{name} {_title(point)}".replace("/", "_")
            arms[arm] = _shared_run(base, point, name, study.arms[name], shared)
            where[arm] = {"arm": study.labels.get(name, name), **_columns(point)}
    return Study(
        arms=arms,
        figures={"points": _figure(where, config)},
        labels={arm: ", ".join(map(str, row.values())) for arm, row in where.items()},
        title=f"A sweep of {base.experiment}",
        summary=(
            f"{len(points)} points of {config.base}, {config.seeds} seeds each; set "
            f"besides: {dict(config.set) or 'nothing'}."
        ),
        captions={"points": f"Final {config.metric} of every point."},
        table=lambda results: _table(results, where, config),
    )


def _base(config):
    """The config that is swept, with what the sweep says of all its points."""
    try:
        base = recipes.read(config.base)
    except ValueError as error:
        raise ValueError(f"config.base is {config.base!r}: {error}") from None
    if base.experiment == "sweep":
        raise ValueError(f"config.base is {config.base!r}, which is a sweep itself")
    if base.x64 != config.x64:
        raise ValueError(
            f"config.x64 is {config.x64}, but {config.base} has {base.x64}"
        )
    return _with(base, {"seed": config.seed, "seeds": config.seeds, **dict(config.set)})


def _with(base, changes, *, traced=False):
    """A copy of a config with other entries; with ``traced``, of any type."""
    copy = ConfigDict(base.copy_and_resolve_references())
    known = flat(base)
    with copy.unlocked():
        for key, value in changes.items():
            check_name(key, known, "the config of the base")
            *path, last = key.split(".")
            section = copy
            for part in path:
                section = section[part]
            try:
                if traced:
                    with section.ignore_type():
                        section[last] = value
                else:
                    section[last] = value
            except TypeError as error:
                raise ValueError(f"{key}: {error}") from None
    return copy.lock()


def _shared_run(base, point, name, run, shared):
    """The run, told which others differ from it in floats alone."""
    if not isinstance(run, Run):
        return run
    values = {key: value for key, value in point.items() if isinstance(value, float)}
    if not values:
        return run
    rest = {key: value for key, value in point.items() if key not in values}
    kind = name, json.dumps(rest, default=str), run.steps, tuple(run.evaluate_at)

    def at(values: Mapping) -> Run:
        changed = _with(_with(base, rest), values, traced=True)
        # What does not depend on the values is computed now, as without a trace.
        with jax.ensure_compile_time_eval():
            return studies.build(changed).arms[name]

    return dataclasses.replace(run, values=values, at=shared.setdefault(kind, at))


def _grid(config):
    fields = []
    for field in config.fields:
        if len(field) != 2 or not isinstance(field[1], tuple) or not field[1]:
            raise ValueError(
                f"config.fields has {field!r}, expected (entry, values) of a grid"
            )
        fields.append([(field[0], value) for value in field[1]])
    return [dict(point) for point in itertools.product(*fields)]


def _random(config):
    """Points by NumPy's oldest generator, whose bits are frozen."""
    random = np.random.RandomState(config.seed)
    return [
        {field[0]: _drawn(random, *field) for field in config.fields}
        for _ in range(config.points)
    ]


def _drawn(random, name, kind=None, *bounds):
    if kind == "choice" and len(bounds) == 1 and bounds[0]:
        return bounds[0][random.randint(len(bounds[0]))]
    chance = random.uniform()
    if kind == "uniform" and len(bounds) == 2:
        return bounds[0] + chance * (bounds[1] - bounds[0])
    if kind == "log" and len(bounds) == 2 and min(bounds) > 0:
        return float(bounds[0] * (bounds[1] / bounds[0]) ** chance)
    raise ValueError(
        f"config.fields has {(name, kind, *bounds)!r}, expected of a random search "
        "(entry, 'choice', values), (entry, 'uniform', low, high) or "
        "(entry, 'log', low, high) above 0"
    )


def _columns(point):
    return {key.rpartition(".")[2]: _text(value) for key, value in point.items()}


def _text(value):
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _title(point):
    return ",".join(f"{key}={value}" for key, value in _columns(point).items())


def _table(results, where, config):
    rows = []
    for arm, row in where.items():
        final = np.asarray(results[arm].final(config.metric), float)
        spread = {"mean": final.mean(), "worst": final.min(), "best": final.max()}
        if config.best_by == "min":
            spread["worst"], spread["best"] = spread["best"], spread["worst"]
        rows.append({**row, **{f"{config.metric} {k}": v for k, v in spread.items()}})
    sign = -1 if config.best_by == "max" else 1
    mean = f"{config.metric} mean"
    return sorted(rows, key=lambda row: (np.isnan(row[mean]), sign * row[mean]))


def _figure(where, config):
    """Of a grid, a group for each value of the first entry; else a ranking."""
    if config.points:
        return report.ranking({config.metric: config.metric})
    first = config.fields[0][0].rpartition(".")[2]
    ticks = list(dict.fromkeys(row[first] for row in where.values()))
    series = {}
    for arm, row in where.items():
        rest = ", ".join(v for key, v in row.items() if key != first)
        series.setdefault(rest, dict.fromkeys(ticks, ""))[row[first]] = arm
    return report.intervals(
        {name: list(arms.values()) for name, arms in series.items()},
        ticks,
        config.metric,
        across=first.replace("_", " "),
    )
