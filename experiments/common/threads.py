"""Threads of the linear algebra behind SciPy's and scikit-learn's fits."""

import contextlib
from collections.abc import Iterator

import threadpoolctl


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Inside the block, or the function that it decorates, BLAS has one thread.

    A small fit calls BLAS thousands of times with a few numbers each. Several threads
    then spend their time waiting for each other, the more so on a busy machine.
    """
    with threadpoolctl.threadpool_limits(1, "blas"):
        yield
