"""Tables of verdicts, made of what the kept runs left in claims.json."""

import collections

from experiments.common.studies import kept
from logitlab import report

KINDS = {  # columns, each kind counted apart
    "paper": "claims of papers",
    "theorem": "theorems",
    "prototype": "numbers of a prototype of ours",
    "own": "own expectations",
    "question": "open questions",
}
COUNTED = {  # table -> config:variant -> question
    "classification": {
        "classification:noise": "comp-sum and robust losses under label noise",
        "classification:ensloss": "EnsLoss against BCE and hinge under label noise",
        "classification:hl_gauss": "classification against regression of a value",
        "classification:value_learning": (
            "regression and classification of values learned by bootstrapping"
        ),
        "classification:aggregate": (
            "means of labels over bags, private ones too: bags or instances"
        ),
        "classification:multilabel": (
            "a hybrid loss for labels that occur together, and its parts"
        ),
        "classification:few_shot": (
            "naive Bayes on trained features, from two examples of a class on"
        ),
        "classification:tempnet": (
            "a temperature for each context against the best single one: TempNet"
        ),
        "classification:utility": (
            "utilities of answers: largest expected gain against the largest"
        ),
        "classification:gru_svm": "a squared hinge or a softmax behind a GRU",
        "classification:depict": "clusters of digits from balanced targets: DEPICT",
        "classification:presto": "rare classes: shrinking towards proportional odds",
        "classification:meco": "unnormalized models: likelihood against NCE",
        "classification:dice": "Dice- and IoU-optimal masks against a threshold",
        "classification:breast_cancer": "logistic regression against tree and SVM",
        "classification:naive_bayes": (
            "examples that naive Bayes and logistic regression need"
        ),
        "classification:ldr": "a temperature for every example: ALDR-KL, wrong labels",
        "classification:anyloss": "training for F1 and balanced accuracy: AnyLoss",
        "classification:dsc": "Dice, Tversky and self-adjusting losses, rare positives",
        "classification:spherical": "losses of sums and squares of logits: the Z-loss",
        "classification:equity": "weights for images unlike the others: DatasetEquity",
        "classification:reweighting": "weights by the losses of a batch",
    },
    "checkered": {
        "checkered:saddle": "four clouds, gradients and cross-gradients from zero",
        "checkered:references": "which fixed references leave the saddle",
        "checkered:rock_paper_scissors": "a cycle that Bradley-Terry cannot learn",
        "checkered:checkerboard": "3 random lines, 1 to 20 factors, time of a fit",
        "checkered:multiclass": "fans of three rays",
        "checkered:breast_cancer": "against logistic regression and an MLP",
        "checkered:digits": "the same on digits",
        "checkered:modular": (
            "addition mod 23, which two factors can represent and do not find"
        ),
        "checkered:convergence": "the gap against the theorem's bound",
    },
    "scaling_variants": {
        "scaling:links": "whether the exponents move with the objective",
        "scaling:temperature": "the same of temperatures and squared errors",
        "scaling:attention": "whether small transformers follow the law",
        "scaling:classes": (
            "whether the share of error-entropy falls for 4 to 1024 classes"
        ),
    },
    "distillation": {
        "distillation:digits": (
            "distillation losses against each other; where two losses' gradients "
            "conflict (dual heads)"
        ),
        "distillation:mnist1d": "whether these gains carry over to another data set",
        "distillation:scales": (
            "a teacher's logits times 0.1, 1 and 10, standardized or not"
        ),
        "distillation:vocabularies": (
            "a teacher whose classes have other names: ULD, GLD"
        ),
        "distillation:self_knowledge": "no teacher: USKD",
        "distillation:cnn": "NKD and USKD on a convolutional network",
        "distillation:vit": "NKD and USKD on a small vision transformer",
        "distillation:aspects": "a large model's answers to questions (MaKD)",
        "distillation:companions": (
            "learned temperatures, assistants, generations and fellows"
        ),
        "distillation:flips": "negative flips of an update, against its accuracy",
        "distillation:aligndistil": (
            "token-level alignment: distributions against token rewards (AlignDistil)"
        ),
        "distillation:kernel_ridge": "self-distillation in kernel ridge regression",
        "distillation:bits": "weights for 2 bits (EQ-Net)",
        "distillation:bit_widths": "one set of weights for all bit-widths",
        "distillation:rationales": "good and bad explanations (QCRD)",
        "distillation:sid": "one-step generators (SiD)",
        "distillation:sid_mixture": "SiD with networks, in one step and in four",
        "distillation:speculative_draft": "what a draft model should learn",
    },
    "preference": {
        "preference:noise": "flipped preferences: rDPO",
        "preference:coverage": "answers never seen: RPO",
        "preference:cyclic": "cyclic preferences: INPO",
        "preference:entanglement": "gradients of chosen and rejected answers",
        "preference:bandits": "own answers against a fixed set",
        "preference:spread": "the same for spread rewards: PPO, clear pairs",
        "preference:directions": "reverse and forward divergence from a target",
        "preference:judges": "a judge read by its probabilities: TrustJudge",
        "preference:keywords": "answers without their key tokens: SPO",
        "preference:delta": "two weak teachers and a better student",
        "preference:rewards": "sums of transformed rewards",
        "preference:shift": "unpaired feedback on other prompts: BCO",
    },
    "evaluation": {
        "evaluation:calibration": "calibrators and sets of an overconfident network",
        "evaluation:accuracy": "accuracy without labels, on corrupted digits",
        "evaluation:graphs": "a graph network on graphs without labels",
        "evaluation:multiplicity": "equally good models of breast cancer",
        "evaluation:gerrymandering": "fairness to groups, and to their intersections",
        "evaluation:worst_group": "the loss of the worst of two groups, and penalties",
        "evaluation:bits": "the inductive bias that an error needs",
        "evaluation:sampling": "points at which to measure a function",
        "evaluation:selection": "which lines of a batch to train on: UDS",
    },
    "metric_learning": {
        "metric_learning:anomalies": "anomalies among unlabeled images: MuSc",
        "metric_learning:stream": "replay beside a stream of new classes: UER",
        "metric_learning:mining": "which pairs of a batch to learn from",
        "metric_learning:faces": "negative pairs as classes of a margin head: UNPG",
        "metric_learning:few_shot": "two terms beside the loss of prototypes",
        "metric_learning:sorting": "other views sorted before other signals: GroCo",
        "metric_learning:temperatures": "one for every pair of views: AMCL",
        "metric_learning:two_towers": "images and captions under attack: AdvFLYP",
    },
    "features": {
        "features:lazy_rich": "the delay of generalization, and the output's scale",
        "features:lazy_rich_mnist1d": "the same on MNIST-1D",
        "features:polynomials": "three layers against a kernel",
    },
    "robustness": {
        "robustness:tail": "adversarial training for the weakest classes: KL-DRO",
        "robustness:certificates": "certified radii by votes and by soft maps: LVM-RS",
        "robustness:detection": "attacked digits told by their score: EPS-AD",
        "robustness:attacks": "objectives of attacks, and the scale of the logits",
        "robustness:comp_sum": "a penalty on the change of margins, beside TRADES",
        "robustness:union": "one network against several norms: RAMP",
        "robustness:control": "attacks on a controller's one action: group difference",
    },
    "decoding": {
        "decoding:guidance": "a small tuned model guides a large one: proxy tuning",
        "decoding:style": "n-grams of a style added to a model's logits",
        "decoding:correction": "sampled softmax with and without log Q",
        "decoding:codebook": "words that share an output vector",
        "decoding:diversity": "generated training data made more diverse",
    },
    "denoising": {
        "denoising:denoising": "denoisers learned from noisy data alone: Noise2Score",
        "denoising:autoencoders": "the score that autoencoders know",
        "denoising:early_stopping": "when a denoiser of few clean data should stop",
        "denoising:noprop": "blocks that denoise the label: NoProp",
    },
    "online": {
        "online:drift": "optimism against losses that move",
        "online:groups": "one predictor for overlapping groups",
        "online:bandit": "estimates of losses far below zero",
        "online:contextual": "how a network explores that learns of what it pulled",
    },
    "representations": {
        "representations:latent": "labels that a model of unlabeled data saves",
        "representations:halfspace": "halfspaces from partly wrong labels, tested",
        "representations:probe": "what layers know of a text's module",
    },
    "optimization": {
        "optimization:spike": "a learning rate 1000 times too large, capped or not",
        "optimization:fingerprint": "how far a step may go, at six temperatures",
        "optimization:refinement": "learning-rate schedules, and one refined",
        "optimization:oracle_calls": "gradients in the logits that surrogates need",
        "optimization:autolrs": "a search for the learning rate while training",
        "optimization:big_batch": "large batches, and three remedies",
        "optimization:soups": "averages of fine-tuned models",
        "optimization:perceptron": "steps that separate data, as exact integers",
        "optimization:blocks": "which block of coordinates is next",
        "optimization:bilevel": "LV-HBA: a constrained toy, and wrong labels",
    },
    "interpretability": {
        "interpretability:norms": "a transformer without norms, attribution in it",
        "interpretability:explanations": "eight explanations, each in its neighborhood",
        "interpretability:influence": "training examples behind a prediction: EK-FAC",
        "interpretability:factors": "features that good models agree on",
        "interpretability:in_context": "a step of gradient descent, learned in context",
    },
    "federated": {
        "federated:skew": "clients with unlike labels: FedLD",
        "federated:skew_cancer": "the same with tumors in the place of digits",
        "federated:tails": "a long tail over clients, and realigned heads: FedLoGe",
        "federated:exploration": "gradients guided by where clients explored: FedLEx",
    },
    "decisions": {
        "decisions:value_gradient": "a model too small for its state: VaGraM",
        "decisions:grouped_actions": "one estimate for several actions",
        "decisions:shared_features": "bandits that share their features: GFUCB",
        "decisions:transfer": "which tasks to train on: MBTL",
    },
    "shifts": {
        "shifts:stable": "weights that make variables independent: L2R-GNN",
        "shifts:motifs": "the same for graphs of motifs, whose sizes mislead",
        "shifts:long_tail": "experts for a long tail, chosen without labels: SADE",
        "shifts:few_shot_bias": "a few-shot bias where a model is unsure: AMU-Tuning",
        "shifts:halves": "experts that predict how good they are: WiCo",
        "shifts:foundations": "what pre-training expects, and means of several",
        "shifts:colours": "heads for source domains: DRM",
        "shifts:averaging": "means of models and of their weights: BANG",
    },
    "estimation": {
        "estimation:quantiles": "five models' quantiles, combined and calibrated",
        "estimation:deep_kernels": "infinitely wide and deep networks",
        "estimation:feedback": "clicks at random, and clicks drawn by their loss",
        "estimation:forests": "effective parameters of forests",
        "estimation:auctions": "positions of ads that compete for one click",
    },
    "policy_gradient": {
        "policy_gradient:groups": "groups that are all wrong: NGRPO",
        "policy_gradient:one_shot": "reinforcement from one example",
        "policy_gradient:tokens": "rewards of tokens: RTO",
        "policy_gradient:length": "short answers: DRPO",
        "policy_gradient:sampler": "which prompts to draw: VADE",
    },
}
LISTED = {  # table -> config:variant, of which every verdict is shown
    "grokking": "grokking:study",
    "scaling": "scaling:default",
}


