"""A second, plain implementation of the model of docs/method.md, written from the equations, for float64.

It uses Python loops over frames and refinements. It has no scan, no gradient rule and no Flax, and shares only the
parameters' names with `stii_jax`. Call it inside `jax.enable_x64(True)`, with parameters and inputs from `in_float64`.
`settings` are those of `STII`.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax


def in_float64(tree):
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def convolution(p, x):
    """A 3x3 convolution with zero padding; any leading axes."""
    flat = x.reshape(-1, *x.shape[-3:])
    y = lax.conv_general_dilated(flat, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(*x.shape[:-1], -1) + p["bias"]


def grid(height, width):
    rows = [[[-1 + 2 * i / (height - 1), -1 + 2 * j / (width - 1)] for j in range(width)] for i in range(height)]
    return jnp.array(rows)


def layer_norm(x, axes):
    centred = x - x.mean(axes, keepdims=True)
    deviation = jnp.sqrt((centred**2).mean(axes, keepdims=True))
    return jnp.where(deviation > 0, centred / jnp.where(deviation > 0, deviation, 1.0), 0.0)


def averages(x, size):
    """Means of blocks of pixels; any leading axes."""
    rows = [x[..., i::size, :, :] for i in range(size)]
    return sum(row[..., j::size, :] for row in rows for j in range(size)) / size**2


def decode(params, z, h, image_shape, settings):
    p = params["decoder"]
    x = jnp.concatenate([z, h], -1) if settings["conditional_decoder"] else z
    x = jax.nn.elu(dense(p["Dense_0"], x))
    x = jax.nn.elu(dense(p["Dense_1"], x))
    pyramid = settings["architecture"] == "pyramid"
    height, width = (size // 4 if pyramid else size for size in image_shape)
    x = jnp.broadcast_to(x[:, :, None, None], (*x.shape[:2], height, width, x.shape[-1]))
    places = jnp.broadcast_to(grid(height, width), (*x.shape[:-1], 2))
    x = jax.nn.elu(convolution(p["BroadcastConv3x3_0"], jnp.concatenate([x, places], -1)))
    if pyramid:
        x = jax.nn.elu(convolution(p["Conv3x3_0"], x))
        x = jax.nn.elu(convolution(p["Conv3x3_1"], jnp.repeat(jnp.repeat(x, 2, 2), 2, 3)))
        x = convolution(p["Conv3x3_2"], x)
        fine = jnp.zeros((*x.shape[:2], *image_shape, x.shape[-1] // 4), x.dtype)
        for n, part in enumerate(jnp.split(x, 4, -1)):
            fine = fine.at[:, :, n // 2 :: 2, n % 2 :: 2].set(part)
        framed = jnp.pad(fine, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        weights = jnp.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
        fine = sum(
            weights[i, j] * framed[:, :, i : i + image_shape[0], j : j + image_shape[1]]
            for i in range(3)
            for j in range(3)
        )
        return jax.nn.sigmoid(fine[..., :-1]), fine[..., -1]
    for i in range(3):
        x = jax.nn.elu(convolution(p[f"Conv3x3_{i}"], x))
    x = convolution(p["Conv3x3_3"], x)
    return jax.nn.sigmoid(x[..., :-1]), x[..., -1]


def prior_of(params, h, settings):
    if not settings["conditional_prior"]:
        zero = jnp.zeros((*h.shape[:2], settings["latent_dim"]))
        return zero, zero
    p = params["prior"]
    mean, log_scale = jnp.split(dense(p["Dense_1"], jax.nn.elu(dense(p["Dense_0"], h))), 2, -1)
    if settings["prior_scale"] == "softplus_log_variance":
        log_scale = jnp.log1p(jnp.exp(log_scale)) / 2
    return mean, log_scale


def gaussian(x, mean, settings):
    """Log-likelihood of every channel of every slot."""
    if settings["likelihood"] == "channelwise":
        return -((x - mean) ** 2) / (2 * settings["sigma"])
    return jnp.log(jnp.exp(-((x - mean) ** 2) / (2 * settings["sigma"] ** 2)) / settings["sigma"] / (2 * jnp.pi) ** 0.5)


def mixture(frame, means, masks, settings):
    """Likelihood of every slot `B K H W`, to the power 1 / temperature, and the mixture's log-likelihood `B H W`."""
    tau = settings["temperature"]
    channels = jnp.exp(gaussian(frame[:, None], means, settings)) ** (1 / tau)
    slots = channels.prod(-1)
    if settings["likelihood"] == "channelwise":
        return slots, tau * jnp.log((masks[..., None] * channels).sum(1)).sum(-1)
    return slots, tau * jnp.log((masks * slots).sum(1))


