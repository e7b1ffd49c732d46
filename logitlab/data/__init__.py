"""Data: where batches come from."""

from logitlab.data.algorithmic import modular_pairs, sparse_parity, split
from logitlab.data.checkerboards import checkerboard, xor_mixture
from logitlab.data.corruptions import long_tail, pair_noise, symmetric_noise
from logitlab.data.prompt_sampling import (
    BetaSampler,
    beta_sampler_init,
    beta_sampler_select,
    beta_sampler_update,
    variance_gain,
)
from logitlab.data.sources import (
    Batches,
    BatchIterator,
    UnavailableDataset,
    UnreadableRecord,
    load,
    prepare,
    stream,
)
from logitlab.data.standard_library import (
    Text,
    standard_library_bytes,
    standard_library_text,
)

__all__ = [
    "BatchIterator",
    "Batches",
    "BetaSampler",
    "Text",
    "UnavailableDataset",
    "UnreadableRecord",
    "beta_sampler_init",
    "beta_sampler_select",
    "beta_sampler_update",
    "checkerboard",
    "load",
    "long_tail",
    "modular_pairs",
    "pair_noise",
    "prepare",
    "sparse_parity",
    "split",
    "standard_library_bytes",
    "standard_library_text",
    "stream",
    "symmetric_noise",
    "variance_gain",
    "xor_mixture",
]
