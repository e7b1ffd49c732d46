"""What do groups of answers teach that are all wrong?

A policy learns to add from rewards for right answers alone. At the start most groups of
answers to a prompt are wrong without exception: for GRPO they are equal rewards, and do
not move it; NGRPO imagines a right answer among them, and moves away from all.

Sources: GRPO, Shao et al. 2024, arXiv:2402.03300; NGRPO 2025, arXiv:2509.18851.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import stated
from experiments.policy_gradient import _answers
from logitlab import losses, metrics, optim, report, rl
from logitlab.train import Run, Study
from logitlab.train.config import arm_configs, check_name, pick

ADVANTAGES = ("group_advantages", "ngrpo_advantages", "rloo_advantages")
WITH_GRADIENT, ALL_WRONG = "groups/with_gradient", "groups/all_wrong"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    configs = arm_configs(config)
    panel = report.Panel
    return Study(
        arms={name: _run(arm) for name, arm in configs.items()},
        figures={
            "groups": report.panels(
                [
                    [
                        panel(WITH_GRADIENT, "groups with a gradient"),
                        panel("entropy", "entropy of a token (nats)"),
                        panel("accuracy", "probability of the right answer"),
                    ]
                ],
                log_steps=False,
                across="update",
            )
        },
        claims=_claims(config),
        labels={name: arm.label for name, arm in configs.items()},
        title="Groups of answers that are all wrong",
        summary=(
            f"Sums modulo {config.task.base}^{config.task.digits}, all prompts, "
            f"answered by {config.task.digits} tokens, from scratch; a reward of 1 for "
            f"a right answer. Updates of {config.prompts} prompts with "
            f"{config.rollouts} answers each, sampled by the policy of up to "
            f"{config.refresh_every - 1} updates before. Groups that are all right "
            "teach nobody, and are left out of the share with a gradient."
        ),
        captions={
            "groups": (
                "Groups and entropy are measured with new answers to prompts spread "
                "over the whole table, the probability exactly and over all."
            )
        },
    )


def task_of(config) -> _answers.Addition:
    """The task that a config describes."""
    task = _answers.Addition(**config.task)
    if task.base < 2 or task.digits < 1:
        raise ValueError(
            f"config.task has base {task.base} and {task.digits} digits, expected at "
            "least 2 and 1"
        )
    if config.rollouts < 2:
        raise ValueError(f"config.rollouts is {config.rollouts}, expected at least 2")
    if not 1 <= config.prompts <= task.modulus**2:
        raise ValueError(
            f"config.prompts is {config.prompts}, expected 1 to {task.modulus**2}"
        )
    return task


def _run(config) -> Run:
    task = task_of(config)
    name = check_name(config.advantages, ADVANTAGES, "config.advantages")
    advantages_of = pick(rl, name)
    prompts = task.prompts()
    among = np.linspace(0, len(prompts["x"]) - 1, config.probe).astype(int)
    probe = {name: rows[among] for name, rows in prompts.items()}

    def loss(params, batch, key, old):
        each, _ = _answers.group_losses(
            task,
            advantages_of,
            params,
            batch,
            key,
            old,
            rollouts=config.rollouts,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
        )
        return each

    def evaluate(params, parts):
        x, y = parts["probe"]["x"], parts["probe"]["y"]
        answers, logps = task.sample(
            params, jax.random.key(config.seed), x, config.rollouts
        )
        r = _answers.rewards(answers, y)
        z = task.logits(params, jnp.broadcast_to(x[:, None], (*r.shape, 2)), answers)

        def total(now):
            return losses.ppo_clip_loss(now, logps, advantages_of(r)).sum()

        moves = (jax.grad(total)(logps) != 0).any((-2, -1))
        return {
            "accuracy": _answers.success(task, params, parts["train"]),
            "entropy": metrics.mean_of(-losses.confidence_penalty(z, beta=1.0)),
            WITH_GRADIENT: metrics.mean_of(moves, mask=(r == 0).any(-1)),
            ALL_WRONG: metrics.mean_of((r == 0).all(-1)),
        }

    # The reference of xgd, refreshed every few updates, is the policy that answers.
    optimizer = optim.xgd(
        optax.adam(config.learning_rate),
        reference=lambda params: params,
        refresh_every=config.refresh_every,
    )
    return Run(
        init=task.init,
        loss=loss,
        data={"train": prompts, "probe": probe},
        optimizer=optimizer,
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.prompts,
        evaluate_at=sorted(
            {round(config.steps * i / config.points) for i in range(config.points + 1)}
        ),
        from_optimizer=lambda state: state.reference,
        show=("accuracy", "entropy"),
    )


def _claims(config):
    t = config.tolerances

    def halfway(metric):
        def gap(results):
            ours, theirs = results["ngrpo"], results["grpo"]
            at = np.searchsorted(ours.steps, config.steps / 2)
            return ours[metric][at] - theirs[metric][at]

        return gap

    return [
        report.Claim(
            text="most groups are all wrong at the start",
            reference=stated("many all-wrong groups, the method's premise"),
            ours=lambda r: r["grpo"][ALL_WRONG][0],
            at_least=t.wrong_at_start,
            unit="of the groups",
            needs=("grpo",),
        ),
        report.Claim(
            text="under GRPO these have no gradient",
            reference="definition: advantages of 0",
            ours=lambda r: r["grpo"][WITH_GRADIENT][0] + r["grpo"][ALL_WRONG][0],
            equals=1.0,
            within=t.exactly,
            unit="share with a gradient + share all wrong, at the start",
            needs=("grpo",),
        ),
        report.Claim(
            text="under NGRPO every group that is not all right has one, at any time",
            reference="definition: advantages of -1 / sqrt(G + 1)",
            ours=lambda r: np.nanmin(r["ngrpo"][WITH_GRADIENT], 0),
            equals=1.0,
            unit="of the groups",
            needs=("ngrpo",),
        ),
        report.Claim(
            text="NGRPO keeps more entropy halfway",
            reference=stated("encourages exploration"),
            ours=halfway("entropy"),
            at_least=t.entropy_gains,
            unit="nats more",
            needs=("grpo", "ngrpo"),
            over="median",
            question=True,
        ),
        report.Claim(
            text="and is as accurate halfway",
            reference=stated("ahead on MATH500, AMC23 and AIME25 (7B)"),
            ours=halfway("accuracy"),
            at_least=t.accuracy_gains,
            unit="probability of the right answer",
            needs=("grpo", "ngrpo"),
            over="median",
            question=True,
        ),
        report.Claim(
            text="and in the end",
            reference=stated("ahead on MATH500, AMC23 and AIME25 (7B)"),
            ours=report.ahead("accuracy", "ngrpo", "grpo"),
            at_least=t.accuracy_gains,
            unit="probability of the right answer",
            needs=("grpo", "ngrpo"),
            over="median",
            question=True,
        ),
    ]
