"""Losses: (logits, labels) to one number per example, one module for each family.

Every public name of a family is found here: ``losses.cross_entropy``. A family is
imported when one of its names is first used. ``logitlab.losses.catalogue`` says what is
true of each loss.
"""

import textwrap
from typing import TYPE_CHECKING

from logitlab import _lazy

if TYPE_CHECKING:
    from logitlab.losses.adversarial import *
    from logitlab.losses.aggregate import *
    from logitlab.losses.binary import *
    from logitlab.losses.clustering import *
    from logitlab.losses.comp_sums import *
    from logitlab.losses.confusion import *
    from logitlab.losses.contrastive import *
    from logitlab.losses.ctc import *
    from logitlab.losses.density import *
    from logitlab.losses.distillation import *
    from logitlab.losses.fairness import *
    from logitlab.losses.fenchel import *
    from logitlab.losses.imbalance import *
    from logitlab.losses.listwise import *
    from logitlab.losses.log_concave import *
    from logitlab.losses.lovasz import *
    from logitlab.losses.margin import *
    from logitlab.losses.multinomial_choice import *
    from logitlab.losses.ordinal import *
    from logitlab.losses.policy_gradient import *
    from logitlab.losses.polynomial import *
    from logitlab.losses.preference import *
    from logitlab.losses.quantile import *
    from logitlab.losses.ranking import *
    from logitlab.losses.regression_as_classification import *
    from logitlab.losses.regularized import *
    from logitlab.losses.residual_stream import *
    from logitlab.losses.robust import *
    from logitlab.losses.segmentation import *
    from logitlab.losses.smooth_adversarial import *
    from logitlab.losses.spherical import *
    from logitlab.losses.topk import *
    from logitlab.losses.value_models import *

