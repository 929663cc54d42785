"""A motion model, learned from the tracks that a trained model finds: an alternative to the paper's prediction.

In the paper, each slot's temporal state predicts the next frame by itself (section 3.2.3). Slots therefore cannot
anticipate a collision, and errors in shape and position accumulate from frame to frame. This module predicts each
object's position from the recent positions of all objects, like interaction networks (Battaglia et al., 2016). It then
redraws the slot of the last observed frame at the predicted position. All of this is our extension.

Positions are y and x in units of the frame's height and width, with the origin at the centre.
"""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float, Key

from stii_jax.types import Params

HISTORY = 6
"""Number of past frames that the next position is predicted from."""
_SCALE = 16.0  # scales displacements per frame to about 1, like positions


class Recent(NamedTuple):
    """The recent frames of a video, as inputs of a motion model. The newest frame comes last."""

    code: Float[Array, "*B K D"]
    """The decoder's code of each slot in the last frame where it was visible."""
    anchor: Float[Array, "*B K 2"]
    """The slot's position in that frame."""
    position: Float[Array, "*B K F 2"]
    """The centroid of each slot's pixels. A hidden slot keeps the position of the frame before."""
    area: Float[Array, "*B K F"]
    """Each slot's share of the frame's pixels; 0 where it is not visible and before the video's start."""
    assignment: Float[Array, "*B K H W"] | None = None
    """Probability that a pixel belonged to each slot in its anchor's frame; None if the masks are the segmentation."""
    codes: Float[Array, "*B K F D"] | None = None
    """`code` in each of the frames; None if predictions do not depend on it."""


def no_frames(batch_size: int, num_slots: int, code_dim: int, size: tuple[int, int] | None = None) -> Recent:
    """The history before a video's first frame. It includes the assignment of pixels if the frame's `size` is given."""
    shape = (batch_size, num_slots)
    position, area = jnp.zeros((*shape, HISTORY, 2)), jnp.zeros((*shape, HISTORY))
    assignment = None if size is None else jnp.zeros((*shape, *size))
    return Recent(jnp.zeros((*shape, code_dim)), position[:, :, 0], position, area, assignment)


def forget(recent: Recent, chosen: Bool[Array, "B K"]) -> Recent:
    """The history without the past of the `chosen` slots."""
    return recent._replace(area=jnp.where(chosen[..., None], 0.0, recent.area))


def measure(assignment: Float[Array, "*B K H W"]) -> tuple[Float[Array, "*B K 2"], Float[Array, "*B K"]]:
    """Measure each slot's position and area, from the pixels where it is the most likely slot.

    The position of a slot without pixels is (0, 0).
    """
    num_slots, height, width = assignment.shape[-3:]
    pixels = jax.nn.one_hot(assignment.argmax(-3), num_slots, axis=-3)
    area = pixels.mean((-2, -1))
    y, x = ((jnp.arange(size) + 0.5) / size - 0.5 for size in (height, width))
    sums = jnp.stack([pixels.mean(-1) @ y / height, pixels.mean(-2) @ x / width], axis=-1)
    return sums / jnp.maximum(area, 1e-9)[..., None], area


def observe(recent: Recent, code: Float[Array, "*B K D"], assignment: Float[Array, "*B K H W"]) -> Recent:
    """The history after one further frame."""
    position, area = measure(assignment)
    visible = (area > 0)[..., None]
    position = jnp.where(visible, position, recent.position[..., -1, :])
    code, anchor = jnp.where(visible, code, recent.code), jnp.where(visible, position, recent.anchor)
    kept = None
    if recent.assignment is not None:
        kept = jnp.where(visible[..., None], assignment, recent.assignment)
    codes = None if recent.codes is None else _append(recent.codes, code)
    return Recent(code, anchor, _append(recent.position, position), _append(recent.area, area), kept, codes)


def carry(recent: Recent) -> Float[Array, "B K H W"]:
    """Move the pixels that an observed frame assigned to each object to its last position.

    Decoded masks are blurred at the edge of an object. In an observed frame, the pixel's colour decides there, and this
    evidence moves with the object. All other pixels belong to the background, the slot with the most pixels. Slots
    that had no pixel in the last observed frame get none.
    """
    assert recent.assignment is not None
    height, width = recent.assignment.shape[-2:]
    y, x = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")

    def move(image, offset):
        return map_coordinates(image, [y - offset[0] * height, x - offset[1] * width], order=1)

    area = recent.area[..., -1]
    is_background = jax.nn.one_hot(area.argmax(-1), area.shape[-1])
    is_object = (area > 0) * (1 - is_background)
    objects = jax.vmap(jax.vmap(move))(recent.assignment, recent.position[..., -1, :] - recent.anchor)
    objects *= is_object[..., None, None]
    objects /= jnp.maximum(objects.sum(1, keepdims=True), 1)
    return objects + is_background[..., None, None] * (1 - objects.sum(1, keepdims=True))