def elbo_terms(params, lam, means, masks, h, frame, settings):
    """The three terms of a video's ELBO, each `B`."""
    mean, log_scale = jnp.split(lam, 2, -1)
    prior_mean, prior_log_scale = prior_of(params, h, settings)
    var, prior_var = jnp.exp(2 * log_scale), jnp.exp(2 * prior_log_scale)
    kl = 0.5 * (jnp.log(prior_var / var) + (var + (mean - prior_mean) ** 2) / prior_var - 1)
    return {
        "log_likelihood": mixture(frame, means, masks, settings)[1].sum((1, 2)),
        "kl": kl.sum((1, 2)),
        "mask_entropy": -(masks * jnp.log(masks)).sum((1, 2, 3)),
    }


def elbo(params, lam, h, frame, noise, settings, mean_shift=0.0, mask_shift=0.0):
    """The ELBO summed over the batch, the decode and the terms. The shifts allow gradients by means and masks."""
    mean, log_scale = jnp.split(lam, 2, -1)
    means, logits = decode(params, mean + jnp.exp(log_scale) * noise, h, frame.shape[1:3], settings)
    masks = jax.nn.softmax(logits, 1)
    terms = elbo_terms(params, lam, means + mean_shift, masks + mask_shift, h, frame, settings)
    weights = settings["weights"]
    total = weights["log_likelihood"] * terms["log_likelihood"].sum() - weights["kl"] * terms["kl"].sum()
    return total - weights["mask_entropy"] * terms["mask_entropy"].sum(), (means, logits, terms)


def inner_gradients(params, lam, h, frame, noise, settings):
    """Gradients by `lam`, means and masks, with stopped gradients."""
    params, lam, h = lax.stop_gradient((params, lam, h))
    image = (*lam.shape[:2], *frame.shape[1:3])

    def objective(lam, mean_shift, mask_shift):
        return elbo(params, lam, h, frame, noise, settings, mean_shift, mask_shift)[0]

    return jax.grad(objective, (0, 1, 2))(lam, jnp.zeros((*image, frame.shape[-1])), jnp.zeros(image))


def lstm(p, x, temporal, refinement, form):
    """(h, c) of the 2D-LSTM."""
    i, g, o, first, second = jnp.split(dense(p, jnp.concatenate([x, temporal[0], refinement[0]], -1)), 5, -1)
    if form == "md":
        kept = jax.nn.sigmoid(first) * temporal[1] + jax.nn.sigmoid(second) * refinement[1]
    else:
        blend = jax.nn.sigmoid(second)
        kept = jax.nn.sigmoid(first) * (blend * temporal[1] + (1 - blend) * refinement[1])
    c = jax.nn.sigmoid(i) * jnp.tanh(g) + kept
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def refine(params, frame, means, logits, gradients, lam, temporal, refinement, settings):
    """Steps 6 to 9: the next `lam` and refinement state."""
    p = params["refiner"]
    by_lam, by_means, by_masks = gradients
    masks = jax.nn.softmax(logits, 1)
    slots, pixels = mixture(frame, means, masks, settings)
    weighted = masks * slots
    shares = slots if settings["posterior_input"] == "likelihood" else weighted
    images = [
        means,
        masks[..., None],
        logits[..., None],
        layer_norm(by_means, (2, 3, 4)),
        layer_norm(by_masks, (2, 3))[..., None],
        (shares / shares.sum(1, keepdims=True))[..., None],
    ]
    if settings["leave_one_out"]:
        others = jnp.stack([jnp.delete(weighted, k, 1).sum(1) for k in range(weighted.shape[1])], 1)
        if settings["leave_one_out_masks"] == "renormalized":
            others /= 1 - masks
        images.append(lax.stop_gradient(layer_norm(jnp.log(others), (2, 3)))[..., None])
    shared = [frame, lax.stop_gradient(layer_norm(pixels, (1, 2)))[..., None]]
    shared.append(jnp.broadcast_to(grid(*frame.shape[1:3]), (*frame.shape[:3], 2)))
    shared_channels = sum(image.shape[-1] for image in shared)
    images += [jnp.repeat(image[:, None], masks.shape[1], 1) for image in shared]
    x = jnp.concatenate(images, -1)
    encoder = p["Encoder_0"]
    if settings["architecture"] == "pyramid":
        # The channels of each pixel of a block in turn; inputs shared by all slots follow those of single slots.
        own = x.shape[-1] - shared_channels
        parts = [x[:, :, i::2, j::2] for i in range(2) for j in range(2)]
        x = jnp.concatenate([part[..., :own] for part in parts] + [part[..., own:] for part in parts], -1)
        x = averages(jax.nn.elu(convolution(encoder["SharedConv3x3_0"], x)), 2)
        for name in ("Conv3x3_0", "Conv3x3_1"):
            x = jax.nn.elu(convolution(encoder[name], x))
        *batch, height, width, channels = x.shape
        x = jnp.repeat(jnp.repeat(x, 8, 2), 8, 3).reshape(*batch, 8, height, 8, width, channels).mean((3, 5))
    else:
        for name in ("SharedConv3x3_0", "Conv3x3_0", "Conv3x3_1", "Conv3x3_2"):
            x = jax.nn.elu(convolution(encoder[name], x))
        x = averages(x, 4)
    features = jax.nn.elu(dense(encoder["Dense_0"], x.reshape(*x.shape[:2], -1)))
    x = jnp.concatenate([features, lam, layer_norm(by_lam, -1)], -1)
    state = lstm(p["LSTM2D_0"]["Dense_0"], x, temporal, refinement, settings["cell"])
    return lam + dense(p["Dense_0"], state[0]), state


