"""Experiments: a folder for each family, in it a module for each question.

``main`` is the only entry point.
"""

import itertools
import sys


def _check_start():
    """Exits where ``python -m`` is asked to run a study, which is not a program."""
    # While Python looks for the module to run, it has this in the place of its path.
    if sys.argv[:1] != ["-m"]:
        return
    pairs = itertools.pairwise(sys.orig_argv)
    name = next((name for option, name in pairs if option == "-m"), "")
    family = name.split(".")[1] if name.startswith("experiments.") else ""
    if name == "experiments" or family not in ("", "main", "common"):
        of = f" --config=configs/{family}.py --workdir=runs/{family}" if family else ""
        sys.exit(f"error: {name} is not a program; run python -m experiments.main{of}")


_check_start()
