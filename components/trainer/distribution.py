"""Several GPUs, several machines: who trains with whom, and what Keras needs for it.

A cluster is described by the environment variable ``TF_CONFIG``, as TensorFlow defines it and training
operators set it, one for each process::

    {"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}

Every worker runs the whole training on its part of each batch, with the same seeds. What reads or writes
variables for all of them (``fit``, ``evaluate``, ``save_weights``, a metric's result) is a collective
operation: all workers must do it, in the same order, or they wait for each other for ever. Hence each worker
measures, stops and saves as the others do, and the chief alone keeps what it saved. They come to the same
decisions because metrics are summed over all of them. A worker that dies ends the others' training
within half a minute; started again together, all go on from the chief's last checkpoint. They end where they
do not all find the same.

What is tested: two processes with a CPU each, and two virtual CPUs in one process, against one process that
sees whole batches. What is not: GPUs, and so NCCL, and machines with several GPUs each.

Four properties of data-parallel training remain whatever the devices. A loss is averaged over the replicas'
own losses, so with ignored pixels or a Dice term it is not quite that of the whole batch. Batch normalisation
uses the moments of a replica's part. The optimiser clips each replica's share of the gradient, before they
are summed. And what does not fill a batch is left out of an epoch. XLA failed, on CPUs, to compile a step
that replicas share: ``jit_compile`` must be False.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import keras
import tensorflow as tf
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.dataset.features import IGNORE_LABEL
from components.errors import StageError

_VARIABLE = "TF_CONFIG"

_Address = Annotated[str, Field(pattern=r"^[^\s/]+:\d{1,5}$")]


class _Cluster(BaseModel):
    """Addresses, ``host:port``, of the processes that train together."""

    model_config = ConfigDict(extra="forbid")

    chief: Annotated[tuple[_Address, ...], Field(max_length=1)] = ()
    worker: tuple[_Address, ...] = ()


class _Task(BaseModel):
    """Which of them this process is."""

    type: Literal["chief", "worker"]
    index: Annotated[int, Field(ge=0)]


class _Membership(BaseModel):
    cluster: _Cluster
    task: _Task


def training_strategy() -> tf.distribute.Strategy:
    """Returns how to spread a training over the devices there are.

    Over the workers of a cluster where ``TF_CONFIG`` names several, over the GPUs of this machine where it
    has several, otherwise not at all. Call it before TensorFlow computes anything: joining a cluster
    invalidates the tensors and tables that exist by then.

    Raises:
        StageError: ``TF_CONFIG`` is malformed, or describes a cluster with parameter servers.
    """
    if _membership() is not None:
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(gpus) if len(gpus) > 1 else tf.distribute.get_strategy()


def is_chief() -> bool:
    """Whether this process keeps the checkpoints and exports; true where it trains alone.

    Raises:
        StageError: ``TF_CONFIG`` is malformed.
    """
    membership = _membership()
    if membership is None or membership.task.type == "chief":
        return True
    return not membership.cluster.chief and membership.task.index == 0


def check_same_start(
    strategy: tf.distribute.Strategy, training: str, checkpoint: str, checkpoint_dir: str
) -> None:
    """Makes sure that the members of a cluster add up gradients of the same weights; a collective operation.

    Args:
        strategy: of `training_strategy`.
        training: differs with what is trained on what, and by which code.
        checkpoint: differs with what there is to go on from.
        checkpoint_dir: where that is kept.

    Raises:
        StageError: they differ; on all members.
    """
    if _membership() is None:
        return
    # Numbers, as strings cannot be gathered; and positive ones of 64 bits.
    mine = [
        int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big") for text in (training, checkpoint)
    ]

    @tf.function(autograph=False)
    def gathered() -> Any:
        def gather() -> tf.Tensor:
            return tf.distribute.get_replica_context().all_gather(tf.constant([mine], tf.int64), axis=0)

        return strategy.run(gather)

    all_members = strategy.experimental_local_results(gathered())[0].numpy()
    same_training, same_checkpoint = (all_members == all_members[0]).all(axis=0)
    if not same_training:
        raise StageError(
            "the machines that train together would not train the same: settings, data, code, the file of "
            "model.encoder_weights or the number format of training.mixed_precision differ; give all of them "
            "the same image, files and kind of GPU"
        )
    if not same_checkpoint:
        raise StageError(
            "the machines that train together start from different checkpoints; keep them "
            f"(kubeflow.checkpoint_dir, {checkpoint_dir}) on storage that all of them see"
        )


def replicated(network: keras.Model, strategy: tf.distribute.Strategy) -> keras.Model:
    """Returns the network as ``fit`` needs it under a strategy: the same layers, variables and name.

    Build ``network`` within ``strategy.scope()``, call this outside of it, and compile, fit, save and load
    what is returned within it again. Where there is a single replica, that is ``network`` itself.
    """
    if strategy.num_replicas_in_sync == 1:
        return network
    replica = _ReplicatedModel(network.inputs, network.outputs[0], name=network.name)
    # Its own would be the global policy, and decides whether ``compile`` adds loss scaling.
    replica.dtype_policy = network.dtype_policy
    return replica


def replica_batches(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Makes each replica take its own part of every batch.

    Batches are the same, and in the same order, as those that one machine sees. The price is that every
    worker decodes and augments whole batches. ``batches`` must be deterministic, and hold a multiple of
    the replicas in every batch: an empty part ends the training.
    """
    options = tf.data.Options()
    # By default TensorFlow deals out files, where there are enough of them: each worker's epoch would then
    # have a length of its own.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return batches.with_options(options)


