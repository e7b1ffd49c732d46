"""Catalogue rows of ``logitlab.losses.policy_gradient.token_surrogates``."""

from logitlab.losses._rows.policy_gradient import draws
from logitlab.losses.policy_gradient.token_surrogates import (
    cispo_loss,
    ppo_clip_loss,
    sapo_loss,
    vespo_loss,
)

ROWS = (
    draws.row(
        ppo_clip_loss,
        "elementwise",
        "PPO, Schulman et al. 2017, arXiv:1707.06347",
        note="With ``rl.aggregate_tokens`` also GRPO, Dr. GRPO, BNPO, DAPO and NGRPO.",
    ),
    draws.row(
        cispo_loss,
        "elementwise",
        "MiniMax-M1, 2025, arXiv:2506.13585",
        surrogate="the importance weight carries no gradient",
    ),
    draws.row(
        vespo_loss,
        "elementwise",
        "VESPO, Shen et al. 2026, arXiv:2602.10693",
        golden=None,
        surrogate="the weight of the sequence carries no gradient",
    ),
    draws.row(sapo_loss, "elementwise", "SAPO, Gao et al. 2025, arXiv:2511.20347"),
)