_FAMILIES = {
    "comp_sums": (
        "cross-entropy and other functions of the label's probability",
        "cross_entropy weighted_cross_entropy focal_loss comp_sum_loss "
        "comp_rho_margin_loss",
    ),
    "polynomial": (
        "cross-entropy plus a polynomial of the probability of being wrong",
        "poly1_loss poly_n_loss",
    ),
    "regularized": (
        "cross-entropy with softened labels or scaled logits, penalties, proper scores",
        "label_smoothing_loss bootstrapping_loss logit_norm_loss confidence_penalty "
        "confidence_penalized_cross_entropy z_loss brier_loss spherical_score_loss",
    ),
    "binary": (
        "one yes-or-no logit per class",
        "sigmoid_cross_entropy bandit_kl_loss smoothed_zero_one_loss",
    ),
    "margin": (
        "hinge losses",
        "multiclass_hinge_loss weston_watkins_loss multi_margin_loss "
        "lee_lin_wahba_loss ovr_hinge_loss squared_hinge_loss l2_svm_objective "
        "multilabel_margin_loss",
    ),
    "topk": (
        "the label has to be among the k best",
        "topk_hinge_loss smooth_topk_loss",
    ),
    "robust": (
        "noisy labels and heavy tails",
        "generalized_cross_entropy symmetric_cross_entropy normalized_cross_entropy "
        "js_label_noise_loss bi_tempered_logistic_loss asymmetric_gce_loss "
        "asymmetric_unhinged_loss ldr_kl_loss aldr_kl_loss tempnet_robust_loss "
        "ensloss multiclass_ensloss",
    ),
    "imbalance": (
        "rare classes, labels (multi-label) and samples; experts; replay of old ones",
        "balanced_softmax_loss logit_adjusted_loss ldam_loss sigmoid_focal_loss "
        "asymmetric_loss multilabel_soft_margin_loss zlpr_loss "
        "weighted_binary_cross_entropy label_correlation_loss lca_loss "
        "jaccard_contrastive_loss multilabel_hybrid_loss "
        "likelihood_weighted_focal_loss reweighted_loss uer_loss sade_loss "
        "multi_branch_loss drm_loss mixup_smoothing_loss gaussian_score_loss "
        "margin_control_loss",
    ),
    "smooth_adversarial": (
        "comp-sum losses for adversarial training",
        "smooth_adversarial_comp_sum_loss adversarial_comp_rho_margin_loss "
        "margin_shift_penalty",
    ),
    "adversarial": (
        "examples beside their attacked versions: TRADES, MART, pairings, DRO",
        "adversarial_cross_entropy trades_loss mart_loss logit_pairing_loss "
        "ramp_pairing_loss kl_dro_loss",
    ),
    "spherical": (
        "losses whose cost need not grow with the number of classes",
        "spherical_softmax_loss taylor_softmax_loss spherical_z_loss "
        "spherical_mse_loss",
    ),
    "fenchel": (
        "the losses of sparse links such as sparsemax",
        "fenchel_young_loss fenchel_young_max_loss",
    ),
    "segmentation": (
        "overlap of sets of pixels: Dice and Tversky",
        "dice_loss class_dice_loss generalized_dice_loss dsc_loss tversky_loss "
        "focal_tversky_loss",
    ),
    "lovasz": (
        "overlap of sets of pixels: the Jaccard index",
        "lovasz_softmax_loss lovasz_hinge_loss",
    ),
    "confusion": (
        "metrics of a binary confusion matrix, such as F-beta",
        "anyloss anyloss_hybrid splitter_penalty",
    ),
    "ordinal": (
        "ordered classes",
        "cumulative_logit_loss proportional_odds_loss coral_loss corn_loss "
        "presto_penalty",
    ),
    "regression_as_classification": (
        "regression by cross-entropy over bins",
        "hl_gauss_loss two_hot_loss c51_loss",
    ),
    "quantile": (
        "quantile regression",
        "pinball_loss huber_pinball_loss interval_score weighted_interval_score "
        "crossing_penalty",
    ),
    "listwise": (
        "a query's list of documents",
        "listwise_softmax_loss listwise_mle_loss pairwise_logistic_loss "
        "pairwise_hinge_loss approx_ndcg_loss",
    ),
    "ranking": (
        "a preferred item against another one",
        "bpr_loss pairwise_bce_loss",
    ),
    "aggregate": (
        "labels that are known only as means of bags of examples",
        "bag_loss instance_loss interpolated_aggregate_loss",
    ),
    "fairness": (
        "groups that must be treated alike; features that should count alike",
        "worst_group_loss fairness_regularized_loss "
        "joint_distance_covariance_penalty concatenated_distance_covariance_penalty "
        "factor_consistency_loss decorrelation_loss",
    ),
    "residual_stream": (
        "hidden vectors of one size, for networks without norms",
        "residual_std_loss",
    ),
    "clustering": (
        "clustering with a softmax head",
        "depict_loss",
    ),
    "contrastive": (
        "embeddings against each other or against proxies: metric learning",
        "supcon_loss ntxent_loss simclr_ntxent_loss infonce_loss "
        "normalized_softmax_loss proxy_nca_loss proxy_anchor_loss cosface_loss "
        "arcface_loss magface_loss magface_penalty unpg_loss contrastive_pair_loss "
        "triplet_margin_loss circle_loss multi_similarity_loss proto_triplet_loss "
        "icnn_loss groco_loss group_order_bce_loss amcl_simclr_loss "
        "adaptive_temperature advflyp_loss",
    ),
    "value_models": (
        "models of the next state, judged by a value function",
        "vagram_loss taylor_vaml_loss value_gradient",
    ),
    "ctc": (
        "label sequences without an alignment",
        "ctc_loss",
    ),
    "density": (
        "unnormalized densities, scores and denoisers, learned from samples",
        "nce_loss meco_loss denoising_score_matching_loss "
        "implicit_score_matching_loss sliced_score_matching_loss ardae_loss "
        "x0_regression_loss denoising_reconstruction_loss "
        "contractive_reconstruction_loss noprop_block_loss",
    ),
    "log_concave": (
        "sums of log-concave terms",
        "sum_log_concave_loss cross_loss checkered_cross_loss",
    ),
    "multinomial_choice": (
        "a choice among alternatives, or of none of them",
        "mnl_loss",
    ),
    "distillation": (
        "a student's logits against a teacher's",
        "kd_loss reverse_kl symmetric_kl js_divergence skew_kl skew_reverse_kl "
        "total_variation_divergence dkd_loss nkd_loss wsld_loss dist_loss "
        "dist_inter_loss dist_intra_loss mlkd_loss class_correlation_loss "
        "batch_correlation_loss pld_loss list_mle_distillation_loss logit_mse_loss "
        "self_distill_mse_loss binary_kl normalized_binary_kl "
        "focal_distillation_loss makd_loss margin_calibrated_cross_entropy "
        "rkd_distance_loss rkd_angle_loss similarity_preserving_loss pkt_loss "
        "uld_loss gld_loss uskd_loss uskd_parts aligndistil_loss adaptive_weight "
        "online_distill_loss qcrd_loss progressive_guidance_loss sid_generator_loss "
        "sid_adversarial_loss sid_discriminator_loss denoising_score_loss "
        "adaptive_alpha_divergence",
    ),
    "preference": (
        "preferences between answers: DPO and its relatives, reward models",
        "dpo_loss rpo_loss ipo_loss robust_dpo_loss dpo_hinge_loss exo_loss "
        "discopop_loss sigmoid_norm_loss r_dpo_loss f_dpo_loss dpa_loss nca_loss "
        "bco_pair_loss sppo_loss apo_zero_loss apo_down_loss dpop_loss aot_loss "
        "cpo_loss simpo_loss alphapo_loss orpo_odds_ratio_loss rrhf_loss "
        "slic_hf_loss tpo_loss kto_loss bco_loss sft_loss bradley_terry_loss "
        "plackett_luce_loss inpo_loss nash_md_pg_loss xpo_loss "
        "preference_degree_loss spo_loss",
    ),
    "policy_gradient": (
        "rewards of sampled answers: surrogates and KL estimates",
        "ppo_clip_loss cispo_loss vespo_loss sapo_loss gspo_loss gspo_token_loss "
        "gmpo_loss rloo_loss reinforce_loss rlvr_loss disco_loss drpo_loss "
        "best_of_n_loss awr_loss clipped_value_loss kl_k1 kl_k2 kl_k3",
    ),
}
_HOMES = {
    name: family for family, (_, names) in _FAMILIES.items() for name in names.split()
}


def _page():
    """The families and their functions, as ``help`` prints them."""
    for family, (about, names) in _FAMILIES.items():
        yield f"{family}: {about}"
        yield textwrap.indent(textwrap.fill(", ".join(names.split()), 84), "    ")


__doc__ = "\n".join([__doc__ or "", *_page()])

if not TYPE_CHECKING:  # checkers read the imports above
    __all__ = list(_HOMES)
    __getattr__, __dir__ = _lazy.attach(
        __name__, __all__, modules=[*_FAMILIES, "catalogue"], homes=_HOMES
    )
