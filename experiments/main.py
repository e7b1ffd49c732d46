"""The door: ``python -m experiments.main --config=configs/X.py:VARIANT --workdir=DIR``.

Every entry of the config can be set: ``--config.optim.learning_rate=0.01``. The same
command again goes on where the last one stopped.
"""

import difflib
import importlib
import pathlib
import re
import sys
import tempfile

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

CONFIG = config_flags.DEFINE_config_file("config", lock_config=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for everything the run leaves.")
ALLOW_CHANGES = flags.DEFINE_bool(
    "allow_config_changes", False, "Go on in a workdir of another config."
)
SHARE = flags.DEFINE_bool(
    "share", False, "Work on the arms of WORKDIR together with other processes."
)
PROFILE = flags.DEFINE_string(
    "profile", None, "START:STOP, steps of each arm to trace into WORKDIR/profile."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0, where neither a TPU pod, SLURM nor Open MPI says it.",
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0 on.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
    """Builds the study that the config names, and runs it."""
    del argv  # nothing but the program: see _parse
    config = CONFIG.value
    # jax and orbax tell of all they try; what matters to a user is raised.
    logging.set_verbosity(logging.WARNING)
    import jax

    from logitlab.train import processes

    jax.config.update("jax_enable_x64", config.x64)  # before anything is traced
    try:
        processes.join(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    with tempfile.TemporaryDirectory() as folder:
        if jax.config.jax_compilation_cache_dir is None:
            # Arms whose programs are equal compile once. A folder that the user names,
            # by JAX_COMPILATION_CACHE_DIR, serves the next runs too.
            jax.config.update("jax_compilation_cache_dir", folder)
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        _run_study(config)


def _run_study(config):
    from logitlab import report, train
    from logitlab.train import processes
    from logitlab.train.config import check_name

    here = pathlib.Path(__file__)
    names = {file.stem for file in here.parent.glob("[!_]*.py")} - {here.stem}
    try:
        check_name(config.experiment, sorted(names), "config.experiment")
        module = importlib.import_module(f"experiments.{config.experiment}")
        study = module.build(config)
        workdir = pathlib.Path(WORKDIR.value)
        results = train.run_study(
            study,
            config,
            workdir,
            allow_changes=ALLOW_CHANGES.value,
            profile=_window(PROFILE.value),
            share=SHARE.value,
        )
        if processes.is_first():
            verdicts = report.conclude(study, results, config, workdir)
            if study.table is not None:
                print(report.text_table(study.table(results)))
            if verdicts or study.table is None:
                print(report.verdict_table(verdicts))
            print(f"\nReport: {workdir / 'report.html'}")
        processes.barrier("report")
    except (
        ValueError,
        train.DataError,
        train.NonFiniteLoss,
        train.WorkdirError,
    ) as error:
        sys.exit(f"error: {error}")
    except train.Interrupted as signal:
        print(f"{signal}; the same command goes on from here", file=sys.stderr)
        sys.exit(signal.exit_code)


def _window(text):
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found:
        raise ValueError(f"--profile is {text!r}, expected START:STOP")
    return int(found[1]), int(found[2])


def run():
    """Parses the flags first, so that a typo is one line and no traceback."""
    app.run(main, flags_parser=_parse)


def _parse(argv):
    try:
        _check_config(argv)
        rest = flags.FLAGS(argv)
        if rest[1:]:
            raise flags.Error(f"unexpected arguments: {' '.join(rest[1:])}")
    except flags.Error as error:
        sys.exit(f"error: {error}")
    return rest


def _check_config(argv):
    """Says of a config file, or of an entry that it lacks, what config_flags does not.

    It would quote the traceback of an error in the file, and show its own for a typo.
    """
    plain = flags.FlagValues()  # the config as the file has it, without overrides
    config_flags.DEFINE_config_file("config", flag_values=plain, sys_argv=argv[:1])
    try:
        plain(argv, known_only=True)
    except flags.IllegalFlagValueError as error:  # around config_flags', around theirs
        raise flags.Error(error.__context__.__context__) from None
    if plain.config is None:
        return  # what is required is checked elsewhere
    path = plain["config"].config_filename.partition(":")[0]
    if not pathlib.Path(path).is_file():
        raise flags.Error(f"there is no config file {path!r}")
    keys = list(_keys(plain.config))
    for argument in argv[1:]:
        override = re.match(r"--?(?:no)?config\.([^=[]+)", argument)
        if override and override[1] not in keys:
            near = max(keys, key=lambda key: _likeness(override[1], key))
            raise flags.Error(f"config has no {override[1]!r}; did you mean {near!r}?")


def _keys(config, prefix=""):
    """Every dotted key, those of whole sections included."""
    for key, value in config.items():
        yield prefix + key
        if isinstance(value, ConfigDict):
            yield from _keys(value, f"{prefix}{key}.")


def _likeness(key, other):
    """Of the last words first, where ``lr`` is like ``learning_rate`` too."""
    word, other_word = key.rpartition(".")[2], other.rpartition(".")[2]
    initials = "".join(part[:1] for part in other_word.split("_"))
    alike = max(_ratio(word, other_word), _ratio(word, initials))
    return alike, _ratio(key, other)


def _ratio(a, b):
    return difflib.SequenceMatcher(None, a, b).ratio()


if __name__ == "__main__":
    run()
