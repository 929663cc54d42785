"""The interface that training, evaluation and prediction have to a model of videos."""

import abc
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Key

from stii_jax.types import Decomposition, Params

EVALUATION_SEED = 0
"""Seed of the posterior's noise outside training; the same for every run, so that scores differ by parameters alone."""


class LossOutputs(NamedTuple):
    """What training needs of a clip."""

    loss: Float[Array, ""]
    """Summed over the batch."""
    terms: dict[str, Float[Array, "B T"]]
    """What the loss is made of, a video and frame, for the logs; `kl`, where there is one, is watched for collapse."""
    decomposition: Decomposition


class VideoModel(abc.ABC):
    """A model with K slots for frames in [0, 1]. It holds settings and no parameters; every method is pure.

    A model's state is a `NamedTuple` of arrays with the batch as first axis, but for `frame`, the number of frames
    seen, a scalar. Noise comes from one key a video, so that results do not depend on how videos are batched, sharded,
    or cut into clips.
    """

    num_slots: int
    """K, the background's included where the model has one."""
    frame_shape: tuple[int, int, int]
    """Height, width and channels of a frame."""

    @abc.abstractmethod
    def init(self, key: Key[Array, ""]) -> Params:
        """Parameters to start training with."""

    @abc.abstractmethod
    def loss(self, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"]) -> LossOutputs:
        """The loss of clips, and what they were decomposed into on the way."""

    @abc.abstractmethod
    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: Any = None,
        start: int = 0,
    ) -> tuple[Decomposition, Any]:
        """Decomposes a clip, from the start of a video or from the state that an earlier clip of it left.

        Args:
            params: from `init`.
            video: frames in [0, 1].
            keys: one a video; the same for all clips of it.
            state: None at a video's start.
            start: number of the clip's first frame in its video.
        """

    @abc.abstractmethod
    def predict(self, params: Params, state: Any, num_frames: int) -> tuple[Decomposition, Any]:
        """Imagines the next frames of a video; nothing but `state` enters."""

    @abc.abstractmethod
    def log_likelihood(self, video: Float[Array, "B T H W C"], decomposition: Decomposition) -> Float[Array, "B T H W"]:
        """Log-likelihood of every pixel given the decomposition, in nats."""

    @abc.abstractmethod
    def initial_state(self, params: Params, batch_size: int) -> Any:
        """The state before a video's first frame."""

    def stream(
        self, params: Params, state: Any, frame: Float[Array, "B H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, Any]:
        """Decomposes the next frame of a video (`T` is 1); frame after frame it gives what `decompose` gives."""
        return self.decompose(params, frame[:, None], keys, state)

    def schedule(self, num_frames: int, start: int = 0) -> tuple[int, ...]:
        """Inference steps of each of `num_frames` frames, the first being frame `start` of its video."""
        del start
        return (1,) * num_frames

    def num_steps(self, num_frames: int) -> int:
        """Number of inference steps of a video of `num_frames` frames."""
        return sum(self.schedule(num_frames))


def example_keys(key: Key[Array, ""], index: Int[Array, " B"]) -> Key[Array, " B"]:
    """One key a video, by its number alone: independent of how videos are batched or sharded."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
