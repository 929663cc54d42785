"""DDPAE (Hsieh et al., "Learning to Decompose and Disentangle Representations for Video Prediction", NeurIPS 2018).

A video is N components on black. A component has one content vector for the whole clip, which decodes to its image, and
a pose `(scale, x, y)` per frame. A spatial transformer pastes the image at that pose:

    pose_0 = initial pose + beta_0,   pose_t = pose_{t-1} + beta_t,   frame_t = clip(sum_i paste(content_i, pose_t,i))

One LSTM shared by all components reads the frames. It runs over time and over components. Component i at frame t sees
its own state at frame t-1 and the output of component i-1 at frame t, so it can look for unclaimed objects. A head maps
the LSTM's outputs to the Gaussians of beta_t. Another LSTM, over the components of the first frame, gives the Gaussians
of the initial pose. A second recurrence of the same form continues from these states without frames and gives the
Gaussians of later betas. The content comes from an LSTM over crops of the frames at the component's poses.

From the paper: all of the above, and the 128 dimensions of a content vector. From the public program
(jthsieh/DDPAE-video-prediction):
- the sizes that are this class's defaults (those for its bouncing balls of 128x128 pixels);
- a Gaussian likelihood with standard deviation 0.3;
- the priors N((4, 0, 0), (0.2, 1, 1)) of the initial pose, N(0, 0.1) of every beta, also predicted ones, and N(0, 1) of
  contents, and the bounds of poses;
- training with 100 videos per step and Adam at 1e-3 with beta_1 0.5, a tenth of that rate after half of the 200,000
  steps.

Differences:
- Contents are causal. In the public program a content is computed from all observed frames and then used in every
  frame. Here frame t uses the content inferred up to frame t, which later frames never change. Training does the same,
  with one noise sample per clip. The content's KL is the mean over observed frames. Predicted frames use the last
  observed content.
- There is no batch normalisation, which would make a video's result depend on its batch.
- Heads output log-scales instead of softplus inputs. Gaussians start near their priors (contents at `content_scale`,
  initial poses at `initial_scales`), so that poses are not mostly noise at first. KLs are exact instead of sampled.
- Colours and slots are described in `composition.py`. Frames that are grey in 3 channels count three times in the
  likelihood.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from stii_jax.models.baselines.ddpae import composition, transformer
from stii_jax.models.baselines.ddpae.latents import DDPAEState, LatentModel, Latents, draw_noise, no_noise
from stii_jax.models.baselines.ddpae.networks import doublings
from stii_jax.models.likelihood import slot_log_likelihood
from stii_jax.models.prior import gaussian_kl
from stii_jax.models.video_model import LossOutputs, VideoModel
from stii_jax.types import Decomposition, Params

_INITIAL_PRIOR = (0.2, 1.0, 1.0)  # standard deviations of an initial pose's scale, x and y


class DDPAE(VideoModel):
    """The DDPAE model; see the module's docstring. Slot 0 is the black background, slots 1 to K-1 are components.

    `Decomposition.posterior` holds mean and then log-scale of two parts per component: the unconstrained pose given the
    previous frame (3 numbers) and the content (`content_dim`). For the background it holds a unit Gaussian. As
    published, `decompose` and `predict` use means and no noise.

    Args:
        height: height of frames, in pixels.
        width: width of frames, in pixels.
        channels: channels of frames and contents.
        num_slots: number of components plus one background.
        hidden_dim: state size of every LSTM.
        feature_dim: dimension of an encoded frame.
        content_dim: dimension of a content vector.
        object_size: height and width of a component's own image in pixels, 4 to 7 times a power of two; 0 is half of
            `height`, as published.
        encoder_channels: output channels of the encoders' first convolution and of the decoder's last but one.
        scale_prior: prior mean of a pose's scale, which is the number of components that fit side by side into a frame.
        scale_range: largest distance of a scale from `scale_prior`; `scale_prior - scale_range` must exceed 0.5. A
            component is at most `1 / (scale_prior - scale_range)` of a frame wide. If two objects fit into that width,
            one component takes both.
        increment_scale: prior standard deviation of a beta.
        initial_scales: initial standard deviations of the posterior of initial poses: scale, x and y.
        content_scale: initial standard deviation of the posterior of contents.
        sigma: standard deviation of the likelihood.
        observed_fraction: fraction of a clip that training observes, strictly between 0 and 1; the rest is predicted.
            Each part has at least one frame.

    Raises:
        ValueError: a setting is invalid.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        channels: int,
        num_slots: int,
        hidden_dim: int = 128,
        feature_dim: int = 256,
        content_dim: int = 128,
        object_size: int = 0,
        encoder_channels: int = 8,
        scale_prior: float = 4.0,
        scale_range: float = 1.0,
        increment_scale: float = 0.1,
        initial_scales: tuple[float, ...] = (0.2, 0.2, 0.2),
        content_scale: float = 0.3,
        sigma: float = 0.3,
        observed_fraction: float = 0.5,
    ):
        if num_slots < 2:
            raise ValueError(f"num_slots={num_slots}: expected a background and at least one component; give 2 or more")
        if scale_prior - scale_range <= transformer.MARGIN:
            raise ValueError(f"scale_prior={scale_prior}: expected over scale_range + 0.5 = {scale_range + 0.5}")
        if not 0 < observed_fraction < 1:
            raise ValueError(f"observed_fraction={observed_fraction}: expected a number between 0 and 1")
        if len(initial_scales) != 3 or min(initial_scales) <= 0:
            raise ValueError(f"initial_scales={initial_scales}: expected 3 numbers over 0, for scale, x and y")
        positive = {"sigma": sigma, "increment_scale": increment_scale, "content_scale": content_scale}
        for name, value in positive.items():
            if value <= 0:
                raise ValueError(f"{name}={value}: expected a number over 0")
        object_size = object_size or height // 2
        doublings(object_size)
        self.num_slots, self.frame_shape = num_slots, (height, width, channels)
        self.sigma, self.observed_fraction = sigma, observed_fraction
        center = (float(scale_prior), 0.0, 0.0)
        self._increment_prior = jnp.array([0, 0, 0, *[math.log(increment_scale)] * 3])
        self._initial_prior = jnp.array([*center, *map(math.log, _INITIAL_PRIOR)])
        self.latents = LatentModel(
            num_slots - 1,
            self.frame_shape,
            hidden_dim=hidden_dim,
            feature_dim=feature_dim,
            content_dim=content_dim,
            object_size=object_size,
            encoder_channels=encoder_channels,
            initial_pose=(center, tuple(initial_scales)),
            increment_scale=increment_scale,
            content_scale=content_scale,
            scale_range=scale_range,
        )

    def init(self, key: Key[Array, ""]) -> Params:
        """See `VideoModel.init`."""
        return self.latents.init(key)

    def initial_state(self, params: Params, batch_size: int) -> DDPAEState:
        """See `VideoModel.initial_state`."""
        del params
        return self.latents.initial_state(batch_size)

    def num_observed(self, num_frames: int) -> int:
        """Return the number of observed frames of a training clip.

        Raises:
            ValueError: a clip of one frame.
        """
        if num_frames < 2:
            raise ValueError(f"num_frames={num_frames}: expected 2 or more, some to observe, some to predict")
        return min(max(1, round(num_frames * self.observed_fraction)), num_frames - 1)

    def loss(self, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"]) -> LossOutputs:
        """Return the negative ELBO of clips. Their first frames are observed, the others predicted from them.

        Raises:
            ValueError: clips of one frame.
        """
        B, T = video.shape[:2]
        observed = self.num_observed(T)
        noise = draw_noise(keys, T, self.num_slots - 1, self.latents.content_dim)
        past, state = self.latents.observe(params, video[:, :observed], noise, self.initial_state(params, B))
        later = noise._replace(increments=noise.increments[:, observed:])
        future, _ = self.latents.predict(params, T - observed, later, state)
        kl = [self._kl_observed(past), _kl(future.increments, self._increment_prior)]
        latents = jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=1), past, future)
        pasted = self.latents.draw(params, latents, observed, *self.frame_shape[:2])
        terms = {"log_likelihood": self._log_likelihood(video, pasted), "kl": jnp.concatenate(kl, axis=1)}
        loss = (terms["kl"] - terms["log_likelihood"]).sum()
        return LossOutputs(loss, terms, self._decomposition(latents, pasted))

    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: DDPAEState | None = None,
        start: int = 0,
    ) -> tuple[Decomposition, DDPAEState]:
        """See `VideoModel.decompose`; every frame is observed, and neither `keys` nor `start` matters."""
        del keys, start
        B, T = video.shape[:2]
        noise = no_noise(B, T, self.num_slots - 1, self.latents.content_dim)
        state = self.initial_state(params, B) if state is None else state
        latents, state = self.latents.observe(params, video, noise, state)
        return self._decomposition(latents, self.latents.draw(params, latents, T, *self.frame_shape[:2])), state

    def log_likelihood(self, video: Float[Array, "B T H W C"], decomposition: Decomposition) -> Float[Array, "B T H W"]:
        """See `VideoModel.log_likelihood`: a Gaussian around the reconstruction, summed over channels."""
        frames = video.reshape(-1, *self.frame_shape)
        composed = decomposition.reconstruction.reshape(-1, 1, *self.frame_shape)
        pixels = slot_log_likelihood(frames, composed, self.sigma, "joint").sum((1, -1))
        return pixels.reshape(video.shape[:-1])

    def predict(self, params: Params, state: DDPAEState, num_frames: int) -> tuple[Decomposition, DDPAEState]:
        """See `VideoModel.predict`."""
        noise = no_noise(state.pose.shape[0], num_frames, self.num_slots - 1, self.latents.content_dim)
        latents, state = self.latents.predict(params, num_frames, noise, state)
        return self._decomposition(latents, self.latents.draw(params, latents, 1, *self.frame_shape[:2])), state

    def poses(self, decomposition: Decomposition) -> Float[Array, "B T N 3"]:
        """Return scale, x and y of the components of a decomposition; see `transformer`."""
        return self.latents.constrain(decomposition.posterior[:, :, 1:, :3])

    def _log_likelihood(self, video, pasted):
        frames = composition.compose(pasted)
        flat = video.reshape(-1, *self.frame_shape), frames.reshape(-1, 1, *self.frame_shape)
        return slot_log_likelihood(*flat, self.sigma, "joint").sum((1, 2, 3, 4)).reshape(video.shape[:2])

    def _kl_observed(self, latents):
        contents = _kl(latents.contents, jnp.zeros(latents.contents.shape[-1]))
        steps = _kl(latents.increments, self._increment_prior)
        per_frame = steps + contents / contents.shape[1]
        return per_frame.at[:, 0].add(_kl(latents.initial[:, 0], self._initial_prior))

    def _decomposition(self, latents: Latents, pasted):
        layers = composition.as_layers(pasted)
        pose_scales, contents = latents.increments[..., 3:], jnp.split(latents.contents, 2, axis=-1)
        of_components = jnp.concatenate([latents.pose_means, contents[0], pose_scales, contents[1]], axis=-1)
        posterior = jnp.pad(of_components, ((0, 0), (0, 0), (1, 0), (0, 0)))
        return Decomposition(layers.means, layers.masks, posterior)


def _kl(q, prior):
    """Return the KL divergence, summed over components."""
    return gaussian_kl(q, jnp.broadcast_to(prior, q.shape)).sum(-1)
