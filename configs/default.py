"""All settings and their defaults: mostly the paper's values, on bouncing balls in colour.

Other configs start from this one and change some of its settings:

    python -m stii_jax.main --config default --workdir runs/default --config.model.num_refinements=4

`default` follows the paper with three exceptions. Other values of `detach_refiner_inputs` and `posterior_start` proved
better, and `schedule` adds a refinement to the first frames. Configs of the paper's experiments set `schedule="paper"`.
Where the paper and the program behind its published numbers disagree, `default:provide` follows the program.
docs/fidelity.md lists the differences.
"""

from ml_collections import ConfigDict

from stii_jax.config import check_argument


def get_config(preset: str = "paper") -> ConfigDict:
    """Return the default config of a `preset`: "paper" or "provide"."""
    check_argument("default", preset, ("paper", "provide"))
    config = ConfigDict()
    config.seed = 0
    config.system = "stii"  # or "iodine", which infers every frame by itself; or "rnem" or "ddpae", see below
    config.batch_size = 32  # videos per step, over all devices

    config.data = ConfigDict()
    config.data.dataset = "bouncing_balls"
    config.data.variant = "color4"
    config.data.options = ConfigDict()  # changes to the variant, e.g. dict(image_size=32); see stii_jax/data
    config.data.data_dir = ""  # "" is $STII_DATA_DIR, or ~/.cache/stii_jax
    config.data.manual_dir = ""  # manually downloaded files; "" is manual/DATASET in the data directory
    config.data.num_frames = 4  # frames per training clip
    config.data.recolor = False  # augmentation: swap and invert the colour channels of training clips at random
    config.data.num_threads = 4  # reader threads

    config.model = ConfigDict()
    config.model.architecture = "paper"  # or "pyramid": encoder and decoder at half and a quarter of the resolution
    config.model.num_slots = 5
    config.model.num_refinements = 6
    config.model.latent_dim = 64
    config.model.hidden_dim = 128
    config.model.decoder_channels = 64
    config.model.refiner_channels = 64
    config.model.feature_dim = 128
    config.model.prior_dim = 128
    config.model.schedule = "triangular"  # or "paper", with one refinement fewer, or "constant" (the paper's Base)
    config.model.cell = "md"  # or "stable"
    config.model.posterior_start = "prior"  # or "learned", as in the paper, or "previous"
    # or "clip": one draw per clip for the first decodes of all frames; or "mean": no noise there after frame 0
    config.model.first_noise = "fresh"
    config.model.conditional_prior = True
    config.model.conditional_decoder = True
    config.model.leave_one_out = True
    config.model.leave_one_out_masks = "as_is"  # or "renormalized" without the slot, as in DeepMind's IODINE
    config.model.posterior_input = "mixture"  # p(m_k|x) including the masks, or "likelihood" without them
    config.model.likelihood = "joint"  # or "channelwise": unnormalised, one mixture per channel
    config.model.sigma = 0.3  # pixel standard deviation
    config.model.temperature = 1.0  # of the mixture: above 1, pixels are assigned to slots more softly
    config.model.prior_scale = "log_scale"  # or "softplus_log_variance"
    config.model.detach_refiner_inputs = True
    config.model.remat = True
    config.model.compute_dtype = "float32"  # or "bfloat16", for convolutions
    config.model.predictor = "prior"  # or "motion", set by --mode learn_motion

    config.rnem = ConfigDict()  # system "rnem", instead of `model` and `loss`; see stii_jax/models/baselines/rnem.py
    config.rnem.num_slots = 5
    config.rnem.hidden_dim = 250
    config.rnem.encoder_channels = (16, 32, 64)
    config.rnem.feature_dim = 512
    config.rnem.attention_dim = 100
    config.rnem.noise = 0.2  # share of pixels flipped in training
    config.rnem.evaluation_noise = 0.2  # share of pixels flipped in evaluation, as in the authors' program
    config.rnem.kl_weight = 1.0
    config.rnem.rollout = "expected"  # or "binary": predicted frames are rounded before they are fed back

    config.ddpae = ConfigDict()  # system "ddpae", instead of `model` and `loss`; see stii_jax/models/ddpae
    config.ddpae.num_slots = 5  # the black background and the components
    config.ddpae.hidden_dim = 128
    config.ddpae.feature_dim = 256
    config.ddpae.content_dim = 128
    config.ddpae.object_size = 0  # side of a component's image in pixels; 0 is half the frame's height
    config.ddpae.encoder_channels = 8
    config.ddpae.scale_prior = 4.0  # expected ratio of the frame's size to a component's
    config.ddpae.scale_range = 1.0
    config.ddpae.increment_scale = 0.1
    config.ddpae.initial_scales = (0.2, 0.2, 0.2)
    config.ddpae.content_scale = 0.3
    config.ddpae.sigma = 0.3
    config.ddpae.observed_fraction = 0.5  # of a training clip; the remaining frames are predicted

    config.loss = ConfigDict()
    config.loss.log_likelihood = 100.0  # beta
    config.loss.kl = 10.0  # psi
    config.loss.mask_entropy = 0.0  # gamma: favours crisp masks; 0.1 on binary frames
    config.loss.refinement_weights = "frame"  # r / n_t, or "budget": r / R
    config.loss.observed_fraction = 1.0  # of a training clip; the loss includes the remaining, predicted frames

    config.optim = ConfigDict()
    config.optim.name = "adam"  # or "sgd"
    config.optim.learning_rate = 3e-4
    config.optim.warmup_steps = 0
    config.optim.decay = "constant"  # or "cosine": to zero at the last step
    config.optim.clip_norm = 5.0

    config.train = ConfigDict()
    config.train.num_steps = 100_000  # in the first stage, with data.num_frames and batch_size
    config.train.log_every = 50
    config.train.eval_every = 2_500
    config.train.checkpoint_every = 1_000
    config.train.parallel = "pmap"  # or "shard_map"
    # Number of sequential pieces of a device's share of a batch: the same gradients in less memory.
    config.train.accumulation = 1

    config.curriculum = ConfigDict()
    config.curriculum.first = ()  # overrides for the first stage, e.g. ("model.temperature=3",)
    config.curriculum.stages = ()  # later stages: (num_frames, batch_size, num_steps, *overrides), ...
    config.curriculum.patience = 0  # steps without improvement that end a stage early; 0: never
    config.curriculum.held_out_patience = 0  # the same for the squared error on held-out videos
    config.curriculum.min_improvement = 0.005  # relative, of the smoothed loss and of the squared error
    config.curriculum.collapse_kl = 0.05  # nats per slot and frame, below which the posterior counts as collapsed
    config.curriculum.collapse_patience = 2_000  # collapsed steps before training stops; 0: never

    config.eval = ConfigDict()
    config.eval.variant = ""  # "" is data.variant; or another one, e.g. color678_4colors
    config.eval.options = ConfigDict()  # changes to the variant, in addition to `data.options`
    config.eval.system = (
        ""  # "" is config.system; "seq_iodine" feeds a trained IODINE the next frame at each refinement
    )
    config.eval.clamp = (
        0.0  # for seq_iodine: bound on the posterior's gradients and steps, 10 on binary balls; 0 is none
    )
    config.eval.split = "test"  # for the final evaluation; the periodic one uses "validation"
    config.eval.num_slots = 0  # 0 is model.num_slots
    config.eval.num_refinements = 0  # 0 is model.num_refinements; with more, fewer objects are missed
    config.eval.restarts = 1  # tries of the first frame; the one with the highest ELBO is kept
    config.eval.reseeds = 0  # additional tries of every later frame, each with one slot reset
    config.eval.reseed_every = 1  # only every N-th frame has these additional tries
    config.eval.slot_cost = 0.0  # nats of log-likelihood that a slot must gain to be used; 0 uses all slots
    config.eval.schedule = ""  # "" is model.schedule; "constant" refines late frames more than training did
    config.eval.first_noise = ""  # "" is model.first_noise
    config.eval.segmentation = "masks"  # or "responsibilities": sharper at edges, because they use the pixel's colour
    config.eval.num_videos = 1_000
    config.eval.periodic_videos = 64
    config.eval.batch_size = 16
    config.eval.lengths = (10, 20, 30, 40)
    config.eval.chunk_frames = 10  # longer videos are processed in chunks with carried state
    config.eval.observed_frames = 20  # frames observed before the model predicts
    config.eval.predict_frames = 10
    config.eval.predictor = ""  # "" is model.predictor; or "prior"; or, with a motion model, "velocity" (constant)
    config.eval.background = ""  # of recordings to decompose, unless --background is given; "" is as in training
    config.eval.futures = 0  # possible futures to sample and score in --mode predict
    config.eval.num_pictures = 4

    config.motion = ConfigDict()  # for --mode learn_motion
    config.motion.interaction = "relational"  # or "attention", or "none"; or "slotformer", a transformer over codes
    config.motion.width = 128  # of the layers
    config.motion.num_videos = 1_000  # training videos, decomposed to find tracks
    config.motion.num_frames = 40  # frames per video
    config.motion.num_steps = 6_000
    config.motion.batch_size = 64
    config.motion.learning_rate = 2e-3  # decays to zero along a cosine
    config.motion.horizon = 10  # predicted frames in the loss
    config.motion.symmetries = True  # False if directions differ, as under gravity, or time cannot be reversed

    config.probe = ConfigDict()  # for --mode disentangle, on videos of `eval.split`
    config.probe.num_videos = 200
    config.probe.num_frames = 10  # frames that the model observes; its codes at the last one are probed
    config.probe.num_dims = 8  # number of latents to traverse, chosen by highest KL
    config.probe.reach = 2.0  # range of traversals, in standard deviations over objects

    if preset == "provide":
        config.model.update(
            schedule="provide",
            cell="stable",
            posterior_start="learned",
            first_noise="clip",
            leave_one_out=False,
            posterior_input="likelihood",
            likelihood="channelwise",
            prior_scale="softplus_log_variance",
            detach_refiner_inputs=False,
        )
        config.loss.refinement_weights = "budget"
    return config
