"""Package metadata; the settings of tools stand in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

TRAIN = [
    "absl-py>=2.1",
    "flax>=0.12",
    "grain>=0.2.12",
    "importlib_resources>=6.0",  # tensorflow-datasets needs it and does not say so
    "matplotlib>=3.9",
    "ml-collections>=1.0",
    "orbax-checkpoint>=0.11.30",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.7",
    "tqdm>=4.66",
]
TEST = [
    "equinox>=0.13",
    "hypothesis>=6.100",
    "ipykernel>=6.29",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "pytest>=8.3",
    "pytest-xdist>=3.6",
    "ruff>=0.12",
    "scikit-learn>=1.5",
]

setup(
    name="logitlab",
    version="0.1.0",
    description="Losses over logits for JAX: exact, finite, sharded; and the studies.",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["logitlab", "logitlab.*"]),
    package_data={"logitlab": ["py.typed", "CHANGELOG.md"]},
    install_requires=["chex>=0.1.90", "jax>=0.8", "optax>=0.2.6"],
    extras_require={"train": TRAIN, "test": TRAIN + TEST},
)