def tables() -> dict[str, str]:
    """Every table, by its name."""
    counted = {name: _counts(rows) for name, rows in COUNTED.items()}
    return counted | {table: _verdicts(name) for table, name in LISTED.items()}


def summary(name: str) -> str:
    """The verdicts of one study in words, each kind by itself."""
    found = _read(name)
    kinds = {kind: [v for v in found if v.kind == kind] for kind in KINDS}
    return "; ".join(f"{KINDS[kind]}: {_count(v)}" for kind, v in kinds.items() if v)


def _read(name):
    return report.read_claims(kept(name) / "claims.json")


def _counts(rows):
    lines = [["variant", "question", *KINDS.values()]]
    lines.append(["---"] * len(lines[0]))
    for name, question in rows.items():
        verdicts = _read(name)
        variant = ":" + name.partition(":")[2]  # the page names the config
        cells = [_count([v for v in verdicts if v.kind == kind]) for kind in KINDS]
        lines.append([f"`{variant}`", question, *cells])
    return _markdown(lines)


def _count(verdicts):
    if not verdicts:
        return ""
    counts = collections.Counter(v.verdict for v in verdicts)
    parts = [f"{counts['reproduced']} of {len(verdicts)}"]
    for word in ("undecided", "not tested"):
        if counts[word]:
            parts.append(f"{counts[word]} {word}")
    return ", ".join(parts)


def _verdicts(name):
    lines = [["claim", "reference", "ours", "verdict"], ["---"] * 4]
    for v in _read(name):
        cited = v.cited
        if v.kind in ("own", "question"):  # the others are named by their references
            cited = ": ".join(filter(None, (KINDS[v.kind].removesuffix("s"), cited)))
        lines.append([v.text, cited, v.measured, f"{v.label} ({v.tolerance})"])
    return _markdown(lines)


def _markdown(lines):
    rows = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
