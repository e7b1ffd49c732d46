"""Learning from rewards: advantages, surrogates of the policy gradient, trust regions.

An algorithm is advantages, token losses and ``aggregate_tokens``:

- GRPO: ``group_advantages``, ``ppo_clip_tokens``, ``"sequence_mean"``, and 0.04 times
  ``kl_k3``. Dr. GRPO: ``scale="none"`` and ``"constant"``.
- DAPO: ``group_advantages`` with ``overlong_penalty`` in the rewards,
  ``ppo_clip_tokens(..., eps_high=0.28)``, ``"token_mean"``.
- NGRPO: ``ngrpo_advantages``, ``ppo_clip_tokens(..., eps_low=0.16, eps_high=0.24)``,
  ``"token_mean"``.
- RLOO: ``rloo_advantages``, ``rloo_loss``, mean. GSPO, GMPO: ``group_advantages``,
  ``gspo_loss`` or ``gmpo_loss``, mean.
- PPO: ``gae``, ``masked_whiten``, ``ppo_clip_tokens``, ``"token_mean"``, and
  ``clipped_value_loss``. RTO: the same with ``rto_token_rewards``.
"""

from logitlab.losses.policy_gradient import (
    advantages,
    discriminative,
    divergences,
    one_example,
    returns,
    sampled_answers,
    sequence_surrogates,
    token_rewards,
    token_surrogates,
)
from logitlab.losses.policy_gradient.advantages import (
    group_advantages,
    ngrpo_advantages,
    overlong_penalty,
    rloo_advantages,
)
from logitlab.losses.policy_gradient.discriminative import (
    disco_loss,
    drpo_loss,
    length_weights,
)
from logitlab.losses.policy_gradient.divergences import kl_k1, kl_k2, kl_k3
from logitlab.losses.policy_gradient.one_example import (
    historical_variance_rank,
    rlvr_loss,
)
from logitlab.losses.policy_gradient.returns import (
    clipped_value_loss,
    gae,
    masked_whiten,
    psr_nsr_advantages,
    reinforce_pp_advantages,
    remax_advantages,
)
from logitlab.losses.policy_gradient.sampled_answers import awr_loss, best_of_n_loss
from logitlab.losses.policy_gradient.sequence_surrogates import (
    gmpo_loss,
    gspo_loss,
    gspo_token_loss,
    reinforce_loss,
    rloo_loss,
)
from logitlab.losses.policy_gradient.token_rewards import (
    dpo_token_rewards,
    rto_token_rewards,
)
from logitlab.losses.policy_gradient.token_surrogates import (
    aggregate_tokens,
    cispo_tokens,
    ppo_clip_tokens,
    sapo_tokens,
)

__all__ = [
    "aggregate_tokens",
    "awr_loss",
    "best_of_n_loss",
    "cispo_tokens",
    "clipped_value_loss",
    "disco_loss",
    "dpo_token_rewards",
    "drpo_loss",
    "gae",
    "gmpo_loss",
    "group_advantages",
    "gspo_loss",
    "gspo_token_loss",
    "historical_variance_rank",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "length_weights",
    "masked_whiten",
    "ngrpo_advantages",
    "overlong_penalty",
    "ppo_clip_tokens",
    "psr_nsr_advantages",
    "reinforce_loss",
    "reinforce_pp_advantages",
    "remax_advantages",
    "rlvr_loss",
    "rloo_advantages",
    "rloo_loss",
    "rto_token_rewards",
    "sapo_tokens",
]

ROWS = (
    token_surrogates.ROWS
    + sequence_surrogates.ROWS
    + divergences.ROWS
    + returns.ROWS
    + discriminative.ROWS
    + one_example.ROWS
    + sampled_answers.ROWS
)
