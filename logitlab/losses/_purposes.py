"""What each loss of the catalogue is for: the order of the table in README.md.

Every loss stands in one group. Its text completes "Use it when ...".
"""

from collections.abc import Mapping
from typing import NamedTuple


class Purpose(NamedTuple):
    """One section of the table.

    Attributes:
      title: the heading, which other pages link to.
      advice: what to take first, in full sentences.
      losses: name -> what completes "Use it when".
    """

    title: str
    advice: str
    losses: Mapping[str, str]


PURPOSES = (
    Purpose(
        "One label per example",
        "Start with `cross_entropy`. The others change how confident examples count, "
        "or which link makes probabilities of the logits.",
        {
            "cross_entropy": (
                "an example has one class, or a distribution over classes; exact at "
                "any margin"
            ),
            "comp_sum_loss": (
                "you want one knob, `tau`, from the sum-exponential loss through "
                "cross-entropy to the absolute error"
            ),
            "focal_loss": "easy examples drown the hard ones",
            "poly1_loss": "you want to tune how much easy examples count",
            "poly_n_loss": "you want to tune more than one coefficient of `poly1_loss`",
            "fenchel_young_loss": (
                "probabilities should be sparse: it trains sparsemax and entmax"
            ),
            "fenchel_young_max_loss": (
                "you have a regularized maximum function of your own"
            ),
            "spherical_softmax_loss": "probabilities grow with the square of a score",
            "taylor_softmax_loss": (
                "you compare the Taylor softmax with the exponential one"
            ),
            "spherical_z_loss": (
                "the number of classes is huge and the head is updated in factors"
            ),
            "spherical_mse_loss": (
                "scores themselves should be probabilities, fitted by squared error"
            ),
            "ensloss": (
                "labels are binary and no single surrogate should decide: every step "
                "draws one"
            ),
            "multiclass_ensloss": "you want `ensloss` for more than two classes",
        },
    ),
    Purpose(
        "Noisy labels",
        "Start with `generalized_cross_entropy`. Bounded losses forgive wrong labels "
        "and learn more slowly from right ones.",
        {
            "generalized_cross_entropy": (
                "some labels are wrong: `q` moves from cross-entropy to the absolute "
                "error"
            ),
            "symmetric_cross_entropy": (
                "you add a term that tolerates noise to cross-entropy"
            ),
            "normalized_cross_entropy": (
                "you need a loss that is provably robust to symmetric noise"
            ),
            "asymmetric_gce_loss": (
                "the right label is still the most frequent one, and you may tune `q`"
            ),
            "asymmetric_unhinged_loss": (
                "as above, with a loss that is linear in the probabilities"
            ),
            "js_label_noise_loss": (
                "you want a bounded divergence between label and prediction"
            ),
            "bootstrapping_loss": (
                "the model's own answers are better than some of the labels"
            ),
            "bi_tempered_logistic_loss": (
                "there are outliers far from the boundary as well as flipped labels"
            ),
            "ldr_kl_loss": (
                "labels are doubtful and you accept one temperature for all examples"
            ),
            "aldr_kl_loss": (
                "each example may be wrong to another degree: every one keeps its own "
                "temperature"
            ),
        },
    ),
    Purpose(
        "Calibration and confidence",
        "Start with `label_smoothing_loss`. Proper scores judge probabilities; "
        "penalties are added to another loss.",
        {
            "label_smoothing_loss": "predictions are overconfident",
            "brier_loss": (
                "probabilities matter, not only the top class, in a bounded proper "
                "score"
            ),
            "spherical_score_loss": "you want a second bounded proper score",
            "confidence_penalty": "you add a price on low entropy to another loss",
            "confidence_penalized_cross_entropy": (
                "you study cross-entropy's parts and price confidence alone"
            ),
            "logit_norm_loss": (
                "the norm of the logits should not decide confidence, as for detecting "
                "inputs from elsewhere (out-of-distribution)"
            ),
            "z_loss": "logits drift: keeps the log-partition of a softmax near zero",
            "tempnet_robust_loss": (
                "a network predicts a temperature for each example (TempNet)"
            ),
        },
    ),
    Purpose(
        "Class imbalance and long tails",
        "Start with `logit_adjusted_loss` where you know how frequent classes are. "
        "`weights.class_balanced_weights` makes weights of counts.",
        {
            "logit_adjusted_loss": (
                "classes have a long tail and the mean over classes counts (balanced "
                "error)"
            ),
            "balanced_softmax_loss": (
                "you have class counts and want no hyper-parameter"
            ),
            "weighted_cross_entropy": "you have a weight for each class",
            "ldam_loss": "rare classes need a wider margin than frequent ones",
            "anyloss": (
                "the F-score, the balanced accuracy or another metric of the confusion "
                "matrix is what you report"
            ),
            "anyloss_hybrid": "`anyloss` alone learns too slowly at the start",
            "splitter_penalty": "you keep `anyloss`'s probabilities away from one half",
            "likelihood_weighted_focal_loss": (
                "inputs of some appearance are rare, whatever their class"
            ),
            "reweighted_loss": (
                "examples should count by their own loss, as in pretraining"
            ),
        },
    ),
    Purpose(
        "Several labels per example",
        "Start with `sigmoid_cross_entropy`. Labels have the logits' shape.",
        {
            "sigmoid_cross_entropy": "every label is present or absent by itself",
            "multilabel_soft_margin_loss": (
                "you want the mean over labels that PyTorch has, with class weights"
            ),
            "sigmoid_focal_loss": (
                "nearly all labels are absent, as in object detection"
            ),
            "asymmetric_loss": "easy absent labels should count for little",
            "zlpr_loss": (
                "labels should be ranked above 0 and the others below, however many"
            ),
            "multilabel_margin_loss": (
                "every present label should lead every absent one by a margin"
            ),
            "lca_loss": "present labels should merely be likelier than absent ones",
            "weighted_binary_cross_entropy": "some labels are rarer than others",
            "label_correlation_loss": "you know which labels go together",
            "jaccard_contrastive_loss": (
                "embeddings of examples with equal label sets should be close"
            ),
            "multilabel_hybrid_loss": (
                "you want the last three together, as the Arabic emotion classifier has"
            ),
        },
    ),
    Purpose(
        "Margins and top-k",
        "Start with `multiclass_hinge_loss`. These losses stop at a margin and give no "
        "probabilities.",
        {
            "multiclass_hinge_loss": (
                "you want a support vector machine: the best rival stays a margin below"
            ),
            "weston_watkins_loss": "every rival should stay a margin below the label",
            "multi_margin_loss": (
                "you want PyTorch's mean over classes, with class weights"
            ),
            "lee_lin_wahba_loss": "the hinge has to be consistent for many classes",
            "ovr_hinge_loss": "each class has a binary machine of its own",
            "squared_hinge_loss": "you want the L2-SVM, which is differentiable",
            "l2_svm_objective": "you want the whole objective, with the head's norm",
            "topk_hinge_loss": "the label need only be among the best k (top-5 error)",
            "smooth_topk_loss": "the same, with gradients for a deep network",
        },
    ),
    Purpose(
        "Adversarial robustness",
        "`smooth_adversarial_comp_sum_loss` is what one trains with; the other two are "
        "the attack's objective and the loss that the theory bounds.",
        {
            "smooth_adversarial_comp_sum_loss": (
                "you train on clean and attacked inputs together"
            ),
            "margin_shift_penalty": "you need what the attacker of that loss maximizes",
            "adversarial_comp_rho_margin_loss": (
                "you evaluate attacked examples alone, by the loss of the theory"
            ),
            "comp_rho_margin_loss": "you need that loss without an attack",
        },
    ),
    Purpose(
        "Masks and segmentation",
        "Start with `dice_loss`. `decisions.dice_optimal_mask` chooses the mask "
        "afterwards.",
        {
            "dice_loss": "overlap of a mask is what counts, in one number for a set",
            "class_dice_loss": "you report the Dice score of every class",
            "generalized_dice_loss": "regions of rare classes should count as much",
            "dsc_loss": "you want Dice for each example, for imbalanced tagging",
            "tversky_loss": "missing a pixel and marking one too many differ in price",
            "focal_tversky_loss": "small regions are lost in large ones",
            "lovasz_softmax_loss": "the mean IoU (Jaccard index) is what you report",
            "lovasz_hinge_loss": "the IoU of one binary mask is what you report",
        },
    ),
    Purpose(
        "Ordered classes",
        "Start with `coral_loss`. Logits are those of thresholds, one fewer than "
        "classes.",
        {
            "coral_loss": "classes are ratings or ages, in an order",
            "corn_loss": "the thresholds should not share one weight vector",
            "cumulative_logit_loss": "you fit ordinal regression or PRESTO yourself",
            "proportional_odds_loss": (
                "one score and a list of thresholds make the probabilities"
            ),
        },
    ),
    Purpose(
        "Numbers, quantiles and returns",
        "Start with `hl_gauss_loss` for a value from a network and with `pinball_loss` "
        "for quantiles.",
        {
            "hl_gauss_loss": (
                "you regress a number, say the value of a state, with a classifier"
            ),
            "two_hot_loss": "the same, with the mass on the two nearest atoms",
            "c51_loss": "you learn the distribution of the return (C51)",
            "pinball_loss": "you predict quantiles",
            "huber_pinball_loss": "you predict quantiles and want a smooth kink",
            "interval_score": "you judge intervals by width and misses",
            "weighted_interval_score": "you judge all quantiles of a forecast at once",
            "crossing_penalty": "quantiles cross and should not",
        },
    ),
    Purpose(
        "Ranking, recommendation and choice",
        "Start with `listwise_softmax_loss` for lists with relevances and with "
        "`bpr_loss` for clicks.",
        {
            "listwise_softmax_loss": "a list of documents has graded relevances",
            "listwise_mle_loss": "the whole order of the list counts",
            "pairwise_logistic_loss": "which of two items is more relevant counts",
            "pairwise_hinge_loss": "the same, with a margin",
            "approx_ndcg_loss": "NDCG is what you report",
            "bpr_loss": (
                "users clicked some items of a shop or feed (implicit feedback)"
            ),
            "pairwise_bce_loss": (
                "clicks are noisy and each should count as its own example"
            ),
            "mnl_loss": "people chose one of several offers, or none of them",
        },
    ),
    Purpose(
        "Labels of groups",
        "Start with `bag_loss`. Only the mean label of each bag is known.",
        {
            "bag_loss": "privacy or reporting leaves only averages over bags",
            "instance_loss": "bags are pure enough to lend each member the bag's label",
            "interpolated_aggregate_loss": "you want something between the two",
        },
    ),
    Purpose(
        "Densities and clusters",
        "These losses need no labels.",
        {
            "nce_loss": "an unnormalized density is learned against noise",
            "meco_loss": "an unnormalized density is learned by maximum likelihood",
            "depict_loss": (
                "unlabeled images are clustered; `targets.cluster_targets` makes the "
                "targets"
            ),
        },
    ),
    Purpose(
        "Sequences and language modeling",
        "For a huge vocabulary, take the losses of `logitlab.heads` instead.",
        {
            "mean_token_nll": "you score texts by their mean token loss (perplexity)",
            "sft_loss": (
                "you fine-tune a language model on instructions (one mean over tokens)"
            ),
            "ctc_loss": (
                "speech or handwriting comes without an alignment to its text"
            ),
        },
    ),
    Purpose(
        "Checkered models",
        "Losses of `links.checkered` factors; `optim.xgd` descends them.",
        {
            "sum_log_concave_loss": "a label can come about in several ways",
            "cross_loss": "the gradient should use the weights of another point",
            "checkered_cross_loss": "all factors get soft targets at once",
        },
    ),
    Purpose(
        "Distilling a classifier",
        "Start with `kd_loss` at a temperature of 4. Standardize logits first "
        "(`transforms.standardize_logits`) where the scales of teacher and student "
        "differ.",
        {
            "kd_loss": "a small student learns from a teacher's logits",
            "dkd_loss": "the teacher is confident: non-label classes get a weight",
            "nkd_loss": "the same, with both sides' non-label classes normalized",
            "wsld_loss": "soft labels should count less where the student is ahead",
            "dist_loss": "the teacher is much stronger than the student",
            "dist_inter_loss": "you want the part of `dist_loss` across classes",
            "dist_intra_loss": "you want the part of `dist_loss` across examples",
            "logit_mse_loss": "teacher and student have logits of one scale",
            "binary_kl": "each class is a binary problem, on a head of its own",
            "normalized_binary_kl": "the same, by the differences of the logits alone",
            "self_distill_mse_loss": "a model is fitted to its own predictions again",
            "uskd_loss": "there is no teacher: the model makes soft labels itself",
            "pld_loss": "the order of the teacher's classes should be learned at once",
            "list_mle_distillation_loss": "you have a ranking of classes, no logits",
            "mlkd_loss": (
                "you have weak and strong augmentations and want all levels together"
            ),
            "class_correlation_loss": (
                "you want the part of `mlkd_loss` between classes"
            ),
            "batch_correlation_loss": (
                "you want the part of `mlkd_loss` between examples"
            ),
            "makd_loss": "a large model also answered questions about the inputs",
        },
    ),
    Purpose(
        "Distilling relations between examples",
        "These losses take features, which may differ in width.",
        {
            "rkd_distance_loss": "distances between embeddings should be kept",
            "rkd_angle_loss": "angles between embeddings should be kept",
            "similarity_preserving_loss": "similarities within a batch should be kept",
            "pkt_loss": "the same, as probabilities of being neighbors",
        },
    ),
    Purpose(
        "Distilling a language model",
        "Start with `skew_kl`. `heads.fused_linear_distillation` gives divergences "
        "from hidden states, without the logits.",
        {
            "skew_kl": "an LLM student learns from its own or its teacher's texts",
            "skew_reverse_kl": "the same, from the student's side",
            "reverse_kl": "the student should seek one mode rather than cover all",
            "symmetric_kl": "you want both directions, weighted",
            "js_divergence": "you want a bounded divergence, or GKD's skewed one",
            "total_variation_divergence": "you want the distance that draft acceptance "
            "depends on",
            "uld_loss": "the teacher has another tokenizer or vocabulary",
            "gld_loss": "the same, and the structure among top tokens counts",
            "online_distill_loss": (
                "you train a draft model for speculative decoding while its target runs"
            ),
            "aligndistil_loss": "a policy learns token by token from two DPO models",
            "qcrd_loss": "rationales are good and bad, and both are learned from",
        },
    ),
    Purpose(
        "Updating a deployed model",
        "Negative flips are inputs that the old model had right and the new one has "
        "wrong.",
        {
            "focal_distillation_loss": (
                "a new version must not break what the old one got right"
            ),
            "margin_calibrated_cross_entropy": (
                "a new version adds classes and must keep the old ones' margins"
            ),
        },
    ),
    Purpose(
        "Distilling a diffusion model",
        "Losses of score identity distillation (SiD), on pixels.",
        {
            "sid_generator_loss": "a one-step generator learns from a denoiser",
            "denoising_score_loss": "the fake denoiser follows that generator",
            "sid_adversarial_loss": "the generator also meets a discriminator",
            "sid_discriminator_loss": "you train that discriminator",
        },
    ),
    Purpose(
        "Preferences between pairs of answers",
        "Start with `dpo_loss`. Arguments are sums of token log-probabilities of "
        "policy and reference, from `sequences.sequence_log_prob`.",
        {
            "dpo_loss": (
                "humans preferred one of two answers (DPO); with `label_smoothing` cDPO"
            ),
            "robust_dpo_loss": "a known share of the preferences is flipped",
            "ipo_loss": "DPO overfits preferences that are nearly certain",
            "dpo_hinge_loss": "you want a hinge in place of DPO's logistic (RSO)",
            "exo_loss": "you want the reverse divergence of the two-way choice",
            "discopop_loss": "you want the loss that a search by LLMs found",
            "sigmoid_norm_loss": "long answers win: ratios are divided by lengths",
            "r_dpo_loss": "long answers win: a penalty on the difference of lengths",
            "rpo_loss": "DPO leaks mass to answers that nobody has judged",
            "dpop_loss": "chosen answers get less likely while you train",
            "apo_zero_loss": "chosen answers are better than the model's own",
            "apo_down_loss": "the model's own answers are better than the chosen ones",
            "nca_loss": "each answer's own reward should not fall",
            "bco_pair_loss": "each answer of a pair is a thumbs-up or thumbs-down",
            "sppo_loss": "you know win probabilities from self-play",
            "aot_loss": "all chosen answers together should beat all rejected ones",
            "f_dpo_loss": "the policy stays near its reference by another divergence",
            "dpa_loss": "you want a loss by its symbolic name",
            "inpo_loss": "preferences are cyclic and you iterate self-play",
            "xpo_loss": "the policy should explore while it learns online",
            "nash_md_pg_loss": "you play against a mixture with the reference",
            "spo_loss": "an alignment loss gets a second, self-supervised term",
            "preference_degree_loss": "you need that second term alone",
        },
    ),
    Purpose(
        "Preferences without a reference model",
        "Start with `simpo_loss`. `mean_logps` are means over tokens.",
        {
            "simpo_loss": "a second model does not fit into memory",
            "alphapo_loss": "SimPO's reward should have another shape",
            "cpo_loss": "you want DPO without its reference",
            "orpo_odds_ratio_loss": "preference and fine-tuning happen in one stage",
            "slic_hf_loss": "a hinge on sequence likelihoods suffices",
            "rrhf_loss": "answers were ranked and likelihoods should follow",
            "tpo_loss": "there is a gold answer beside the pair",
        },
    ),
    Purpose(
        "Ratings of single answers",
        "Start with `kto_loss`.",
        {
            "kto_loss": "answers come with a thumbs-up or thumbs-down, unpaired",
            "bco_loss": "the same, where liked and disliked prompts differ",
        },
    ),
    Purpose(
        "Reward models",
        "`rl.combine_rewards_and` adds several rewards up.",
        {
            "bradley_terry_loss": "a reward model learns from pairs",
            "plackett_luce_loss": "a reward model learns from rankings of many answers",
        },
    ),
    Purpose(
        "Reinforcement learning from rewards",
        "Start with `ppo_clip_loss` and `rl.group_advantages`, which is GRPO; "
        "`rl.aggregate_tokens` averages over tokens as each algorithm does.",
        {
            "ppo_clip_loss": (
                "answers were rewarded (PPO, GRPO, DAPO), one value per token"
            ),
            "cispo_loss": "clipped tokens should keep a gradient",
            "sapo_loss": "a smooth gate should take the place of the clip",
            "vespo_loss": "samples are stale (off-policy) and weights need softening",
            "gspo_loss": "ratios of whole sequences are steadier, as for mixtures of "
            "experts",
            "gspo_token_loss": "the same, with an advantage for each token",
            "gmpo_loss": "outlying token ratios make training unstable",
            "rloo_loss": "you want RLOO, with the ratio of whole sequences",
            "reinforce_loss": "you are on policy and want no ratio",
            "drpo_loss": "right answers should get shorter",
            "disco_loss": "right answers should score above wrong ones, without clips",
            "best_of_n_loss": "you imitate the best of N samples",
            "awr_loss": "you have a fixed set of rewarded answers (offline)",
            "rlvr_loss": "one example with a verifier is all there is",
            "clipped_value_loss": "you train PPO's value function",
            "kl_k1": "you log a KL divergence from the reference",
            "kl_k2": "you want a KL estimate with a sound gradient",
            "kl_k3": "you add GRPO's KL penalty",
        },
    ),
)
"""Sections of the table of losses, in the order of the page."""
