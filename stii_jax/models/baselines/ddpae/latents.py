"""The poses and contents of DDPAE's components, inferred from frames or predicted without them."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key

from stii_jax.models.baselines.ddpae import transformer
from stii_jax.models.baselines.ddpae.networks import LSTM, GaussianHead, ImageDecoder, ImageEncoder
from stii_jax.models.recurrent import LSTMState, zero_state
from stii_jax.types import Params

_OF_THE_CLIP = 2**31 - 1  # used as the frame number of noise drawn once per clip


class DDPAEState(NamedTuple):
    """The recurrent state after the observed or predicted frames of a video."""

    motion: LSTMState
    """States `B N D` of the pose LSTM."""
    content: LSTMState
    """States `B N D` of the content LSTM; prediction does not change them."""
    pose: Float[Array, "B N 3"]
    """Unconstrained pose."""
    frame: Int[Array, ""]
    """Number of frames so far."""


class Noise(NamedTuple):
    """Standard normal noise; zeros give the means."""

    increments: Float[Array, "B T N 3"]
    initial: Float[Array, "B N 3"]
    content: Float[Array, "B N Z"]


class Latents(NamedTuple):
    """Posteriors (mean, then log-scale) and the samples drawn from them."""

    increments: Float[Array, "B T N 6"]
    """Posterior of each beta."""
    initial: Float[Array, "B T N 6"]
    """Posterior of the initial pose given each frame; only the first frame's is used, at the start of a video."""
    poses: Float[Array, "B T N 3"]
    """Unconstrained samples."""
    pose_means: Float[Array, "B T N 3"]
    """Means given the sampled pose of the previous frame."""
    contents: Float[Array, "B T N Z2"]
    """Posterior after each frame."""
    content: Float[Array, "B T N Z"]
    """Samples."""


def draw_noise(keys: Key[Array, " B"], num_frames: int, num_components: int, content_dim: int) -> Noise:
    """Draw noise for clips from one key per video. It depends neither on the other videos nor on the clip's length."""

    def of_video(key):
        def normal(key, frame, size):
            of_frame = jax.random.fold_in(key, frame)
            of_each = jax.vmap(jax.random.fold_in, (None, 0))(of_frame, jnp.arange(num_components))
            return jax.vmap(lambda one: jax.random.normal(one, (size,)))(of_each)

        increments = jax.vmap(lambda frame: normal(key, frame, 3))(jnp.arange(num_frames))
        once = normal(key, _OF_THE_CLIP, 3 + content_dim)
        return Noise(increments, once[:, :3], once[:, 3:])

    return jax.vmap(of_video)(keys)


def no_noise(batch_size: int, num_frames: int, num_components: int, content_dim: int) -> Noise:
    """Return zero noise, with which every sample is its mean."""
    shape = (batch_size, num_components)
    increments = jnp.zeros((batch_size, num_frames, num_components, 3))
    return Noise(increments, jnp.zeros((*shape, 3)), jnp.zeros((*shape, content_dim)))


def _draw(gaussian, noise):
    mean, log_scale = jnp.split(gaussian, 2, axis=-1)
    return mean + jnp.exp(log_scale) * noise