def full_batches(pairs: tf.data.Dataset, count: int, batch_size: int) -> tf.data.Dataset:
    """Batches ``count`` pairs of image and class ids, the last batch filled up with pairs that do not count.

    Those are black and ignored throughout. For validation, where leaving examples out would be wrong and a
    smaller last batch would leave a replica with nothing.

    Returns:
        Batches of images, of class ids, and of whether each is a pair of ``pairs``, which class ids alone do
        not tell: all of a pair may be ignored.
    """
    missing = -count % batch_size
    image, class_ids = pairs.element_spec
    filler = tf.data.Dataset.from_tensors(
        (
            tf.zeros(image.shape, image.dtype),
            tf.fill(class_ids.shape, tf.cast(IGNORE_LABEL, class_ids.dtype)),
            tf.constant(False),
        )
    )
    marked = pairs.map(lambda image, class_ids: (image, class_ids, tf.constant(True)))
    return marked.concatenate(filler.repeat(missing)).batch(batch_size, drop_remainder=True)


class _ReplicatedModel(keras.Model):
    """Makes up for what Keras 3.15 lacks to ``fit`` under ``MultiWorkerMirroredStrategy``.

    Whether Keras supports that strategy is an open question there, see
    https://github.com/keras-team/keras/issues/20585. Four things stand in the way:

    1. A model that is made within the strategy's scope reads its first batch to build itself, which fails
       for parts of batches on other workers. This one is made outside, of layers that are built already.
    2. What steps return is averaged over axis 0, which scalars do not have. Here they are vectors.
    3. An optimiser that makes its variables in the first step fails in it; `compile_network` has them made.
    4. Under mixed_float16, replicas do not agree on which steps overflow, see `_CommonLossScale`.

    ``MirroredStrategy`` needs the last two as well. Under either, batch normalisation has moving statistics
    of each replica's own, until `components.trainer.batch_statistics` gives all of them the same.
    """

    def compile(self, optimizer: keras.optimizers.Optimizer, *args: Any, **kwargs: Any) -> None:
        if self.dtype_policy.name == "mixed_float16":
            optimizer = _CommonLossScale(optimizer)
        super().compile(optimizer, *args, **kwargs)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        return _as_vectors(super().train_step(data))

    def test_step(self, data: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Keras' own, but that the loss of a part of `full_batches` is weighted by the pairs in it.

        Keras takes the part's size, in which the last batch's filling counts; its loss is 0.
        """
        images, class_ids, is_pair = data
        logits = self(images, training=False)
        loss = self.compute_loss(images, class_ids, logits, training=False)
        [mean] = (metric for metric in self.metrics if metric.name == "loss")
        # Undoes that Keras makes of a replica's loss its share of the step's.
        own = loss * tf.distribute.get_strategy().num_replicas_in_sync
        mean.update_state(own, sample_weight=tf.math.count_nonzero(is_pair))
        return _as_vectors(self.compute_metrics(images, class_ids, logits))


class _CommonLossScale(keras.optimizers.LossScaleOptimizer):
    """Leaves a step out, on all replicas, if the gradients of any of them overflow.

    Keras 3.15 asks the first replica for all, and adds the others' infinite gradients to the weights.
    """

    def check_finite(self, grads: Sequence[tf.Tensor | None]) -> tf.Tensor:
        overflows = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.distribute.get_replica_context().all_reduce("SUM", overflows) < 0.5


def _as_vectors(logs: dict[str, Any]) -> dict[str, tf.Tensor]:
    return {name: tf.reshape(value, [1]) for name, value in logs.items()}


def _membership() -> _Membership | None:
    """Returns what ``TF_CONFIG`` says of the cluster; None without one, or with a single member."""
    try:
        values = json.loads(os.environ.get(_VARIABLE, "{}"))
        if not isinstance(values, dict):
            raise _malformed("no JSON object")
        if not values.get("cluster"):
            return None
        membership = _Membership.model_validate(values)
    except json.JSONDecodeError as error:
        raise _malformed(f"no JSON: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _malformed(f"{where}: {first['msg']}") from None
    cluster, task = membership.cluster, membership.task
    members: tuple[str, ...] = getattr(cluster, task.type)
    if task.index >= len(members):
        raise _malformed(f"task.index is {task.index}, but cluster.{task.type} has {len(members)} addresses")
    return membership if len(cluster.chief) + len(cluster.worker) > 1 else None


def _malformed(problem: str) -> StageError:
    return StageError(
        f"{_VARIABLE} is no description of a cluster ({problem}); it should look like "
        '{"cluster": {"worker": ["HOST:PORT", "HOST:PORT"]}, "task": {"type": "worker", "index": 0}}'
    )
