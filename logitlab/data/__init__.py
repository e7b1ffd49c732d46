"""Data sets and batches."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.data.algorithmic import modular_pairs, sparse_parity, split
from logitlab.data.block_models import random_non_edges, stochastic_block_model
from logitlab.data.checkerboards import checkerboard, xor_mixture
from logitlab.data.clients import (
    dirichlet_clients,
    pathological_clients,
    stack_clients,
)
from logitlab.data.corruptions import long_tail, pair_noise, symmetric_noise
from logitlab.data.degraded_answers import degrade, rake_phrases
from logitlab.data.image_corruptions import corrupt_images
from logitlab.data.memory import Memory, memory_init, memory_push
from logitlab.data.reservoir import Reservoir, reservoir_init, reservoir_update
from logitlab.data.selection import (
    Buffer,
    Projection,
    UdsSelection,
    UdsState,
    buffer_init,
    buffer_mean_distance,
    buffer_push,
    init_projection,
    project_logits,
    uds_select,
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
from logitlab.data.texts import Documents, text_documents, text_windows

__all__ = [
    "BatchIterator",
    "Batches",
    "Buffer",
    "Documents",
    "Memory",
    "Projection",
    "Reservoir",
    "Text",
    "UdsSelection",
    "UdsState",
    "UnavailableDataset",
    "UnreadableRecord",
    "buffer_init",
    "buffer_mean_distance",
    "buffer_push",
    "checkerboard",
    "corrupt_images",
    "degrade",
    "dirichlet_clients",
    "init_projection",
    "load",
    "long_tail",
    "memory_init",
    "memory_push",
    "modular_pairs",
    "pair_noise",
    "pathological_clients",
    "prepare",
    "project_logits",
    "rake_phrases",
    "random_non_edges",
    "reservoir_init",
    "reservoir_update",
    "sparse_parity",
    "split",
    "stack_clients",
    "standard_library_bytes",
    "standard_library_text",
    "stochastic_block_model",
    "stream",
    "symmetric_noise",
    "text_documents",
    "text_windows",
    "uds_select",
    "xor_mixture",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