class Transition(nn.Module):
    """Predict the next position of every object, equivariantly to the order of slots.

    `interaction` "none" moves each object by itself. "relational" adds the gated effects of all other objects, computed
    from pairs (Battaglia et al. 2016). The gate is that of R-NEM (van Steenkiste et al. 2018). "attention" lets every
    object attend to the others instead.
    """

    interaction: str = "relational"
    width: int = 128

    @nn.compact
    def __call__(self, position: Float[Array, "B K F 2"], area: Float[Array, "B K F"]) -> Float[Array, "B K 2"]:
        visible = (area > 0).astype(jnp.float32)
        now, present = position[:, :, -1], visible[:, :, -1]
        seen = (visible[:, :, :-1] * visible[:, :, 1:])[..., None]
        steps = jnp.diff(position, axis=2) * seen * _SCALE
        size = (jnp.log(area.max(-1) + 1e-4) + 4)[..., None]
        steps, velocity = steps.reshape(*now.shape[:2], -1), steps[:, :, -1]
        own = jnp.concatenate([2 * now, steps, seen[..., 0], size], axis=-1)
        hidden = self._layer(own)
        if self.interaction == "relational":
            hidden = jnp.concatenate([hidden, self._effects(now, velocity, size, present)], axis=-1)
        elif self.interaction == "attention":
            others = jnp.broadcast_to((present > 0)[:, None, None, :], (*present.shape[:1], 1, *2 * present.shape[1:]))
            attend = nn.MultiHeadDotProductAttention(num_heads=4, qkv_features=self.width)
            hidden += attend(self._layer(hidden), mask=others)
        hidden = self._layer(self._layer(hidden))
        change = nn.Dense(2, kernel_init=nn.initializers.zeros)(hidden)
        smoothed = nn.Dense(2, use_bias=False, kernel_init=nn.initializers.zeros)(steps)
        return now + (velocity + smoothed + change) / _SCALE

    def _effects(self, now, velocity, size, present):
        """The summed effects of all other objects on each object."""
        offset = now[:, None] - now[:, :, None]  # from object i, the second axis, to object j, the third
        distance = jnp.sqrt(jnp.square(offset).sum(-1, keepdims=True) + 1e-6)
        approach = velocity[:, None] - velocity[:, :, None]
        mine = jnp.concatenate([velocity, size], -1)[:, :, None]
        other = jnp.broadcast_to(size[:, None], distance.shape)
        mine = jnp.broadcast_to(mine, (*distance.shape[:-1], mine.shape[-1]))
        pair = jnp.concatenate([4 * offset, 4 * distance, offset / distance, approach, mine, other], axis=-1)
        effect = self._layer(self._layer(pair))
        counts = present[:, None, :, None] * (1 - jnp.eye(now.shape[1]))[..., None]
        return (effect * nn.sigmoid(nn.Dense(1)(effect)) * counts).sum(2)

    def _layer(self, x):
        return nn.silu(nn.Dense(self.width)(x))


class SlotTransformer(nn.Module):
    """Predict the next code and position of every slot from those of the last frames, with a transformer.

    This is the prediction of SlotFormer (Wu et al., 2023), for comparison. All slots in all frames of the history
    attend to each other. Frames are embedded and slots are not, so it is equivariant to the order of slots.
    """

    width: int = 128
    num_layers: int = 2
    num_heads: int = 4

    @nn.compact
    def __call__(
        self, codes: Float[Array, "B K F D"], position: Float[Array, "B K F 2"], area: Float[Array, "B K F"]
    ) -> tuple[Float[Array, "B K D"], Float[Array, "B K 2"]]:
        B, K, F, D = codes.shape
        frames = self.param("frames", nn.initializers.normal(0.02), (F, self.width))
        tokens = (nn.Dense(self.width)(jnp.concatenate([codes, 4 * position], -1)) + frames).reshape(B, K * F, -1)
        seen = (area > 0).reshape(B, 1, 1, K * F)
        for number in range(self.num_layers):
            keys, newest = nn.LayerNorm()(tokens), slice(F - 1, None, F)
            if number == self.num_layers - 1:  # only the last frame's tokens are needed
                tokens, queries = tokens[:, newest], keys[:, newest]
            else:
                queries = keys
            attend = nn.MultiHeadDotProductAttention(num_heads=self.num_heads, qkv_features=self.width)
            tokens += attend(queries, keys, mask=seen)
            tokens += nn.Dense(self.width)(nn.silu(nn.Dense(2 * self.width)(nn.LayerNorm()(tokens))))
        last = nn.LayerNorm()(tokens)
        change = nn.Dense(D + 2, kernel_init=nn.initializers.zeros)(last)
        return codes[:, :, -1] + change[..., :D], position[:, :, -1] + change[..., D:] / _SCALE


