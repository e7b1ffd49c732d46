"""What each loss of the catalogue is for: the order of the tables in README.md.

Every loss stands in one group. When to use it, its docstring says.
"""

from typing import NamedTuple


class Purpose(NamedTuple):
    """One section of the table.

    Attributes:
      title: the heading, which other pages link to.
      advice: what to take first, in full sentences.
      losses: their names, in the order of the table.
    """

    title: str
    advice: str
    losses: tuple[str, ...]


PURPOSES = (
    Purpose(
        "One label per example",
        "Start with `cross_entropy`. The others change how confident examples count, "
        "or which link makes probabilities of the logits.",
        (
            "cross_entropy",
            "comp_sum_loss",
            "focal_loss",
            "poly1_loss",
            "poly_n_loss",
            "fenchel_young_loss",
            "fenchel_young_max_loss",
            "spherical_softmax_loss",
            "taylor_softmax_loss",
            "spherical_z_loss",
            "spherical_mse_loss",
            "ensloss",
            "multiclass_ensloss",
        ),
    ),
    Purpose(
        "Embeddings",
        "Metric learning: start with `supcon_loss`, or where classes are many with "
        "`arcface_loss`. A row of cosines divided by a temperature is a row of logits: "
        "any loss of one label per example may be put in the place of theirs.",
        (
            "supcon_loss",
            "ntxent_loss",
            "simclr_ntxent_loss",
            "infonce_loss",
            "multi_similarity_loss",
            "circle_loss",
            "triplet_margin_loss",
            "contrastive_pair_loss",
            "normalized_softmax_loss",
            "proxy_nca_loss",
            "proxy_anchor_loss",
            "cosface_loss",
            "arcface_loss",
            "magface_loss",
            "unpg_loss",
            "proto_triplet_loss",
            "icnn_loss",
            "groco_loss",
            "group_order_bce_loss",
            "amcl_simclr_loss",
            "advflyp_loss",
        ),
    ),
    Purpose(
        "Noisy labels",
        "Start with `generalized_cross_entropy`. Bounded losses forgive wrong labels "
        "and learn more slowly from right ones.",
        (
            "generalized_cross_entropy",
            "symmetric_cross_entropy",
            "normalized_cross_entropy",
            "asymmetric_gce_loss",
            "asymmetric_unhinged_loss",
            "js_label_noise_loss",
            "bootstrapping_loss",
            "bi_tempered_logistic_loss",
            "ldr_kl_loss",
            "aldr_kl_loss",
            "smoothed_zero_one_loss",
        ),
    ),
    Purpose(
        "Calibration and confidence",
        "Start with `label_smoothing_loss`. Proper scores judge probabilities; "
        "penalties are added to another loss.",
        (
            "label_smoothing_loss",
            "brier_loss",
            "spherical_score_loss",
            "confidence_penalty",
            "confidence_penalized_cross_entropy",
            "logit_norm_loss",
            "z_loss",
            "tempnet_robust_loss",
        ),
    ),
    Purpose(
        "Class imbalance and long tails",
        "Start with `logit_adjusted_loss` where you know how frequent classes are. "
        "`weights.class_balanced_weights` makes weights of counts.",
        (
            "logit_adjusted_loss",
            "balanced_softmax_loss",
            "weighted_cross_entropy",
            "ldam_loss",
            "anyloss",
            "anyloss_hybrid",
            "splitter_penalty",
            "likelihood_weighted_focal_loss",
            "reweighted_loss",
            "uer_loss",
            "sade_loss",
            "margin_control_loss",
        ),
    ),
    Purpose(
        "Several heads or models",
        "Losses of models that are combined; `transforms.ensemble_logits` and "
        "`transforms.drm_predict` combine them.",
        (
            "drm_loss",
            "multi_branch_loss",
            "mixup_smoothing_loss",
            "gaussian_score_loss",
        ),
    ),
    Purpose(
        "Groups that must be treated alike",
        "Start with `worst_group_loss`. The penalties are added to another loss; "
        "`metrics` has the numbers to report.",
        (
            "worst_group_loss",
            "fairness_regularized_loss",
            "joint_distance_covariance_penalty",
            "concatenated_distance_covariance_penalty",
            "decorrelation_loss",
        ),
    ),
    Purpose(
        "Networks that are easier to explain",
        "Penalties of hidden vectors and of attributions, added to another loss; "
        "`metrics` explains logits.",
        (
            "factor_consistency_loss",
            "residual_std_loss",
        ),
    ),
    Purpose(
        "Several labels per example",
        "Start with `sigmoid_cross_entropy`. Labels have the logits' shape.",
        (
            "sigmoid_cross_entropy",
            "bandit_kl_loss",
            "multilabel_soft_margin_loss",
            "sigmoid_focal_loss",
            "asymmetric_loss",
            "zlpr_loss",
            "multilabel_margin_loss",
            "lca_loss",
            "weighted_binary_cross_entropy",
            "label_correlation_loss",
            "jaccard_contrastive_loss",
            "multilabel_hybrid_loss",
        ),
    ),
    Purpose(
        "Margins and top-k",
        "Start with `multiclass_hinge_loss`. These losses stop at a margin and give no"
        " probabilities.",
        (
            "multiclass_hinge_loss",
            "weston_watkins_loss",
            "multi_margin_loss",
            "lee_lin_wahba_loss",
            "ovr_hinge_loss",
            "squared_hinge_loss",
            "l2_svm_objective",
            "topk_hinge_loss",
            "smooth_topk_loss",
        ),
    ),
    Purpose(
        "Adversarial robustness",
        "Start with `trades_loss`. Of the comp-sum losses one trains with "
        "`smooth_adversarial_comp_sum_loss`; the others are its attack's objective and "
        "the losses that the theory bounds.",
        (
            "trades_loss",
            "mart_loss",
            "adversarial_cross_entropy",
            "logit_pairing_loss",
            "ramp_pairing_loss",
            "kl_dro_loss",
            "smooth_adversarial_comp_sum_loss",
            "margin_shift_penalty",
            "adversarial_comp_rho_margin_loss",
            "comp_rho_margin_loss",
        ),
    ),
    Purpose(
        "Masks and segmentation",
        "Start with `dice_loss`. `decisions.dice_optimal_mask` chooses the mask "
        "afterwards.",
        (
            "dice_loss",
            "class_dice_loss",
            "generalized_dice_loss",
            "dsc_loss",
            "tversky_loss",
            "focal_tversky_loss",
            "lovasz_softmax_loss",
            "lovasz_hinge_loss",
        ),
    ),
    Purpose(
        "Ordered classes",
        "Start with `coral_loss`. Logits are those of thresholds, one fewer than "
        "classes.",
        (
            "coral_loss",
            "corn_loss",
            "cumulative_logit_loss",
            "proportional_odds_loss",
        ),
    ),
    Purpose(
        "Numbers, quantiles and returns",
        "Start with `hl_gauss_loss` for a value from a network and with `pinball_loss`"
        " for quantiles.",
        (
            "hl_gauss_loss",
            "two_hot_loss",
            "c51_loss",
            "pinball_loss",
            "huber_pinball_loss",
            "interval_score",
            "weighted_interval_score",
            "crossing_penalty",
        ),
    ),
    Purpose(
        "Models that decisions are made with",
        "Errors of predicted states, weighted by what they do to a value; "
        "`losses.value_gradient` makes the weights. `x0_regression_loss` is the "
        "unweighted error.",
        (
            "vagram_loss",
            "taylor_vaml_loss",
        ),
    ),
    Purpose(
        "Ranking, recommendation and choice",
        "Start with `listwise_softmax_loss` for lists with relevances and with "
        "`bpr_loss` for clicks.",
        (
            "listwise_softmax_loss",
            "listwise_mle_loss",
            "pairwise_logistic_loss",
            "pairwise_hinge_loss",
            "approx_ndcg_loss",
            "bpr_loss",
            "pairwise_bce_loss",
            "mnl_loss",
        ),
    ),
    Purpose(
        "Labels of groups",
        "Start with `bag_loss`. Only the mean label of each bag is known.",
        (
            "bag_loss",
            "instance_loss",
            "interpolated_aggregate_loss",
        ),
    ),
    Purpose(
        "Densities and clusters",
        "These losses need no labels.",
        (
            "nce_loss",
            "meco_loss",
            "depict_loss",
        ),
    ),
    Purpose(
        "Scores and denoisers",
        "Start with `denoising_score_matching_loss`. Scores are gradients of "
        "log-densities in the data; `estimators.tweedie_gaussian` and its relatives "
        "denoise with them.",
        (
            "denoising_score_matching_loss",
            "implicit_score_matching_loss",
            "sliced_score_matching_loss",
            "ardae_loss",
            "x0_regression_loss",
            "denoising_reconstruction_loss",
            "contractive_reconstruction_loss",
            "noprop_block_loss",
        ),
    ),
    Purpose(
        "Sequences and language modeling",
        "For a huge vocabulary, take the losses of `logitlab.heads` instead.",
        (
            "mean_token_nll",
            "sft_loss",
            "ctc_loss",
        ),
    ),
    Purpose(
        "Checkered models",
        "Losses of `links.checkered` factors; `optim.xgd` descends them.",
        (
            "sum_log_concave_loss",
            "cross_loss",
            "checkered_cross_loss",
        ),
    ),
    Purpose(
        "Distilling a classifier",
        "Start with `kd_loss` at a temperature of 4. Standardize logits first "
        "(`transforms.standardize_logits`) where the scales of teacher and student "
        "differ.",
        (
            "kd_loss",
            "dkd_loss",
            "nkd_loss",
            "wsld_loss",
            "dist_loss",
            "dist_inter_loss",
            "dist_intra_loss",
            "logit_mse_loss",
            "binary_kl",
            "normalized_binary_kl",
            "self_distill_mse_loss",
            "uskd_loss",
            "adaptive_alpha_divergence",
            "pld_loss",
            "list_mle_distillation_loss",
            "mlkd_loss",
            "class_correlation_loss",
            "batch_correlation_loss",
            "makd_loss",
        ),
    ),
    Purpose(
        "Distilling relations between examples",
        "These losses take features, which may differ in width.",
        (
            "rkd_distance_loss",
            "rkd_angle_loss",
            "similarity_preserving_loss",
            "pkt_loss",
        ),
    ),
    Purpose(
        "Distilling a language model",
        "Start with `skew_kl`. `heads.fused_linear_distillation` gives divergences "
        "from hidden states, without the logits.",
        (
            "skew_kl",
            "skew_reverse_kl",
            "reverse_kl",
            "symmetric_kl",
            "js_divergence",
            "total_variation_divergence",
            "uld_loss",
            "gld_loss",
            "online_distill_loss",
            "aligndistil_loss",
            "qcrd_loss",
        ),
    ),
    Purpose(
        "Updating a deployed model",
        "Negative flips are inputs that the old model had right and the new one has "
        "wrong.",
        (
            "focal_distillation_loss",
            "margin_calibrated_cross_entropy",
        ),
    ),
    Purpose(
        "Distilling a diffusion model",
        "Losses of score identity distillation (SiD), on pixels.",
        (
            "sid_generator_loss",
            "denoising_score_loss",
            "sid_adversarial_loss",
            "sid_discriminator_loss",
        ),
    ),
    Purpose(
        "Preferences between pairs of answers",
        "Start with `dpo_loss`. Arguments are sums of token log-probabilities of "
        "policy and reference, from `sequences.sequence_log_prob`.",
        (
            "dpo_loss",
            "robust_dpo_loss",
            "ipo_loss",
            "dpo_hinge_loss",
            "exo_loss",
            "discopop_loss",
            "sigmoid_norm_loss",
            "r_dpo_loss",
            "rpo_loss",
            "dpop_loss",
            "apo_zero_loss",
            "apo_down_loss",
            "nca_loss",
            "bco_pair_loss",
            "sppo_loss",
            "aot_loss",
            "f_dpo_loss",
            "dpa_loss",
            "inpo_loss",
            "xpo_loss",
            "nash_md_pg_loss",
            "spo_loss",
            "preference_degree_loss",
        ),
    ),
    Purpose(
        "Preferences without a reference model",
        "Start with `simpo_loss`. `mean_logps` are means over tokens.",
        (
            "simpo_loss",
            "alphapo_loss",
            "cpo_loss",
            "orpo_odds_ratio_loss",
            "slic_hf_loss",
            "rrhf_loss",
            "tpo_loss",
        ),
    ),
    Purpose(
        "Ratings of single answers",
        "Start with `kto_loss`.",
        (
            "kto_loss",
            "bco_loss",
        ),
    ),
    Purpose(
        "Reward models",
        "`rl.combine_rewards_and` adds several rewards up.",
        (
            "bradley_terry_loss",
            "plackett_luce_loss",
        ),
    ),
    Purpose(
        "Reinforcement learning from rewards",
        "Start with `ppo_clip_loss` and `rl.group_advantages`, which is GRPO; "
        "`rl.aggregate_tokens` averages over tokens as each algorithm does.",
        (
            "ppo_clip_loss",
            "cispo_loss",
            "sapo_loss",
            "vespo_loss",
            "gspo_loss",
            "gspo_token_loss",
            "gmpo_loss",
            "rloo_loss",
            "reinforce_loss",
            "drpo_loss",
            "disco_loss",
            "best_of_n_loss",
            "awr_loss",
            "rlvr_loss",
            "clipped_value_loss",
            "kl_k1",
            "kl_k2",
            "kl_k3",
        ),
    ),
)
"""Sections of the table of losses, in the order of the page."""
