"""Losses in the learners of Tunix: the same trajectory as with Tunix's own.

They are slow, and run where ``pip install google-tunix`` was run.
"""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from logitlab import losses, rl

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Tunix warns when it is imported
]
STEPS, PAIRS, LENGTH = 5, 4, 6


@pytest.fixture(scope="module")
def tunix():
    """What the tests use of Tunix."""
    pytest.importorskip("tunix", reason="needs pip install google-tunix")
    from flax import nnx
    from tunix.rl import common, function_registry, rl_cluster
    from tunix.rl.grpo import grpo_learner
    from tunix.rl.rollout import base_rollout
    from tunix.sft.dpo import dpo_trainer
    from tunix.tests import test_common

    return types.SimpleNamespace(
        base_rollout=base_rollout,
        common=common,
        dpo_trainer=dpo_trainer,
        function_registry=function_registry,
        grpo_learner=grpo_learner,
        nnx=nnx,
        rl_cluster=rl_cluster,
        test_common=test_common,
    )


def toy(tunix, vocabulary, seed):
    config = tunix.test_common.ModelConfig(vocab_size=vocabulary, num_layers=2)
    return tunix.test_common.ToyTransformer(config, rngs=tunix.nnx.Rngs(seed))


def weights(tunix, model):
    state = tunix.nnx.state(model, tunix.nnx.Param)
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(state)])


def check_same(start, theirs, ours):
    moved = np.abs(theirs - start).max()
    assert moved > 1e-3
    assert np.abs(ours - theirs).max() < 1e-4 * moved


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dpo(tunix, smoothing):
    rng = np.random.default_rng(0)

    def ids():
        mask = np.arange(LENGTH) < rng.integers(2, LENGTH + 1, (PAIRS, 1))
        return rng.integers(1, 32, (PAIRS, LENGTH)) * mask, mask.astype(np.int32)

    prompt, prompt_mask = (x[:, ::-1] for x in ids())  # padded on the left
    chosen, chosen_mask = ids()
    rejected, rejected_mask = ids()
    batch = tunix.dpo_trainer.TrainingInput(
        prompt_ids=prompt,
        prompt_mask=prompt_mask,
        chosen_ids=chosen,
        chosen_mask=chosen_mask,
        rejected_ids=rejected,
        rejected_mask=rejected_mask,
    )

    def loss(model, train_example, algorithm, beta, label_smoothing):
        chosen, rejected = tunix.dpo_trainer.compute_logps(
            model,
            train_example.input_ids,
            train_example.positions,
            train_example.attention_mask,
            train_example.logits_to_keep,
            train_example.completion_mask,
        )
        references = train_example.ref_chosen_logps, train_example.ref_rejected_logps
        each = losses.dpo_loss(
            chosen, rejected, *references, beta=beta, label_smoothing=label_smoothing
        )
        assert algorithm == "dpo"
        metrics = dict.fromkeys(trainer._aux_metrics_to_log, jnp.float32(0))
        return each.mean(), metrics

    ends = {}
    for name in ("theirs", "ours"):
        model = toy(tunix, 32, seed=1)
        start = weights(tunix, model)
        trainer = tunix.dpo_trainer.DPOTrainer(
            model,
            toy(tunix, 32, seed=2),
            optax.adam(1e-3),
            tunix.dpo_trainer.DPOTrainingConfig(
                beta=0.5,
                label_smoothing=smoothing,
                eval_every_n_steps=100,
                max_steps=STEPS,
            ),
        )
        if name == "ours":
            trainer.with_loss_fn(loss, has_aux=True)
        trainer.train([batch] * STEPS, None)
        ends[name] = weights(tunix, model)
    check_same(start, ends["theirs"], ends["ours"])


def test_grpo(tunix):
    """Loss, estimate of the KL divergence, mean over tokens and advantages are ours."""
    axes = (AxisType.Auto,) * 2
    mesh = jax.make_mesh((1, 1), ("fsdp", "tp"), axes, devices=jax.devices()[:1])
    vocabulary = tunix.test_common.MockVocab()

    def loss(model, train_example, algo_config):
        graph, state = tunix.nnx.split(model)
        logps, _ = tunix.common.compute_per_token_logps(
            graph,
            state,
            prompt_tokens=train_example.prompt_ids,
            completion_tokens=train_example.completion_ids,
            pad_id=vocabulary.pad_id(),
            eos_id=vocabulary.eos_id(),
            stop_gradient=False,
            return_logits=True,
            temperature=algo_config.temperature,
        )
        old = train_example.old_per_token_logps
        old = jax.lax.stop_gradient(logps) if old is None else old
        mask = train_example.completion_mask.astype(bool)
        surrogate = losses.ppo_clip_loss(
            logps,
            old,
            train_example.advantages,
            clip_low=algo_config.epsilon,
            clip_high=algo_config.epsilon,
            mask=mask,
        )
        kl = losses.kl_k1(logps, train_example.ref_per_token_logps, mask=mask)
        total = rl.aggregate_tokens(
            surrogate + algo_config.beta * kl, mask, mode="sequence_mean"
        )
        return total, {"kl": jnp.float32(0), "pg_clipfrac": jnp.float32(0)}

    def advantages(rewards, num_generations):
        groups = jnp.asarray(rewards, jnp.float32).reshape(-1, num_generations)
        return np.ravel(rl.group_advantages(groups, eps=1e-6))

    registry = tunix.function_registry.default_registry
    registry.register("advantage_estimator", "logitlab")(advantages)

    def reward(prompts, completions, **kwargs):
        del prompts, kwargs
        return [float(sum(map(ord, text)) % 7) for text in completions]

    ends = {}
    for name in ("theirs", "ours"):
        model = toy(tunix, vocabulary.GetPieceSize(), seed=1)
        start = weights(tunix, model)
        cluster = tunix.rl_cluster.RLCluster(
            actor=model,
            reference=toy(tunix, vocabulary.GetPieceSize(), seed=2),
            tokenizer=vocabulary,
            cluster_config=tunix.rl_cluster.ClusterConfig(
                role_to_mesh={
                    tunix.rl_cluster.Role.ACTOR: mesh,
                    tunix.rl_cluster.Role.REFERENCE: mesh,
                    tunix.rl_cluster.Role.ROLLOUT: mesh,
                },
                rollout_engine="vanilla",
                offload_to_cpu=False,
                training_config=tunix.rl_cluster.RLTrainingConfig(
                    actor_optimizer=optax.adam(1e-3),
                    eval_every_n_steps=100,
                    max_steps=STEPS,
                ),
                rollout_config=tunix.base_rollout.RolloutConfig(
                    max_tokens_to_generate=8, max_prompt_length=16, kv_cache_size=64
                ),
            ),
        )
        config = tunix.grpo_learner.GRPOConfig(num_generations=4, beta=0.1)
        if name == "ours":
            config.advantage_estimator = "logitlab"
        learner = tunix.grpo_learner.GRPOLearner(
            cluster, reward_fns=reward, algo_config=config
        )
        if name == "ours":
            cluster.actor_trainer.with_loss_fn(loss, has_aux=True)
        prompts = {"prompts": np.array(["input string", "hello world"])}
        learner.train([prompts] * STEPS)
        ends[name] = weights(tunix, cluster.actor_trainer.model)
    check_same(start, ends["theirs"], ends["ours"])