class Placement(nn.Module):
    """Change the code of a slot to show its object elsewhere. At the object's own position it does not change."""

    width: int = 128

    @nn.compact
    def __call__(
        self, code: Float[Array, "*B D"], start: Float[Array, "*B 2"], end: Float[Array, "*B 2"]
    ) -> Float[Array, "*B D"]:
        first, second, last = nn.Dense(self.width), nn.Dense(self.width), nn.Dense(code.shape[-1])

        def describe(to):
            x = jnp.concatenate([code, 4 * start, 4 * to, _SCALE * (to - start)], axis=-1)
            return last(nn.silu(second(nn.silu(first(x)))))

        return code + describe(end) - describe(start)


class MotionModel:
    """A predictor of positions and codes.

    Args:
        code_dim: dimension of a code.
        interaction: that of `Transition`, or "slotformer" for `SlotTransformer`.
        width: width of the layers.
    """

    def __init__(self, code_dim: int, interaction: str, width: int):
        self.code_dim, self.predicts_codes = code_dim, interaction == "slotformer"
        self.transition: nn.Module = SlotTransformer(width) if self.predicts_codes else Transition(interaction, width)
        self.placement = Placement(width)

    def init(self, key: Key[Array, ""]) -> Params:
        """Parameters: `transition`, `placement`, and `noise`, the error of one predicted step in units of the frame."""
        keys, recent = jax.random.split(key), self.no_frames(1, 2)
        inputs = (a for a in (recent.codes, recent.position, recent.area) if a is not None)
        return {
            "transition": self.transition.init(keys[0], *inputs)["params"],
            "placement": self.placement.init(keys[1], recent.code, recent.anchor, recent.anchor)["params"],
            "noise": jnp.zeros(()),
        }

    def no_frames(self, batch_size: int, num_slots: int, size: tuple[int, int] | None = None) -> Recent:
        """The history before a video's first frame. It includes codes if the model predicts these."""
        recent = no_frames(batch_size, num_slots, self.code_dim, size)
        codes = jnp.zeros((batch_size, num_slots, HISTORY, self.code_dim))
        return recent._replace(codes=codes) if self.predicts_codes else recent

    def next(
        self, params: Params, recent: Recent, kind: str = "motion", noise: Float[Array, "B K 2"] | None = None
    ) -> tuple[Float[Array, "B K D"], Recent]:
        """Predict one frame: the code of every slot, and the history including this frame.

        Args:
            params: from `init`.
            recent: the history before the predicted frame.
            kind: "motion", or "velocity" to extrapolate the last two positions.
            noise: standard normal samples, to draw one of the possible futures; None for the most likely one.
        """
        last, visible = recent.position[..., -1, :], recent.area[..., -1:] > 0
        code, start = recent.code, recent.anchor
        if kind == "velocity":
            seen = visible & (recent.area[..., -2:-1] > 0)
            position = last + jnp.where(seen, last - recent.position[..., -2, :], 0.0)
        else:
            predicted, position = self.move(params, recent.codes, recent.position, recent.area)
            position = jnp.where(visible, position, last)
            if predicted is not None:
                code, start = jnp.where(visible, predicted, code), position
        if noise is not None:
            position += params["noise"] * noise
        code = self.place(params, code, start, position)
        after = recent._replace(
            position=_append(recent.position, position),
            area=_append(recent.area, recent.area[..., -1]),
            codes=None if recent.codes is None else _append(recent.codes, code),
        )
        return code, after

    def move(
        self,
        params: Params,
        codes: Float[Array, "B K F D"] | None,
        position: Float[Array, "B K F 2"],
        area: Float[Array, "B K F"],
    ) -> tuple[Float[Array, "B K D"] | None, Float[Array, "B K 2"]]:
        """Predict the next code, if the model predicts codes, and the next position of every object."""
        apply: Any = self.transition.apply
        variables = {"params": params["transition"]}
        if codes is None:
            return None, apply(variables, position, area)
        return apply(variables, codes, position, area)

    def place(
        self, params: Params, code: Float[Array, "B K D"], start: Float[Array, "B K 2"], end: Float[Array, "B K 2"]
    ) -> Float[Array, "B K D"]:
        """The codes of slots, moved from their positions `start` to other ones."""
        placement: Any = self.placement.apply
        return placement({"params": params["placement"]}, code, start, end)


def rollout(
    model: MotionModel,
    params: Params,
    codes: Float[Array, "B K F D"],
    position: Float[Array, "B K F 2"],
    area: Float[Array, "B K F"],
    num_frames: int,
) -> tuple[Float[Array, "B K T D"] | None, Float[Array, "B K T 2"]]:
    """Predict the codes, if the model predicts these, and the positions in the next `num_frames` frames."""

    def step(carry, _):
        codes, position = carry
        code, new = model.move(params, codes, position, area)
        codes = None if code is None else _append(codes, code)
        return (codes, _append(position, new)), (code, new)

    _, found = lax.scan(step, (codes if model.predicts_codes else None, position), length=num_frames)
    return jax.tree.map(lambda a: jnp.moveaxis(a, 0, 2), found)


def _append(series: Float[Array, "B K F *rest"], new: Float[Array, "B K *rest"]) -> Float[Array, "B K F *rest"]:
    return jnp.concatenate([series[:, :, 1:], new[:, :, None]], axis=2)
