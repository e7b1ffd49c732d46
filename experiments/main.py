"""``python -m experiments.main --config=configs/X.py:VARIANT --workdir=DIR``.

The only entry point. Without arguments it lists what there is to run; ``--help`` shows
the options, and the entries of the config that ``--config`` names. Every entry can be
set: ``--config.optim.learning_rate=0.01``. The same command again goes on where the
last one stopped.
"""

import sys

if not __package__:  # started by its path: what it imports is not found
    sys.exit("error: run it as a module: python -m experiments.main")

import difflib
import re
import shlex
import tempfile

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from experiments.common import moved, recipes

WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder or gs://BUCKET/PATH for everything the run leaves."
)
ALLOW_CHANGES = flags.DEFINE_bool(
    "allow_config_changes", False, "Go on in a workdir of another config."
)
SHARE = flags.DEFINE_bool(
    "share", False, "Work on the arms of WORKDIR together with other processes."
)
PROFILE = flags.DEFINE_string(
    "profile", None, "START:STOP, steps of each arm to trace into WORKDIR/profile."
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print what a step of each arm needs; train and write nothing."
)
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "With --dry_run, TPUs to compile for, such as v5e:16x16."
)
COORDINATOR = flags.DEFINE_string(
    "coordinator",
    None,
    "host:port of process 0, where neither a TPU pod, SLURM nor Open MPI says it.",
)
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0 on.")
OPTIONS = (
    WORKDIR,
    ALLOW_CHANGES,
    SHARE,
    PROFILE,
    DRY_RUN,
    TOPOLOGY,
    COORDINATOR,
    PROCESSES,
    PROCESS,
)
USAGE = "python -m experiments.main --config=configs/FILE.py:VARIANT --workdir=DIR"


def main(config):
    """Builds the study that the config names, and runs it."""
    # jax and orbax tell of all they try; what matters to a user is raised.
    logging.set_verbosity(logging.WARNING)
    import jax

    from logitlab.train import processes

    if TOPOLOGY.value:  # what is compiled for TPUs is prepared here
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", config.x64)  # before anything is traced
    # Nearly all of a smoke run's time goes into compiling.
    jax.config.update("jax_disable_most_optimizations", config.smoke)
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
        (_dry_run if DRY_RUN.value else _run_study)(config)


def _dry_run(config):
    from experiments.common import forecasts, studies
    from logitlab import data, train
    from logitlab.train import processes

    try:
        study = studies.build(config)
        needs = train.dry_run(study, config, topology=TOPOLOGY.value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except (data.UnavailableDataset, data.UnreadableRecord) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    if processes.is_first():
        for name in study.arms:
            if name in needs:
                print(*forecasts.lines(name, needs[name]), sep="\n")
            else:
                print(f"{name}: computed, without training")


def _run_study(config):
    from experiments.common import studies
    from logitlab import data, report, train
    from logitlab.train import files, processes

    try:
        workdir = files.workdir_path(WORKDIR.value)
        if not workdir.exists() and (line := moved.result(workdir)):
            raise ValueError(line)
        study = studies.build(config)
        results = train.run_study(
            study,
            config,
            workdir,
            allow_changes=ALLOW_CHANGES.value,
            profile=_window(PROFILE.value),
            share=SHARE.value,
        )
        if processes.is_first():
            _say_what_is_next(study)
            verdicts = report.conclude(
                study, results, config, workdir, command=_command()
            )
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
    except (data.UnavailableDataset, data.UnreadableRecord) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")  # TFDS's have many lines
    except train.Interrupted as signal:
        print(f"{signal}; the same command goes on from here", file=sys.stderr)
        sys.exit(signal.exit_code)


def _command():
    """What was typed, on whatever machine."""
    return shlex.join(["python", "-m", "experiments.main", *sys.argv[1:]])


def _say_what_is_next(study):
    """The claims and figures of some studies fit laws, which takes a while."""
    work = ["judging claims"] if study.claims else []
    if study.figures:
        work.append("drawing figures")
    print(*work, sep=", ", file=sys.stderr)


def _window(text):
    if text is None:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found:
        raise ValueError(f"--profile is {text!r}, expected START:STOP")
    return int(found[1]), int(found[2])


def run():
    """Parses the flags first, so that a typo is one line and no traceback."""
    app.run(main, flags_parser=parse)  # which calls main with what parse returns


def parse(argv: list[str]) -> ConfigDict:
    """The config that a command line makes; all other flags are in ``FLAGS``.

    Without arguments, and for ``--help``, it prints and exits.
    """
    if not argv[1:]:
        print(f"{recipes.listing()}\n\nRun one:      {USAGE}\nIts entries:  --help")
        sys.exit()
    try:
        name, rest = _take_config(argv)
        config = recipes.read(name) if name else None
        if {"--help", "-help", "-h"} & {*argv}:
            print(_help(name, config))
            sys.exit()
        if config is None:
            raise flags.Error(f"--config is missing; expected {USAGE}")
        config, rest = _override(config, rest)
        rest = flags.FLAGS(rest)
        if rest[1:]:
            raise flags.Error(f"unexpected arguments: {' '.join(rest[1:])}")
        if TOPOLOGY.value is not None and not DRY_RUN.value:
            raise flags.Error("--topology is for --dry_run: nothing runs on its TPUs")
        if WORKDIR.value is None and not DRY_RUN.value:
            raise flags.Error("--workdir is missing; expected --workdir=DIR")
    except (flags.Error, ValueError) as error:
        sys.exit(f"error: {error}")
    return config


def _take_config(argv):
    """The value of ``--config``, or None; and the other arguments."""
    for place, argument in enumerate(argv):
        if found := re.fullmatch(r"--?config(?:=(.*))?", argument):
            end = place + 1
            if found[1] is None:
                end += 1
                if end > len(argv):
                    raise flags.Error("--config has no value")
            return found[1] or argv[end - 1], argv[:place] + argv[end:]
    return None, argv


def _help(name, config):
    """The options; and of a config its docstring, its entries and their values."""
    lines = [USAGE, ""]
    lines += [f"  --{flag.name:<20}  {flags.FLAGS[flag.name].help}" for flag in OPTIONS]
    if config is None:
        return "\n".join([*lines, "", "Without arguments: what there is to run."])
    lines += ["", recipes.docstring(name.partition(":")[0]), "", f"Entries of {name}:"]
    lines += [f"  --config.{key}={value!r}" for key, value in _entries(config)]
    return "\n".join(lines)


def _override(config, argv):
    """The locked config with the entries that arguments set; the other arguments."""
    keys = [key for key, _ in _entries(config, sections=True)]
    for argument in argv[1:]:
        found = re.match(r"--?(?:no)?config\.([^=[]+)", argument)
        if found is None or found[1] in keys:
            continue
        if re.fullmatch(r"mesh\.\w+", found[1]):  # its axes have any names
            with config.unlocked():
                config.mesh[found[1].partition(".")[2]] = 1
            continue
        near = max(keys, key=lambda key: _likeness(found[1], key))
        raise flags.Error(f"config has no {found[1]!r}; did you mean {near!r}?")
    values = flags.FlagValues()  # of this config alone
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    rest = values(argv, known_only=True)
    return values.config, rest


def _entries(config, prefix="", *, sections=False):
    """(dotted key, value) of every entry, and of whole sections if these are wanted."""
    for key, value in config.items():
        section = isinstance(value, ConfigDict)
        if sections or not section:
            yield prefix + key, value
        if section:
            yield from _entries(value, f"{prefix}{key}.", sections=sections)


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
