import atexit
import collections
import gc
import itertools
import os
import re
import shutil
import tempfile
from contextlib import nullcontext

os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Tests compile the same programs again and again: all workers read them from a folder
# that lasts as long as the session, and what a worker starts from one inside. Writing a
# program takes a tenth of the time of the smallest compilation.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["COMPILED_BY_TESTS"] = tempfile.mkdtemp(prefix="compiled-")
    atexit.register(shutil.rmtree, os.environ["COMPILED_BY_TESTS"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.path.join(
    os.environ["COMPILED_BY_TESTS"], f"started-by-{os.getpid()}"
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest
from _pytest.doctest import DoctestItem
from jax._src import compiler, lru_cache

if not hasattr(jax, "enable_x64"):  # JAX 0.7 has it elsewhere
    from jax.experimental import enable_x64

    jax.enable_x64 = enable_x64

jax.config.update("jax_compilation_cache_dir", os.environ["COMPILED_BY_TESTS"])
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

from harness import eager  # noqa: E402 (compiles, with the devices set above)
from harness.quickly import OPTIONS  # noqa: E402

# Tracing makes millions of objects and little garbage: looking for it as often as
# Python does takes a tenth of the time.
gc.set_threshold(200_000, 20, 100)


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


# Programs are compiled quickly, but for tests that are marked "optimized": those of how
# programs round. Other processes compile quickly too, see harness/others.py. By default
# the operations between programs are not compiled at all but in examples, whose last
# digits are XLA's; with -m "" all are.
_is_quick = False
_compile_options = compiler.get_compile_options


def _quick_options(*args, env_options_overrides=None, **options):
    """XLA reads its flags once, and not all of them are settings of JAX."""
    overrides = {**(OPTIONS if _is_quick else {}), **(env_options_overrides or {})}
    return _compile_options(*args, env_options_overrides=overrides, **options)


compiler.get_compile_options = _quick_options


eager.install()
_put = lru_cache.LRUCache.put


def _put_whole(cache, key, program):
    """Writes a program that other workers see when all of it is there."""
    name = f"{key}.{os.getpid()}"
    _put(cache, name, program)
    os.replace(*(f"{cache.path}/{n}{lru_cache._CACHE_SUFFIX}" for n in (name, key)))


lru_cache.LRUCache.put = _put_whole


# JAX keeps every program that it has compiled, some 10 MB for each test, and thousands
# of tests would fill the memory of a machine.
TESTS_BETWEEN_CLEARING = 150
_tests = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    global _is_quick
    if next(_tests) % TESTS_BETWEEN_CLEARING == 0:
        jax.clear_caches()
    _is_quick = item.get_closest_marker("optimized") is None
    interprets = item.config.option.markexpr == "not slow" and _is_quick
    interprets &= not isinstance(item, DoctestItem)
    try:
        with eager.interpreted() if interprets else nullcontext():
            return (yield)
    finally:
        _is_quick = False


def _is_whole(config):
    """Whether nothing on the command line chooses a part of the tests."""
    option = config.option
    return config.args == config.getini("testpaths") and not option.keyword


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Starts workers for the whole tree only: a part of it is done before they are."""
    option = config.option
    if hasattr(config, "workerinput"):  # a worker, which must not start others
        return
    if _is_whole(config) and getattr(option, "numprocesses", 0) is None:
        option.numprocesses, option.maxprocesses, option.dist = "auto", 8, "worksteal"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    taken = collections.Counter()
    for item in items:
        if isinstance(item, DoctestItem):
            # Examples know only what they import, as where a user pastes them.
            item.dtest.globs = {"__name__": "__main__"}
        elif sampled := item.get_closest_marker("sampled"):
            test = item.path, item.originalname
            taken[test] += 1
            if taken[test] > (sampled.args or (1,))[0]:
                item.add_marker(pytest.mark.slow)


# A comparison with golden numbers registers what it compared; the session as a whole is
# held to what the catalogue declares, whatever worker ran it. By default XLA compiles
# the first case of each test, with -m "" all of them.
_compiled = set()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    if "golden" not in item.name:
        return (yield)
    from harness import goldens, interpreter

    test = item.path, re.sub(r"case\d+", "", item.name)
    quick = test in _compiled and item.config.option.markexpr
    _compiled.add(test)
    with goldens.comparing(), nullcontext() if quick else interpreter.compiled():
        return (yield)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    from harness import goldens

    compared = getattr(node, "workeroutput", {}).get("compared", ())
    goldens.COMPARED.update(map(tuple, compared))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session, exitstatus):
    from harness import goldens

    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["compared"] = sorted(goldens.COMPARED)
        return
    option = session.config.option
    ran = not option.collectonly and option.markexpr in ("", "not slow")
    if _is_whole(session.config) and ran and exitstatus == 0 and goldens.missing():
        print(f"\nNo test has compared {', '.join(goldens.missing())}.")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
