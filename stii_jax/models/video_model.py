"""The interface of video models, used by training, evaluation and prediction."""

import abc
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int, Key

from stii_jax.types import Decomposition, Params

EVALUATION_SEED = 0
"""Seed of the posterior's noise outside training, the same for every run: scores depend on parameters only."""


class LossOutputs(NamedTuple):
    """The loss of a batch of clips, with its terms and the decomposition."""

    loss: Float[Array, ""]
    """Summed over the batch."""
    terms: dict[str, Float[Array, "B T"]]
    """The terms of the loss per video and frame, for the logs; `kl`, if present, is monitored for collapse."""
    decomposition: Decomposition


class VideoModel(abc.ABC):
    """A model with K slots for frames in [0, 1]. It holds settings and no parameters; every method is pure.

    A model's state is a `NamedTuple` of arrays with the batch as first axis, except for the scalar `frame`, the number
    of frames seen. Noise comes from one key per video, so that results do not depend on how videos are batched,
    sharded, or cut into clips.
    """

    num_slots: int
    """K, including the background's slot if the model has one."""
    frame_shape: tuple[int, int, int]
    """Height, width and channels of a frame."""
    can_sample: bool = False
    """True if `predict` also takes `keys`, one per video, and then draws one of the possible futures."""

    @abc.abstractmethod
    def init(self, key: Key[Array, ""]) -> Params:
        """Initialise the parameters."""

    @abc.abstractmethod
    def loss(self, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"]) -> LossOutputs:
        """Return the loss of clips and their decomposition."""

    @abc.abstractmethod
    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: Any = None,
        start: int = 0,
    ) -> tuple[Decomposition, Any]:
        """Decompose a clip, starting fresh or from the state returned for the previous clip.

        Args:
            params: the model's parameters, from `init`.
            video: frames in [0, 1].
            keys: one key per video, the same for all its clips.
            state: None at a video's start.
            start: number of the clip's first frame in its video.
        """

    @abc.abstractmethod
    def predict(self, params: Params, state: Any, num_frames: int) -> tuple[Decomposition, Any]:
        """Predict the next frames of a video from `state` alone."""

    @abc.abstractmethod
    def log_likelihood(self, video: Float[Array, "B T H W C"], decomposition: Decomposition) -> Float[Array, "B T H W"]:
        """Return the log-likelihood of every pixel given the decomposition, in nats."""

    @abc.abstractmethod
    def initial_state(self, params: Params, batch_size: int) -> Any:
        """Return the state before a video's first frame."""

    def stream(
        self, params: Params, state: Any, frame: Float[Array, "B H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, Any]:
        """Decompose the next frame of a video (`T` is 1). Frame by frame, results equal those of `decompose`."""
        return self.decompose(params, frame[:, None], keys, state)

    def schedule(self, num_frames: int, start: int = 0) -> tuple[int, ...]:
        """Return the inference steps of each of `num_frames` frames, starting at frame `start` of the video."""
        del start
        return (1,) * num_frames

    def num_steps(self, num_frames: int) -> int:
        """Return the number of inference steps of a video of `num_frames` frames."""
        return sum(self.schedule(num_frames))


def future_keys(seed: int, number: Int[Array, ""] | int, index: Int[Array, " B"]) -> Key[Array, " B"]:
    """Return one key per video for the sampled future `number`, whatever the number of futures and the batches."""
    return example_keys(jax.random.fold_in(jax.random.key(seed), number), index)


def example_keys(key: Key[Array, ""], index: Int[Array, " B"]) -> Key[Array, " B"]:
    """Return one key per video, from its number alone: independent of how videos are batched or sharded."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)
