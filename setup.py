"""Package metadata; the settings of tools stand in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

TRAIN = [
    "absl-py>=2.5",
    "flax>=0.12.8",
    "grain>=0.2.18",
    "importlib_resources>=7.0",  # tensorflow-datasets needs it and does not say so
    "matplotlib>=3.11",
    "ml-collections>=1.1",
    "orbax-checkpoint>=0.12.8",
    "scikit-learn>=1.9",
    "scipy>=1.16",
    "tensorboardX>=2.6.5",
    "tensorflow-datasets>=4.9.10",
    "tqdm>=4.70",
]
TEST = [
    "equinox>=0.13.8",
    "hypothesis>=6.155",
    "ipykernel>=7.0",
    "nbclient>=0.11",
    "nbformat>=5.11",
    "pytest>=9.0",
    "pytest-xdist>=3.8",
    "ruff>=0.17",
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
    install_requires=["chex>=0.1.92", "jax>=0.10.2", "optax>=0.2.8"],
    extras_require={"train": TRAIN, "test": TRAIN + TEST},
)
