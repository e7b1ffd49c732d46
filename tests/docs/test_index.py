"""A user's words lead to the right row of the tables."""

import collections
import math
import re

import pytest

from experiments.common import pages
from logitlab.losses._purposes import PURPOSES
from logitlab.losses.catalogue import CATALOGUE

PAGE = (pages.ROOT / "logitlab/losses/README.md").read_text("utf-8")
NOISE = """
a an and are as at be by can do does for from has have i in into is it its my no not of
on one only or should so some than that the their them there they this to want what
where which who with you your
"""


def words(text):
    """What a search compares: lower case, no plurals, no words that say nothing."""
    found = {*re.findall(r"[a-z0-9]+", text.lower())} - {*NOISE.split()}
    return {word.removesuffix("s") for word in found}


def rows():
    """Name of each loss -> the words of its row and of the heading above it."""
    found, heading = {}, ""
    for line in PAGE.splitlines():
        if line.startswith("### "):
            heading = line
        match = re.match(r"\| `(\w+)` \| (.*)", line)
        if match:
            text = match[1].replace("_", " ")
            found[match[1]] = words(f"{heading} {text} {match[2]}")
    return found


ROWS = rows()
COUNTS = collections.Counter(word for row in ROWS.values() for word in row)


def found(task, best=3):
    """The rows that share the most with the task, rare words counting for more."""

    def score(name):
        shared = words(task) & ROWS[name]
        return sum(math.log(len(ROWS) / COUNTS[word]) for word in shared)

    return sorted(ROWS, key=score, reverse=True)[:best]


def test_every_loss_has_one_purpose():
    named = [name for purpose in PURPOSES for name in purpose.losses]
    assert sorted(named) == sorted(CATALOGUE)
    assert ROWS.keys() == CATALOGUE.keys()


@pytest.mark.parametrize(
    ("task", "loss"),
    {
        "a third of the labels in my training set are wrong": (
            "generalized_cross_entropy"
        ),
        "my classes have a long tail": "logit_adjusted_loss",
        "my classifier is overconfident and I want calibration": "label_smoothing_loss",
        "distill an LLM into a smaller student": "skew_kl",
        "my teacher has another tokenizer": "uld_loss",
        "humans preferred one of two answers": "dpo_loss",
        "some preferences are flipped": "robust_dpo_loss",
        "answers were only rated thumbs up or thumbs down": "kto_loss",
        "train a language model from rewards with GRPO": "ppo_clip_loss",
        "segmentation, where the mean IoU counts": "lovasz_softmax_loss",
        "predict quantiles of a demand": "pinball_loss",
        "ratings from one to five stars, which have an order": "coral_loss",
        "recommend items to users who clicked on others": "bpr_loss",
        "many labels for each image, nearly all of them absent": "sigmoid_focal_loss",
        "only the top-5 error matters": "topk_hinge_loss",
        "speech recognition without an alignment": "ctc_loss",
        "a draft model for speculative decoding": "online_distill_loss",
        "the new version must not break what the old model got right": (
            "focal_distillation_loss"
        ),
        "I know only averages over bags of examples": "bag_loss",
        "adversarial training, with attacked inputs": (
            "smooth_adversarial_comp_sum_loss"
        ),
        "probabilities should be sparse": "fenchel_young_loss",
        "learn a reward model from pairs": "bradley_terry_loss",
        "no group of users may be treated worse than others": "worst_group_loss",
        "predictions must not depend on protected attributes": (
            "joint_distance_covariance_penalty"
        ),
        "regress the value of a state with a classifier": "hl_gauss_loss",
    }.items(),
)
def test_a_task_leads_to_its_loss(task, loss):
    assert loss in found(task)


def test_what_is_not_there_leads_nowhere():
    assert not words("frobnicate zorgs") & COUNTS.keys()
