"""Writes a study's verdicts, figures, summary and report."""

import functools
import hashlib
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata

import jax
import numpy as np

from logitlab.report.claims import Verdict
from logitlab.report.claims_json import write_claims
from logitlab.report.figures import save
from logitlab.report.judging import judge
from logitlab.report.page import write_page
from logitlab.train.config import to_json
from logitlab.train.files import as_path, write_file
from logitlab.train.results import ArmResult
from logitlab.train.study import Study
from logitlab.train.writers import Table

_PACKAGES = ("logitlab", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def conclude(
    study: Study,
    results: Mapping[str, ArmResult],
    config,
    workdir: str | os.PathLike,
    *,
    command: str = "",
) -> list[Verdict]:
    """Judges the claims, draws the figures and writes the report.

    Leaves ``claims.json``, ``figures/*.png``, ``summary.json`` (final numbers,
    versions, hardware and the config's hash), ``report.html`` and, for a study that has
    one, ``table.csv`` in ``workdir``.

    Args:
      study: whose figures and claims.
      results: of all its arms.
      config: the locked config that made it; ``preliminary`` marks every verdict, and
        so does ``chosen_seed``, if it has that entry, unless it is empty; after a
        ``smoke`` run no claim is judged.
      workdir: where everything goes.
      command: what was typed, to stand in the report.
    """
    smoke = config.get("smoke", False)
    verdicts = judge(
        study.claims,
        results,
        preliminary=config.preliminary,
        smoke=smoke,
        chosen_seed=config.get("chosen_seed", ""),
    )
    workdir = as_path(workdir)
    write_claims(verdicts, workdir / "claims.json")
    drawn = {}
    for name, draw in study.figures.items():
        drawn[name] = workdir / "figures" / f"{name}.png"
        save(draw(results), drawn[name])
    if study.table is not None:
        table = Table(workdir / "table.csv", ())
        table.replace(study.table(results))
    where, finals, text = environment(), final_numbers(results), to_json(config)
    where |= {"command": command} if command else {}
    summary = {
        "config_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "environment": where,
        "arms": finals,
    }
    write_file(workdir / "summary.json", json.dumps(summary, indent=2) + "\n")
    write_page(
        workdir / "report.html",
        title=study.title,
        summary=study.summary,
        verdicts=verdicts,
        figures=drawn,
        captions=study.captions,
        config_json=text,
        environment=where,
        arms=finals,
    )
    return verdicts


def final_numbers(results: Mapping[str, ArmResult]) -> Sequence[Mapping]:
    """For each arm the median over seeds of every metric's last number."""
    rows = []
    for arm in results.values():
        row = {"arm": arm.label, "seeds": len(arm.seeds)}
        row["last step"] = int(arm.steps[-1]) if len(arm.steps) else None
        for metric in arm:
            median = float(np.median(arm.final(metric)))
            row[metric] = median if np.isfinite(median) else None
        rows.append(row)
    return rows


def environment() -> dict[str, str]:
    """Versions, the commit, and hardware that the numbers depend on."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    device = jax.devices()[0]
    return {
        **found,
        "commit": _commit(),
        "python": platform.python_version(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "processor": f"{os.cpu_count()} cores, {platform.machine()}",
    }


@functools.cache
def _commit(file: str = __file__) -> str:
    """The commit of a source file, and whether its repository was changed since.

    An installed copy may lie in a folder of some other repository, which does not track
    it: then the commit says nothing about the code.
    """

    def git(*arguments):
        command = ["git", "-C", str(pathlib.Path(file).parent), *arguments]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        return run.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file)
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "not known"
    return f"{commit}, with changes" if changed else commit
