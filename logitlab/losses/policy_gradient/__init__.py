"""Learning from rewards: advantages, surrogates of the policy gradient, trust regions.

An algorithm is advantages, token losses and ``aggregate_tokens``:

- GRPO: ``group_advantages``, ``ppo_clip_loss``, ``"sequence_mean"``, and 0.04 times
  ``kl_k3``. Dr. GRPO: ``scale="none"`` and ``"constant"``.
- DAPO: ``group_advantages`` with ``overlong_penalty`` in the rewards,
  ``ppo_clip_loss(..., clip_high=0.28)``, ``"token_mean"``.
- NGRPO: ``ngrpo_advantages``, ``ppo_clip_loss(..., clip_low=0.16, clip_high=0.24)``,
  ``"token_mean"``.
- RLOO: ``rloo_advantages``, ``rloo_loss``, mean. GSPO, GMPO: ``group_advantages``,
  ``gspo_loss`` or ``gmpo_loss``, mean.
- VESPO: ``group_advantages``, ``vespo_loss``, ``"token_mean"``.
- Where an inference engine sampled: any of these with ``importance_weights`` on the
  advantages, which are 0 for the sequences that ``off_policy_mask`` drops.
- PPO: ``gae``, ``masked_whiten``, ``ppo_clip_loss``, ``"token_mean"``, and
  ``clipped_value_loss``. RTO: the same with ``rto_token_rewards``.
"""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.losses.policy_gradient import (
    discriminative,
    kl,
    one_example,
    returns,
    sampled_answers,
    sequence_surrogates,
    token_surrogates,
)
from logitlab.losses.policy_gradient.discriminative import *
from logitlab.losses.policy_gradient.kl import *
from logitlab.losses.policy_gradient.one_example import *
from logitlab.losses.policy_gradient.returns import *
from logitlab.losses.policy_gradient.sampled_answers import *
from logitlab.losses.policy_gradient.sequence_surrogates import *
from logitlab.losses.policy_gradient.token_surrogates import *

_MODULES = (
    discriminative,
    kl,
    one_example,
    returns,
    sampled_answers,
    sequence_surrogates,
    token_surrogates,
)
if not TYPE_CHECKING:  # checkers read no computed list: all is public to them
    __all__ = [name for module in _MODULES for name in module.__all__]
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