def refinements_of(t, settings):
    """Number of decodes of frame t, without the last one."""
    budget = settings["num_refinements"]
    counts = {"triangular": max(budget - t, 1), "constant": budget, "provide": max(budget - t, 2) - 1}
    counts["paper"] = max(budget - (t + 1), 1)  # Eq. 3 counts t from 1
    return counts[settings["schedule"]]


def predict(params, temporal, num_frames, settings):
    """Means and masks of every predicted frame. Nothing from a frame enters, and the gradient images are zero."""
    frames = []
    for _ in range(num_frames):
        lam = jnp.concatenate(prior_of(params, temporal[0], settings), -1)
        mean = jnp.split(lam, 2, -1)[0]
        means, logits = decode(params, mean, temporal[0], (settings["height"], settings["width"]), settings)
        masks = jax.nn.softmax(logits, 1)
        frames.append((means, masks))
        frame = (means * masks[..., None]).sum(1)
        nothing = (jnp.zeros_like(lam), jnp.zeros_like(means), jnp.zeros_like(masks))
        start = (jnp.zeros_like(temporal[0]),) * 2
        _, temporal = refine(params, frame, means, logits, nothing, lam, temporal, start, settings)
    return frames


def unroll(params, video, noise, settings, attached=0.0):
    """Return the loss, one list of ELBOs per frame, the last decode of every frame, and the temporal state.

    `noise(t, r)` is the noise of decode r of frame t, `B K Z`. With `attached` 1, means and masks carry gradients into
    the refiner; with 0 they do not.
    """
    parts = elbo, inner_gradients, refine
    elbo_of, gradients_of, refined = (jax.jit(functools.partial(part, settings=settings)) for part in parts)
    budget = settings["num_refinements"]
    temporal = (jnp.zeros((*noise(0, 0).shape[:2], settings["hidden_dim"])),) * 2
    lam = None
    loss, elbos, decomposition = 0.0, [], []
    for t in range(video.shape[1]):
        frame, h, decodes = video[:, t], temporal[0], refinements_of(t, settings) + 1
        if settings["posterior_start"] == "prior":
            lam = jnp.concatenate(prior_of(params, h, settings), -1)
        elif settings["posterior_start"] == "learned" or t == 0:
            lam = jnp.broadcast_to(params["initial_posterior"], (*h.shape[:2], 2 * settings["latent_dim"]))
        refinement = (jnp.zeros_like(temporal[0]),) * 2
        elbos.append([])
        for r in range(decodes):
            eps = noise(t, r)
            if r == 0 and settings["first_noise"] == "clip":
                eps = noise("clip", 0)
            if r == 0 and t > 0 and settings["first_noise"] == "mean":
                eps = jnp.zeros_like(eps)
            if (t, r) != (0, 0) and settings["first_noise"] == "once":
                eps = jnp.zeros_like(eps)
            value, (means, logits, terms) = elbo_of(params, lam, h, frame, eps)
            elbos[-1].append(value)
            loss -= value * (r + 1) / (decodes if settings["refinement_weights"] == "frame" else budget)
            if r == decodes - 1:
                decomposition.append((means, jax.nn.softmax(logits, 1), lam, terms))
                break
            gradients = gradients_of(params, lam, h, frame, eps)
            fixed = lax.stop_gradient((means, logits))
            means, logits = (a + attached * (b - a) for a, b in zip(fixed, (means, logits)))
            lam, refinement = refined(params, frame, means, logits, gradients, lam, temporal, refinement)
        temporal = refinement
    return loss, elbos, decomposition, temporal
