"""The model (paper section 3): a scan over frames, with a nested scan over refinements.

Each cell computes the gradients of its ELBO. All functions are pure in `(params, inputs)`. `STII` holds settings and
modules but no arrays.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from stii_jax.models import motion
from stii_jax.models.decoder import DECODERS
from stii_jax.models.elbo import CellELBO, CellInputs
from stii_jax.models.prior import ConditionalPrior
from stii_jax.models.recurrent import LSTMState, zero_state
from stii_jax.models.refiner import CellGradients, Decoded, Refiner, refinement_images
from stii_jax.models.schedule import SCHEDULES, refinement_schedule, refinement_weights, segments
from stii_jax.models.state import FrameOutputs, UnrollOutputs, VideoState
from stii_jax.models.video_model import LossOutputs, VideoModel
from stii_jax.types import Decomposition, Params

_CLIP = 2**31 - 1  # the frame number of noise that belongs to the whole clip


class STII(VideoModel):
    """Spatio-temporal iterative inference for videos of `height x width x channels`, with frames in [0, 1].

    The arguments are the settings of `config.model` (described in configs/default.py) and `config.loss`.
    """

    can_sample = True

    def __init__(
        self,
        *,
        height: int,
        width: int,
        channels: int,
        weights: Mapping[str, float],
        refinement_weights: str,
        observed_fraction: float,
        architecture: str,
        num_slots: int,
        num_refinements: int,
        latent_dim: int,
        hidden_dim: int,
        decoder_channels: int,
        refiner_channels: int,
        feature_dim: int,
        prior_dim: int,
        schedule: str,
        cell: str,
        posterior_start: str,
        first_noise: str,
        conditional_prior: bool,
        conditional_decoder: bool,
        leave_one_out: bool,
        leave_one_out_masks: str,
        posterior_input: str,
        likelihood: str,
        sigma: float,
        temperature: float,
        prior_scale: str,
        detach_refiner_inputs: bool,
        remat: bool,
        compute_dtype: str,
        predictor: str = "prior",
        interaction: str = "relational",
        motion_width: int = 128,
        segmentation: str = "masks",
    ):
        dtype = jnp.dtype(compute_dtype)
        self.num_slots, self.latent_dim, self.hidden_dim = num_slots, latent_dim, hidden_dim
        self.num_refinements, self.schedule_kind, self.weights_kind = num_refinements, schedule, refinement_weights
        self.posterior_start, self.first_noise, self.remat = posterior_start, first_noise, remat
        self.observed_fraction, self.segmentation = observed_fraction, segmentation
        self.frame_shape = (height, width, channels)
        self.predictor, self.motion = predictor, motion.MotionModel(decoder_channels, interaction, motion_width)
        self.refiner = Refiner(refiner_channels, feature_dim, hidden_dim, cell, architecture, dtype)
        prior = ConditionalPrior(latent_dim, prior_dim, prior_scale) if conditional_prior else None
        self.elbo = CellELBO(
            DECODERS[architecture](decoder_channels, height, width, channels, dtype),
            prior,
            weights,
            latent_dim=latent_dim,
            sigma=sigma,
            likelihood_kind=likelihood,
            temperature=temperature,
            conditional_decoder=conditional_decoder,
            detach=detach_refiner_inputs,
        )
        self._images: dict[str, Any] = {
            "sigma": sigma,
            "likelihood_kind": likelihood,
            "temperature": temperature,
            "posterior_input": posterior_input,
            "with_leave_one_out": leave_one_out,
            "leave_one_out_masks": leave_one_out_masks,
        }
        # Inlined into its callers when compiled, and traced once for all of them.
        self._refined = jax.jit(self._always_refine, inline=True)

    def init(self, key: Key[Array, ""]) -> Params:
        """Parameters: `decoder`, `refiner`, `initial_posterior` and, if the model has them, `prior` and `motion`."""
        keys = jax.random.split(key, 4)
        temporal = zero_state(1, self.num_slots, self.hidden_dim)
        start = jax.random.uniform(keys[0], (2 * self.latent_dim,), minval=-0.5, maxval=0.5)
        posterior = jnp.broadcast_to(start, (1, self.num_slots, 2 * self.latent_dim))
        conditioning = self.hidden_dim if self.elbo.conditional_decoder else 0
        params = {
            "initial_posterior": start,
            "decoder": self.elbo.decoder.init(keys[1], jnp.zeros((1, self.latent_dim + conditioning)))["params"],
        }
        if self.elbo.prior is not None:
            params["prior"] = self.elbo.prior.init(keys[2], temporal.h)["params"]
        frame = jnp.zeros((1, *self.frame_shape))
        image = (1, self.num_slots, *self.frame_shape[:2])
        decoded = Decoded(jnp.zeros((*image, self.frame_shape[-1])), jnp.zeros(image))
        gradients = CellGradients(posterior, decoded.means, decoded.mask_logits)
        images = refinement_images(frame, decoded, gradients, **self._images)
        params["refiner"] = self.refiner.init(keys[3], images, posterior, posterior, temporal, temporal)["params"]
        if self.predictor != "prior":
            params["motion"] = self.motion.init(jax.random.fold_in(key, 4))
        return params

    def initial_state(self, params: Params, batch_size: int) -> VideoState:
        """The state before a video's first frame."""
        posterior = jnp.broadcast_to(params["initial_posterior"], (batch_size, self.num_slots, 2 * self.latent_dim))
        state = VideoState(zero_state(batch_size, self.num_slots, self.hidden_dim), posterior, jnp.int32(0))
        if self.predictor == "prior":
            return state
        size = self.frame_shape[:2] if self.segmentation == "responsibilities" else None
        return state._replace(recent=self.motion.no_frames(batch_size, self.num_slots, size))

    def schedule(self, num_frames: int, start: int = 0) -> tuple[int, ...]:
        """Number of refinements of each of `num_frames` frames, of which the first is frame `start` of its video."""
        return refinement_schedule(num_frames, self.num_refinements, self.schedule_kind, start)

    def loss(self, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"]) -> LossOutputs:
        """See `VideoModel.loss`: the weighted negative ELBO over frames and decodes (equation 10; the paper's Eq. 3).

        The model observes the first `observed_fraction` of a clip and predicts the remaining frames. The ELBO of a
        predicted frame has no KL term. The paper observes all frames.
        """
        observed = self.num_observed(video.shape[1])
        out, state = self.unroll(params, video[:, :observed], keys)
        seen = LossOutputs(out.loss, out.terms, out.decomposition)
        if observed == video.shape[1]:
            return seen
        predicted, _ = self.predict(params, state, video.shape[1] - observed)
        elbo, terms = jax.vmap(self.elbo.predicted_elbo, (1, 1, 1), (0, 1))(
            video[:, observed:], predicted.means, predicted.masks
        )
        shown = (seen.terms, seen.decomposition), (lax.stop_gradient(terms), predicted)
        return LossOutputs(seen.loss - elbo.sum(), *jax.tree.map(lambda a, b: jnp.concatenate([a, b], 1), *shown))

    def num_observed(self, num_frames: int) -> int:
        """Number of frames of a training clip that the model observes."""
        return max(1, round(self.observed_fraction * num_frames))

    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: VideoState | None = None,
        start: int = 0,
    ) -> tuple[Decomposition, VideoState]:
        """See `VideoModel.decompose`."""
        out, state = self.unroll(params, video, keys, state, self.schedule(video.shape[1], start))
        return out.decomposition, state

    def log_likelihood(self, video: Float[Array, "B T H W C"], decomposition: Decomposition) -> Float[Array, "B T H W"]:
        """See `VideoModel.log_likelihood`. The pixel mixture's log-likelihood is summed over channels."""
        frame_by_frame = jax.vmap(self.elbo.mixture, in_axes=1, out_axes=1)
        return frame_by_frame(video, decomposition.means, decomposition.masks).pixels

    def unroll(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: VideoState | None = None,
        schedule: tuple[int, ...] | None = None,
    ) -> tuple[UnrollOutputs, VideoState]:
        """Decompose a clip and compute its loss, starting fresh or from the state returned for the previous clip.

        Args:
            params: from `init`.
            video: frames in [0, 1].
            keys: one key per video, the same for all of its clips.
            state: None at a video's start.
            schedule: refinements of these frames, `schedule(T, start)`; None at a video's start.
        """
        num_frames = video.shape[1]
        carry = self.initial_state(params, video.shape[0]) if state is None else state
        schedule = self.schedule(num_frames) if schedule is None else schedule
        weights = refinement_weights(schedule, self.num_refinements, self.weights_kind)
        outputs = []
        for start, stop in segments(schedule):
            part = schedule[start:stop]
            columns = [*range(max(part)), -1]
            noise = self._noise(keys, carry.frame + jnp.arange(stop - start), max(part) + 1)
            frames = video[:, start:stop].swapaxes(0, 1)
            per_frame = (frames, noise, jnp.array(weights[start:stop, columns]), jnp.array(part))

            same = part[0] if len(set(part)) == 1 else None

            def step(state, inputs, same=same):
                frame, noise, weight, refinements = inputs
                return self.frame(params, state, frame, noise, weight, refinements if same is None else same)

            carry, out = lax.scan(step, carry, per_frame)
            padding = max(schedule) - max(part)
            cell_elbo = jnp.insert(out.cell_elbo, jnp.full(padding, max(part)), 0.0, axis=1)
            outputs.append(out._replace(cell_elbo=cell_elbo))
        out = jax.tree.map(lambda *parts: jnp.concatenate(parts), *outputs)
        decomposition = Decomposition(out.means, out.masks, out.posterior, out.responsibilities)
        decomposition, terms = jax.tree.map(lambda a: a.swapaxes(0, 1), (decomposition, out.terms))
        return UnrollOutputs(decomposition, out.loss.sum(), out.cell_elbo, terms), carry

    def stream(
        self, params: Params, state: VideoState, frame: Float[Array, "B H W C"], keys: Key[Array, " B"]
    ) -> tuple[Decomposition, VideoState]:
        """See `VideoModel.stream`."""
        state, out = self.next_frame(params, state, frame, keys)
        return out.decomposition, state

    def next_frame(
        self,
        params: Params,
        state: VideoState,
        frame: Float[Array, "B H W C"],
        keys: Key[Array, " B"],
        as_first: bool | Bool[Array, ""] = False,
    ) -> tuple[VideoState, FrameOutputs]:
        """Infer the next frame of a video outside of training.

        With `as_first`, the frame gets as many refinements as a first frame.
        """
        longest = SCHEDULES[self.schedule_kind](0, self.num_refinements)
        table = jnp.array(self.schedule(longest + 1))  # the schedule is constant after R frames
        refinements = table[jnp.where(as_first, 0, jnp.minimum(state.frame, longest))]
        noise = self._noise(keys, state.frame[None], longest + 1)[0]
        return self.frame(params, state, frame, noise, jnp.zeros(longest + 1), refinements)

    def predict(
        self, params: Params, state: VideoState, num_frames: int, keys: Key[Array, " B"] | None = None
    ) -> tuple[Decomposition, VideoState]:
        """Predict the next `num_frames` frames of a video (paper 3.2.3); the result holds these frames only.

        Each frame is decoded from the prior's mean or, if `keys` are given, from a sample. One refinement then advances
        the temporal state, with the reconstruction instead of a frame and zeros instead of gradients. Predictors other
        than the prior move the slots of the last frame instead; see `stii_jax.models.motion`.
        """
        if self.predictor != "prior":
            return self._move(params, state, num_frames, keys)

        def step(state, _):
            prior = self.elbo.prior_parameters(params, state.temporal.h)
            z, log_scale = jnp.split(prior, 2, axis=-1)
            if keys is not None:
                z = z + jnp.exp(log_scale) * self._step_noise(keys, state.frame)
            decoded = self.elbo.decode(params, z, state.temporal.h, state.present)
            seen = lax.stop_gradient(decoded) if self.elbo.detach else decoded
            frame = (seen.means * seen.masks[..., None]).sum(1)
            nothing = CellGradients(jnp.zeros_like(prior), jnp.zeros_like(decoded.means), jnp.zeros_like(decoded.masks))
            start = jax.tree.map(jnp.zeros_like, state.temporal)
            _, temporal = self._refine(params, frame, seen, nothing, prior, state.temporal, start)
            after = state._replace(temporal=temporal, posterior=prior, frame=state.frame + 1)
            return after, Decomposition(decoded.means, decoded.masks, prior)

        state, frames = lax.scan(step, state, length=num_frames)
        if self.segmentation == "responsibilities":
            frames = frames._replace(responsibilities=frames.masks)  # predicted pixels have no observed colour
        return jax.tree.map(lambda a: a.swapaxes(0, 1), frames), state

    def _move(self, params, state, num_frames, keys):
        def step(state, _):
            noise = None if keys is None else self._step_noise(keys, state.frame)[..., :2]
            code, recent = self.motion.next(params["motion"], state.recent, self.predictor, noise)
            decoded = self.elbo.paint(params, code, state.present)
            after = state._replace(recent=recent, frame=state.frame + 1)
            moved = None if recent.assignment is None else motion.carry(recent)
            return after, Decomposition(decoded.means, decoded.masks, state.posterior, moved)

        state, frames = lax.scan(step, state, length=num_frames)
        return jax.tree.map(lambda a: a.swapaxes(0, 1), frames), state

    def frame(
        self,
        params: Params,
        state: VideoState,
        frame: Float[Array, "B H W C"],
        noise: Float[Array, "N B K Z"],
        weights: Float[Array, " N"],
        refinements: int | Int[Array, ""],
    ) -> tuple[VideoState, FrameOutputs]:
        """Refine one frame's posterior `refinements` <= R times, then decode it a last time, in one compiled loop."""
        longest = len(weights) - 1
        ragged = not isinstance(refinements, int)
        temporal, start = self._memory(state)
        # JAX hoists a condition that is the same in every frame out of the scan, and then stores zeros the size of each
        # cell's activations. A formal dependence on the frame prevents that.
        last_refinement = refinements + 0 * state.frame

        def cell(carry, inputs):
            posterior, refinement, loss, last = carry
            r, noise, weight = inputs
            active = r <= refinements if ragged else None
            out = self.elbo(params, CellInputs(posterior, temporal.h, frame, noise, state.present), active)
            loss -= jnp.where(r == refinements, weights[-1], weight) * out.elbo
            decode = (out.decoded, out.terms, out.elbo)
            if active is not None:
                decode = jax.tree.map(lambda new, old: jnp.where(active, new, old), decode, last)
            posterior, refinement = self._refine(
                params, frame, out.decoded, out.gradients, posterior, temporal, refinement, r < last_refinement
            )
            return (posterior, refinement, loss, decode), out.elbo

        posterior = self._start(params, state)
        nothing = jax.eval_shape(self.elbo, params, CellInputs(posterior, start.h, frame, noise[0], state.present))
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape), (nothing.decoded, nothing.terms, nothing.elbo))
        inputs = (jnp.arange(longest + 1), noise, weights)
        carry, elbos = lax.scan(cell, (posterior, start, jnp.float32(0.0), nothing), inputs)
        posterior, refinement, loss, (decoded, terms, elbo) = carry
        elbos = jnp.append(jnp.where(jnp.arange(longest) < refinements, elbos[:-1], 0.0), elbo)
        means, masks, resolved = decoded.means, decoded.masks, self.segmentation == "responsibilities"
        responsibilities = self.elbo.responsibilities(frame, means, masks) if resolved else None
        outputs = FrameOutputs(means, masks, posterior, responsibilities, loss, elbos, terms)
        recent = state.recent
        if recent is not None:
            code = self.elbo.code(params, posterior[..., : self.latent_dim], temporal.h)
            recent = motion.observe(recent, code, masks if responsibilities is None else responsibilities)
        after = state._replace(temporal=refinement, posterior=posterior, frame=state.frame + 1, recent=recent)
        return after, outputs

    def _memory(self, state: VideoState) -> tuple[LSTMState, LSTMState]:
        """The temporal state of a frame, and its initial refinement state."""
        return state.temporal, jax.tree.map(jnp.zeros_like, state.temporal)

    def _start(self, params: Params, state: VideoState) -> Float[Array, "B K Z2"]:
        """Posterior parameters at the start of a frame."""
        learned = jnp.broadcast_to(params["initial_posterior"], state.posterior.shape)
        if self.posterior_start == "prior":
            return self.elbo.prior_parameters(params, state.temporal.h)
        if self.posterior_start == "previous":
            return jnp.where(state.frame == 0, learned, state.posterior)
        return learned

    def _noise(self, keys: Key[Array, " B"], frames: Int[Array, " T"], decodes: int) -> Float[Array, "T N B K Z"]:
        """Noise of every decode of these frames. In a video's first decode it distinguishes the slots.

        With `first_noise` "mean", the first decodes of later frames have no noise. With "once", only the video's first
        decode has noise.
        """
        noise = self._draws(keys, frames, decodes)
        if self.first_noise not in ("mean", "once"):
            return noise
        is_later, is_first = frames[:, None] > 0, jnp.arange(decodes) == 0
        silent = is_later & is_first if self.first_noise == "mean" else is_later | ~is_first
        return jnp.where(silent[:, :, None, None, None], 0.0, noise)

    def _draws(self, keys: Key[Array, " B"], frames: Int[Array, " T"], decodes: int) -> Float[Array, "T N B K Z"]:
        """Normal samples of every decode; with `first_noise` "clip", first decodes share one draw per clip."""

        def draw(frame, r, key):
            key = jax.random.fold_in(jax.random.fold_in(key, frame), r)
            return jax.random.normal(key, (self.num_slots, self.latent_dim))

        frames, r = jnp.broadcast_arrays(frames[:, None], jnp.arange(decodes))
        if self.first_noise == "clip":
            frames = jnp.where(r == 0, _CLIP, frames)
        over_videos = jax.vmap(draw, (None, None, 0))
        return jax.vmap(jax.vmap(over_videos, (0, 0, None)), (0, 0, None))(frames, r, keys)

    def _step_noise(self, keys: Key[Array, " B"], frame: Int[Array, ""]) -> Float[Array, "B K Z"]:
        """Normal samples for one predicted frame: independent from frame to frame, whatever `first_noise` is."""
        draw = lambda key: jax.random.normal(jax.random.fold_in(key, frame), (self.num_slots, self.latent_dim))  # noqa: E731
        return jax.vmap(draw)(keys)

    def _refine(self, params, frame, decoded, gradients, posterior, temporal, refinement, active=True):
        """Apply steps 6 to 9 if `active`. Rematerialised: training stores only a cell's decode and gradients."""

        # The condition is rematerialised, too. Otherwise the parameters, which pass through it, would be kept per cell.
        def refine_if_active(active, *inputs):
            return lax.cond(active, self._refined, lambda *inputs: (inputs[-3], inputs[-1]), *inputs)

        inputs = (frame, decoded, lax.stop_gradient(gradients), posterior, temporal, refinement)
        if self.remat:
            refine_if_active = jax.checkpoint(refine_if_active, prevent_cse=False)
        return refine_if_active(active, params["refiner"], *inputs)

    def _always_refine(self, params, frame, decoded, gradients, posterior, temporal, refinement):
        images = refinement_images(frame, decoded, gradients, **self._images)
        return self.refiner.apply({"params": params}, images, posterior, gradients.posterior, temporal, refinement)