class LatentModel:
    """The networks and both recurrences in time. N components share all weights."""

    def __init__(
        self,
        num_components: int,
        frame_shape: tuple[int, int, int],
        *,
        hidden_dim: int,
        feature_dim: int,
        content_dim: int,
        object_size: int,
        encoder_channels: int,
        initial_pose: tuple[tuple[float, ...], tuple[float, ...]],
        increment_scale: float,
        content_scale: float,
        scale_range: float,
    ):
        self.num_components, self.hidden_dim, self.content_dim = num_components, hidden_dim, content_dim
        self.object_size, self.scale_prior, self.scale_range = object_size, initial_pose[0][0], scale_range
        channels = frame_shape[-1]
        cell, hidden, state = LSTM(hidden_dim), jnp.zeros((1, hidden_dim)), zero_state(1, hidden_dim)
        self._networks: dict[str, tuple[Any, tuple]] = {
            "frame_encoder": (ImageEncoder(feature_dim, encoder_channels), (jnp.zeros((1, *frame_shape)),)),
            "observe": (cell, (state, jnp.zeros((1, feature_dim + hidden_dim)))),
            "predict": (cell, (state, jnp.zeros((1, 2 * hidden_dim)))),
            "increment_head": (GaussianHead((0.0,) * 3, (increment_scale,) * 3), (hidden,)),
            "initial": (cell, (state, hidden)),
            "initial_head": (GaussianHead(*initial_pose), (hidden,)),
            "object_encoder": (
                ImageEncoder(content_dim, encoder_channels),
                (jnp.zeros((1, object_size, object_size, channels)),),
            ),
            "content": (cell, (state, jnp.zeros((1, content_dim)))),
            "content_head": (GaussianHead((0.0,) * content_dim, (content_scale,) * content_dim), (hidden,)),
            "object_decoder": (
                ImageDecoder(object_size, channels, encoder_channels),
                (jnp.zeros((1, content_dim)),),
            ),
        }

    def init(self, key: Key[Array, ""]) -> Params:
        """Initialise the parameters of every network, keyed by its name."""
        keys = jax.random.split(key, len(self._networks))
        networks = zip(self._networks.items(), keys)
        return {name: network.init(own, *inputs)["params"] for (name, (network, inputs)), own in networks}

    def initial_state(self, batch_size: int) -> DDPAEState:
        """The state before the first frame."""
        shape = (batch_size, self.num_components)
        zeros = zero_state(*shape, self.hidden_dim)
        return DDPAEState(zeros, zeros, jnp.zeros((*shape, 3)), jnp.int32(0))

    def observe(
        self, params: Params, video: Float[Array, "B T H W C"], noise: Noise, state: DDPAEState
    ) -> tuple[Latents, DDPAEState]:
        """Infer latents from frames, each from the frames up to and including its own."""
        B, T = video.shape[:2]
        features = self._run(params, "frame_encoder", video.reshape(B * T, *video.shape[2:])).reshape(B, T, -1)
        h, motion = self._unroll(params, "observe", state.motion, features.swapaxes(0, 1), T)
        increments = self._run(params, "increment_head", h)
        initial = self._initial_poses(params, h)
        origin = jnp.where(state.frame == 0, _draw(initial[:, 0], noise.initial), state.pose)
        poses, pose_means = self._walk(origin, increments, noise.increments[:, :T])
        contents, content = self._contents(params, video, poses, state.content)
        drawn = _draw(contents, noise.content[:, None])
        latents = Latents(increments, initial, poses, pose_means, contents, drawn)
        return latents, DDPAEState(motion, content, poses[:, -1], state.frame + T)

    def predict(self, params: Params, num_frames: int, noise: Noise, state: DDPAEState) -> tuple[Latents, DDPAEState]:
        """Predict latents without frames: poses from the second recurrence, contents kept from the last frame."""
        h, motion = self._unroll(params, "predict", state.motion, None, num_frames)
        increments = self._run(params, "increment_head", h)
        poses, pose_means = self._walk(state.pose, increments, noise.increments)
        contents = jnp.repeat(self._run(params, "content_head", state.content.h)[:, None], num_frames, axis=1)
        drawn = _draw(contents, noise.content[:, None])
        latents = Latents(increments, jnp.zeros_like(increments), poses, pose_means, contents, drawn)
        return latents, DDPAEState(motion, state.content, poses[:, -1], state.frame + num_frames)

    def draw(
        self, params: Params, latents: Latents, num_contents: int, height: int, width: int
    ) -> Float[Array, "B T N {height} {width} C"]:
        """Render components on black. Frames from `num_contents` on reuse the last content before them."""
        T = latents.content.shape[1]
        content = latents.content[:, :num_contents]
        images = self._run(params, "object_decoder", content.reshape(-1, self.content_dim))
        images = images.reshape(*content.shape[:-1], *images.shape[1:])
        images = jnp.take(images, jnp.minimum(jnp.arange(T), num_contents - 1), axis=1)
        return transformer.paste(images, self.constrain(latents.poses), height, width)

    def constrain(self, poses: Float[Array, "*B 3"]) -> Float[Array, "*B 3"]:
        """See `transformer.constrain`."""
        return transformer.constrain(poses, self.scale_prior, self.scale_range)

    def _run(self, params, name, *inputs):
        return self._networks[name][0].apply({"params": params[name]}, *inputs)

    def _unroll(self, params, name, motion, features, num_frames):
        """Run the recurrence over time and, within each frame, over components. Returns `h` as `B T N D`."""

        def of_frame(motion, features):
            def of_component(above, own):
                seen = own.h if features is None else features
                own = self._run(params, name, own, jnp.concatenate([seen, above], axis=-1))
                return own.h, own

            _, motion = lax.scan(of_component, jnp.zeros_like(motion.h[0]), motion)
            return motion, motion.h

        components_first = jax.tree.map(lambda a: a.swapaxes(0, 1), motion)
        motion, h = lax.scan(of_frame, components_first, features, num_frames)
        return h.transpose(2, 0, 1, 3), jax.tree.map(lambda a: a.swapaxes(0, 1), motion)

    def _initial_poses(self, params, h):
        """Run an LSTM over the components of each frame."""

        def of_component(state, h):
            state = self._run(params, "initial", state, h)
            return state, state.h

        start = zero_state(*h.shape[:2], self.hidden_dim)
        _, outputs = lax.scan(of_component, start, jnp.moveaxis(h, 2, 0))
        return self._run(params, "initial_head", jnp.moveaxis(outputs, 0, 2))

    def _walk(self, origin, increments, noise):
        steps = _draw(increments, noise)
        poses = origin[:, None] + jnp.cumsum(steps, axis=1)
        return poses, poses - steps + jnp.split(increments, 2, axis=-1)[0]

    def _contents(self, params, video, poses, state):
        """Return the posteriors of the contents after each frame, from crops at the components' poses."""
        shape = poses.shape[:-1]
        seen = jnp.broadcast_to(video[:, :, None], (*shape, *video.shape[2:]))
        crops = transformer.crop(seen, self.constrain(poses), self.object_size)
        encoded = self._run(params, "object_encoder", crops.reshape(-1, *crops.shape[3:])).reshape(*shape, -1)

        def of_frame(state, x):
            state = self._run(params, "content", state, x)
            return state, state.h

        state, h = lax.scan(of_frame, state, encoded.swapaxes(0, 1))
        return self._run(params, "content_head", h.swapaxes(0, 1)), state
