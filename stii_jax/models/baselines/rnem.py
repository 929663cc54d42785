"""The baseline R-NEM: relational neural expectation maximisation (van Steenkiste et al. 2018; Greff et al. 2017).

One recurrent network per slot, with weights shared by all slots, predicts the next frame. An E-step then assigns the
pixels to the slots by how well each predicted them. Frames must be binary.

[C] marks choices taken from the authors' public program (sjoerdvansteenkiste/Relational-NEM) with its default settings,
those of the paper's balls. Our own choices:
- sums where the program takes means over frames and batch;
- 1e-6 instead of 1e-12 as layer norm's epsilon;
- clean input in `decompose`;
- the masks of the first predicted frame (see `predict`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from stii_jax.models.layers import conv3x3, elu
from stii_jax.models.video_model import LossOutputs, VideoModel
from stii_jax.types import Decomposition, Params

_EPSILON = 1e-6  # added to likelihoods in the E-step, and the bound of probabilities in the loss [C]
_VISIBLE = 0.1  # probability above which a pixel of a predicted frame counts as white [C]
_ROW_OF_TAP = np.array([[0, 1, 1, 2], [1, 1, 2, 2]])  # tap of the small image, by row modulo 2 and tap of the large one


class RNEMState(NamedTuple):
    """The recurrent state passed from frame to frame."""

    theta: Float[Array, "B K D"]
    """Hidden state of every slot, in (0, 1); 0 at the start."""
    means: Float[Array, "B K H W"]
    """Every slot's prediction of the next frame; 0 at the start."""
    frame: Int[Array, ""]
    """Frames seen so far."""


def e_step(frame: Float[Array, "B H W"], means: Float[Array, "B K H W"]) -> Float[Array, "B K H W"]:
    """Return each slot's share of a pixel, in proportion to `x mu_k + (1 - x) (1 - mu_k)` [C].

    Shares are equal where no slot predicted the pixel.
    """
    x = frame[:, None]
    likelihood = x * means + (1 - x) * (1 - means) + _EPSILON
    return likelihood / likelihood.sum(1, keepdims=True)


def predicted_frame(means: Float[Array, "B K H W"]) -> Float[Array, "B H W"]:
    """Return a predicted frame that is white where any slot's prediction exceeds 0.1 [C]."""
    return (means.max(1) > _VISIBLE).astype(jnp.float32)


def loss_terms(
    frame: Float[Array, "B H W"], means: Float[Array, "B K H W"], masks: Float[Array, "B K H W"]
) -> dict[str, Float[Array, " B"]]:
    """Return both parts of a frame's loss, in nats, summed over slots and pixels [C].

    `cross_entropy` fits each slot to its own pixels. `kl_to_background`, KL(Bernoulli(0) || Bernoulli(mu)), makes it
    predict black elsewhere. The masks weigh both and carry no gradient.
    """
    masks = lax.stop_gradient(masks)
    clipped = jnp.clip(means, _EPSILON, 1 - _EPSILON)
    white, black = -jnp.log(clipped), -jnp.log(1 - clipped)
    x = frame[:, None]
    own = masks * (x * white + (1 - x) * black)
    return {"cross_entropy": own.sum((1, 2, 3)), "kl_to_background": ((1 - masks) * black).sum((1, 2, 3))}


