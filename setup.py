"""Package metadata; the settings of tools stand in pyproject.toml."""

import pathlib

from setuptools import find_packages, setup

# `.ci/versions full` runs the tests with exactly these lower bounds.
TRAIN = [
    "absl-py>=2.1.0",
    "flax>=0.11.0",
    "grain>=0.2.11",
    "importlib_resources>=6.4.0",  # tensorflow-datasets needs it and does not say so
    "matplotlib>=3.9.0",
    "ml-collections>=1.0.0",
    "orbax-checkpoint>=0.11.20",
    "scikit-learn>=1.5.0",
    "scipy>=1.14.0",
    "tensorboardX>=2.6.2.2",
    "tensorflow-datasets>=4.9.10",  # 4.9.9 fails with protobuf 7
    "threadpoolctl>=3.5.0",
    "tqdm>=4.66.5",
]
DOCS = [
    "furo>=2025.12.19",
    "myst-parser>=5.2.0",
    "sphinx>=9.0.4",
]
TEST = [
    "chex>=0.1.90",
    "equinox>=0.13.0",
    "hypothesis>=6.112.0",
    "ipykernel>=6.29.5",
    "mypy>=2.4",
    "nbclient>=0.10.0",
    "nbformat>=5.10.4",
    "pytest>=8.3.0",
    "pytest-xdist>=3.6.1",
    "ruff>=0.17",
]

setup(
    name="logitlab",
    version="0.1.0",
    description="Losses over logits for JAX: exact, finite, sharded; and the studies.",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    keywords=[
        "jax",
        "loss functions",
        "logits",
        "cross-entropy",
        "knowledge distillation",
        "preference optimization",
        "policy gradient",
        "calibration",
    ],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Mathematics",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["logitlab", "logitlab.*"]),
    package_data={"logitlab": ["py.typed", "CHANGELOG.md", "docs/*.md"]},
    install_requires=["jax>=0.7.0", "optax>=0.2.5"],
    extras_require={
        "train": TRAIN,
        "gcs": [*TRAIN, "gcsfs>=2026.1.0"],  # workdirs in buckets, gs://BUCKET/PATH
        # libtpu, which compiles for TPUs without one. Pip 23 finds no name with "_".
        "tpu-aot": ["jax[tpu]>=0.7.0"],
        "docs": TRAIN + DOCS,
        "test": TRAIN + DOCS + TEST,
    },
)
