"""Reinforcement learning from rewards: advantages, returns, token rewards, prompts."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.rl.advantages import (
    group_advantages,
    ngrpo_advantages,
    overlong_penalty,
    rloo_advantages,
)
from logitlab.rl.baselines import RunningMean, kto_kl_estimate, running_mean_update
from logitlab.rl.prompts import (
    BetaSampler,
    beta_sampler_init,
    beta_sampler_select,
    beta_sampler_update,
    historical_variance_rank,
    variance_gain,
)
from logitlab.rl.returns import (
    gae,
    masked_whiten,
    psr_nsr_advantages,
    reinforce_pp_advantages,
    remax_advantages,
)
from logitlab.rl.rewards import combine_rewards_and, lsc_transform, reference_quantile
from logitlab.rl.token_aggregation import aggregate_tokens, length_weights
from logitlab.rl.token_rewards import (
    contrastive_dpo_reward,
    dpo_token_rewards,
    rto_token_rewards,
)
from logitlab.rl.token_weights import importance_weights, off_policy_mask

__all__ = [
    "BetaSampler",
    "RunningMean",
    "aggregate_tokens",
    "beta_sampler_init",
    "beta_sampler_select",
    "beta_sampler_update",
    "combine_rewards_and",
    "contrastive_dpo_reward",
    "dpo_token_rewards",
    "gae",
    "group_advantages",
    "historical_variance_rank",
    "importance_weights",
    "kto_kl_estimate",
    "length_weights",
    "lsc_transform",
    "masked_whiten",
    "ngrpo_advantages",
    "off_policy_mask",
    "overlong_penalty",
    "psr_nsr_advantages",
    "reference_quantile",
    "reinforce_pp_advantages",
    "remax_advantages",
    "rloo_advantages",
    "rto_token_rewards",
    "running_mean_update",
    "variance_gain",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