def flip(frame: Float[Array, "*shape"], flips: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Flip pixels: `frame` where `flips` is 0 and `1 - frame` where it is 1."""
    return frame + flips - 2 * frame * flips


def halving_convolution(x: Float[Array, "N H W I"], kernel: Float[Array, "4 4 I O"]) -> Float[Array, "N H2 W2 O"]:
    """Apply a 4x4 convolution of stride 2 and zero padding 1 as a matrix product; H and W are even.

    As with `conv3x3`, the reason is speed. In a loop on a CPU, a training step with the library's convolutions takes 17
    times longer.
    """
    n, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    blocks = padded.reshape(n, rows + 1, 2, columns + 1, 2, channels).swapaxes(2, 3)
    blocks = blocks.reshape(n, rows + 1, columns + 1, 4 * channels)
    windows = [blocks[:, i : i + rows, j : j + columns] for i in range(2) for j in range(2)]
    taps = kernel.reshape(2, 2, 2, 2, channels, -1).swapaxes(1, 2)
    return jnp.concatenate(windows, axis=-1) @ taps.reshape(16 * channels, -1)


def doubling_convolution(x: Float[Array, "N H W I"], kernel: Float[Array, "4 4 I O"]) -> Float[Array, "N H2 W2 O"]:
    """Repeat every pixel 2x2, then apply a 4x4 convolution with zero padding (1 before, 2 after).

    The result is computed on the small image. A pixel of the large one sees at most 3x3 different values, so a 2x2
    block's four pixels are channels of a 3x3 convolution.
    """
    n, height, width, channels = x.shape
    place = jnp.array(_ROW_OF_TAP[..., None] == np.arange(3), x.dtype)
    small = jnp.einsum("aur,bvs,uvio->rsiabo", place, place, kernel)
    blocks = conv3x3(x, small.reshape(3, 3, channels, -1)).reshape(n, height, width, 2, 2, -1)
    return blocks.swapaxes(2, 3).reshape(n, 2 * height, 2 * width, -1)


class ResamplingConvolution(nn.Module):
    """A 4x4 convolution with bias that halves or doubles the image."""

    features: int
    doubles: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "N H W I"]) -> Float[Array, "N H2 W2 O"]:
        kernel = self.param("kernel", nn.initializers.xavier_uniform(), (4, 4, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return (doubling_convolution if self.doubles else halving_convolution)(x, kernel) + bias


def _dense(features: int, name: str | None = None) -> nn.Dense:
    return nn.Dense(features, kernel_init=nn.initializers.xavier_uniform(), name=name)


def _image_norm() -> nn.LayerNorm:
    """Return a layer norm over pixels and channels, with one scale and offset per channel [C]."""
    return nn.LayerNorm(reduction_axes=(-3, -2, -1), feature_axes=-1)


class NormedDense(nn.Module):
    """A dense layer, layer norm, and an activation."""

    features: int
    activation: Callable[[jax.Array], jax.Array] = nn.relu

    @nn.compact
    def __call__(self, x: Float[Array, "*B I"]) -> Float[Array, "*B O"]:
        return self.activation(nn.LayerNorm()(_dense(self.features)(x)))


class FrameEncoder(nn.Module):
    """An encoder of a slot's input: convolutions of stride 2 and a dense layer, each with layer norm and ELU [C]."""

    channels: tuple[int, ...]
    feature_dim: int

    @nn.compact
    def __call__(self, images: Float[Array, "N H W"]) -> Float[Array, "N F"]:
        x = images[..., None]
        for channels in self.channels:
            x = elu(_image_norm()(ResamplingConvolution(channels)(x)))
        return NormedDense(self.feature_dim, elu)(x.reshape(len(x), -1))


class FrameDecoder(nn.Module):
    """A decoder of a slot's state to its prediction in (0, 1): the mirrored encoder, with layer norm and ReLU [C]."""

    channels: tuple[int, ...]
    feature_dim: int
    height: int
    width: int

    @nn.compact
    def __call__(self, hidden: Float[Array, "N D"]) -> Float[Array, "N H W"]:
        rows, columns = (size >> len(self.channels) for size in (self.height, self.width))
        x = NormedDense(self.feature_dim)(hidden)
        x = NormedDense(rows * columns * self.channels[-1])(x)
        x = x.reshape(-1, rows, columns, self.channels[-1])
        for channels in self.channels[-2::-1]:
            x = nn.relu(_image_norm()(ResamplingConvolution(channels, doubles=True)(x)))
        return nn.sigmoid(ResamplingConvolution(1, doubles=True)(x)[..., 0])


class Relation(nn.Module):
    """The recurrent update of all slots from their states, their interactions and their inputs [C].

    Each ordered pair (k, i) gives an effect of slot i on slot k and an attention in (0, 1). Both are functions of one
    dense layer of the two encoded states. Effects are weighted and summed over i != k; with one slot there are none.
    """

    hidden_dim: int
    attention_dim: int

    @nn.compact
    def __call__(self, theta: Float[Array, "B K D"], features: Float[Array, "B K F"]) -> Float[Array, "B K D"]:
        """Return the new hidden state before its sigmoid."""
        encoded = NormedDense(self.hidden_dim, name="state")(theta)
        pairs = (*encoded.shape[:2], *encoded.shape[1:])
        focus, other = (jnp.broadcast_to(e, pairs) for e in (encoded[:, :, None], encoded[:, None]))
        pair = NormedDense(self.hidden_dim, name="pair")(jnp.concatenate([focus, other], axis=-1))
        effect = NormedDense(self.hidden_dim, name="effect")(pair)
        hidden = NormedDense(self.attention_dim, nn.tanh, name="attention_hidden")(pair)
        attention = nn.sigmoid(_dense(1, name="attention")(hidden))
        others = 1 - jnp.eye(theta.shape[1])[..., None]
        total = (others * attention * effect).sum(2)
        return _dense(self.hidden_dim, name="update")(jnp.concatenate([encoded, total, features], axis=-1))


class RNEMCell(nn.Module):
    """One step of all slots, from inputs and hidden states to new hidden states and predictions."""

    encoder_channels: tuple[int, ...]
    feature_dim: int
    hidden_dim: int
    attention_dim: int

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "B K H W"], theta: Float[Array, "B K D"]
    ) -> tuple[Float[Array, "B K D"], Float[Array, "B K H W"]]:
        batch, num_slots, height, width = inputs.shape
        encoder = FrameEncoder(self.encoder_channels, self.feature_dim, name="encoder")
        decoder = FrameDecoder(self.encoder_channels, self.feature_dim, height, width, name="decoder")
        features = encoder(inputs.reshape(-1, height, width)).reshape(batch, num_slots, -1)
        update = Relation(self.hidden_dim, self.attention_dim, name="relation")(theta, features)
        # The decoder gets a normalised state; the next step does not [C].
        hidden = nn.sigmoid(nn.LayerNorm(name="norm")(update))
        means = decoder(hidden.reshape(batch * num_slots, -1)).reshape(inputs.shape)
        return nn.sigmoid(update), means


