import pytest
from ml_collections import ConfigDict


@pytest.fixture
def config():
    """What run_study asks of a config."""
    return ConfigDict(
        dict(
            seed=3,
            seeds=2,
            seeds_by="auto",
            parallel="jit",
            mesh=dict(data=1),
            nonfinite="stop",
            tensorboard=False,
            preliminary=True,
            checkpoint=dict(every_seconds=60.0, keep=2),
        )
    ).lock()