class RNEM(VideoModel):
    """R-NEM for videos of `height x width x channels`. The model's frame is the mean over the channels.

    Frames should be binary; values between 0 and 1 are probabilities of white. At frame t the Decomposition holds three
    parts: `means`, predicted from the frames before it, `masks`, from the E-step with the frame, and `posterior`, the
    hidden states after it. A video's first frame has no prediction and no loss. Its means are 0. Its masks are random,
    |normal| normalised over the slots [C], and are the only difference between the slots.

    Args:
        height: height in pixels, a multiple of 2 to the number of `encoder_channels`.
        width: width in pixels, a multiple of the same number.
        channels: channels of the videos, and of the Decomposition's means, which repeat one channel.
        num_slots: K.
        hidden_dim: size of a slot's state.
        encoder_channels: output channels of the encoder's convolutions; the decoder reverses them.
        feature_dim: size of the dense layers between convolutions and state.
        attention_dim: size of the attention's hidden layer.
        noise: probability that an input pixel is flipped in training.
        evaluation_noise: the same in `decompose`. The program [C] has one setting for both: a network trained with
            noise scores higher with it.
        kl_weight: weight of `kl_to_background` in the loss.
        rollout: the input that replaces a frame in `predict`. "expected" is `sum_k masks_k means_k` [C]. A slot then
            sees almost nothing that it did not predict, and objects of briefly trained networks fade within three
            frames. "binary" is `predicted_frame`, which resembles training frames: objects stay, and grow.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        channels: int,
        num_slots: int = 5,
        hidden_dim: int = 250,
        encoder_channels: tuple[int, ...] = (16, 32, 64),
        feature_dim: int = 512,
        attention_dim: int = 100,
        noise: float = 0.2,
        evaluation_noise: float = 0.0,
        kl_weight: float = 1.0,
        rollout: str = "expected",
    ):
        unit = 2 ** len(encoder_channels)
        if height % unit or width % unit:
            raise ValueError(
                f"image_size {height}x{width} with encoder_channels {tuple(encoder_channels)}: "
                f"expected multiples of {unit}; change image_size or the number of encoder_channels"
            )
        for name, value in (("noise", noise), ("evaluation_noise", evaluation_noise)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} {value}: expected a probability, 0 to 1")
        if rollout not in ("expected", "binary"):
            raise ValueError(f"rollout {rollout!r}: expected 'expected' or 'binary'")
        self.num_slots, self.frame_shape = num_slots, (height, width, channels)
        self.hidden_dim, self.kl_weight = hidden_dim, kl_weight
        self.noise, self.evaluation_noise, self.rollout = noise, evaluation_noise, rollout
        self.cell = RNEMCell(tuple(encoder_channels), feature_dim, hidden_dim, attention_dim)

    def init(self, key: Key[Array, ""]) -> Params:
        """Initialise `encoder`, `relation`, `norm` and `decoder`; kernels are Glorot uniform [C]."""
        state = self.initial_state({}, 1)
        return self.cell.init(key, state.means, state.theta)["params"]

    def initial_state(self, params: Params, batch_size: int) -> RNEMState:
        """Return zeros [C]; the initial state is not learned."""
        del params
        slots = (batch_size, self.num_slots)
        return RNEMState(jnp.zeros((*slots, self.hidden_dim)), jnp.zeros((*slots, *self.frame_shape[:2])), jnp.int32(0))

    def loss(self, params: Params, video: Float[Array, "B T H W C"], keys: Key[Array, " B"]) -> LossOutputs:
        """Sum cross-entropy and weighted KL over the predictions of frames 1 to T-1; the input is noisy.

        Gradients flow through all frames via hidden states and predictions, never through masks [C].
        """
        decomposition, terms, _ = self._unroll(params, video, keys, None, self.noise)
        total = terms["cross_entropy"] + self.kl_weight * terms["kl_to_background"]
        return LossOutputs(total.sum(), terms, decomposition)

    def decompose(
        self,
        params: Params,
        video: Float[Array, "B T H W C"],
        keys: Key[Array, " B"],
        state: RNEMState | None = None,
        start: int = 0,
    ) -> tuple[Decomposition, RNEMState]:
        """See `VideoModel.decompose`. Keys determine the masks of a video's first frame and `evaluation_noise`."""
        del start  # the state holds it
        decomposition, _, state = self._unroll(params, video, keys, state, self.evaluation_noise)
        return decomposition, state

    def log_likelihood(self, video: Float[Array, "B T H W C"], decomposition: Decomposition) -> Float[Array, "B T H W"]:
        """See `VideoModel.log_likelihood`: the log-probability of white or black, predicted from earlier frames."""
        x, means = video.mean(-1)[:, :, None], decomposition.means[..., 0]
        probability = (decomposition.masks * (x * means + (1 - x) * (1 - means))).sum(2)
        return jnp.log(jnp.maximum(probability, _EPSILON))

    def predict(self, params: Params, state: RNEMState, num_frames: int) -> tuple[Decomposition, RNEMState]:
        """Roll out the model: masks come from the E-step with `predicted_frame`, and `rollout` selects the input.

        The program's first step uses the masks of a true frame; here no future frame enters.
        """

        def step(state, _):
            seen = predicted_frame(state.means)
            masks = e_step(seen, state.means)
            shown = seen if self.rollout == "binary" else (masks * state.means).sum(1)
            after = self._advance(params, state, shown, masks)
            return after, (state.means, masks, after.theta)

        state, frames = lax.scan(step, state, length=num_frames)
        return self._decomposition(*frames), state

    def _unroll(self, params, video, keys, state, noise):
        """Return the Decomposition, the loss's terms `B T`, and the state after a clip."""
        state = self.initial_state(params, len(video)) if state is None else state
        first_masks = self._first_masks(keys)

        def step(state, frame):
            first = state.frame == 0
            masks = jnp.where(first, first_masks, e_step(frame, state.means))
            terms = loss_terms(frame, state.means, masks)
            terms = {name: jnp.where(first, 0.0, term) for name, term in terms.items()}
            given = flip(frame, self._flips(keys, state.frame, noise)) if noise else frame
            after = self._advance(params, state, given, masks)
            return after, ((state.means, masks, after.theta), terms)

        state, (frames, terms) = lax.scan(step, state, video.mean(-1).swapaxes(0, 1))
        return self._decomposition(*frames), {name: term.swapaxes(0, 1) for name, term in terms.items()}, state

    def _advance(self, params, state, frame, masks):
        """Return the state after `frame`. Each slot's input is its share of the prediction error [C]."""
        inputs = lax.stop_gradient(masks) * (frame[:, None] - state.means)
        slots: Any = self.cell.apply({"params": params}, inputs, state.theta)
        theta, means = slots
        return RNEMState(theta, means, state.frame + 1)

    def _decomposition(self, means, masks, theta) -> Decomposition:
        """Assemble a Decomposition from the outputs of a scan, `T B K ...`."""
        means, masks, theta = (a.swapaxes(0, 1) for a in (means, masks, theta))
        channels = jnp.broadcast_to(means[..., None], (*means.shape, self.frame_shape[-1]))
        return Decomposition(channels, masks, theta)

    def _first_masks(self, keys: Key[Array, " B"]) -> Float[Array, "B K H W"]:
        shape = (self.num_slots, *self.frame_shape[:2])
        draws = jnp.abs(jax.vmap(lambda key: jax.random.normal(key, shape))(keys))
        return draws / draws.sum(1, keepdims=True)

    def _flips(self, keys: Key[Array, " B"], frame: Int[Array, ""], noise: float) -> Float[Array, "B H W"]:
        """Draw the pixels of this frame to flip: each is 1 with probability `noise`, else 0."""

        def draw(key):
            return jax.random.bernoulli(jax.random.fold_in(key, frame), noise, self.frame_shape[:2])

        return jax.vmap(draw)(keys).astype(jnp.float32)
