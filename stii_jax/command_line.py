"""Command-line flags and the `--help` text.

They need neither JAX nor the libraries on top of it, which take seconds to import.
"""

import textwrap
from typing import Any, NamedTuple

from absl import flags

from stii_jax import pretrained
from stii_jax.config import config_names
from stii_jax.data.video.view import BACKGROUNDS


class Mode(NamedTuple):
    """A value of `--mode`."""

    help: str
    doing: str
    """The verb in the program's first line of output."""


MODES = {
    "train": Mode("trains to the end, resuming from the last checkpoint if there is one, and evaluates", "training"),
    "fine_tune": Mode("trains a model further on one recording, without labels, and evaluates it", "fine-tuning on"),
    "evaluate": Mode("scores held-out videos and draws some of them", "evaluating"),
    "predict": Mode("predicts later frames of held-out videos, scores and draws them", "predicting with"),
    "disentangle": Mode("measures and draws how a slot's latents encode its object", "probing"),
    "decompose": Mode("decomposes a video file into masks, trajectories and an animation", "decomposing"),
    "learn_motion": Mode(
        "learns from a trained model's tracks how objects move, for its predictions", "learning motion from"
    ),
    "export": Mode("writes the trained model and its scores to one small file", "exporting"),
    "doctor": Mode("checks this machine and lists missing features", "checking this machine"),
}

MODE = flags.DEFINE_enum("mode", "train", list(MODES), "What to do.")
CONFIG = flags.DEFINE_string(
    "config",
    None,
    "The experiment to train: one of the names below, some with an argument (balls:color), or the path of a .py or "
    ".json file. A .py file is executed as code. Not needed if --workdir already holds a run.",
)
WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run: checkpoints, logs, pictures and scores.")
MODEL = flags.DEFINE_string(
    "model",
    None,
    "A trained model, instead of the run in --workdir: one of the names below, or a .safetensors file that --mode "
    "export wrote. With fine_tune, training starts from it, in --workdir. With evaluate, predict and disentangle, "
    "results are written to --workdir; with export, they are read from there; with learn_motion, tracks are kept "
    "there.",
)
INIT = flags.DEFINE_string(
    "init",
    None,
    "With train: a trained model to start from. One of the names below, a .safetensors file, or the folder of a run, "
    "whose newest checkpoint is used. Parameters that do not fit the config are listed and freshly initialised. "
    "Ignored if --workdir has a checkpoint.",
)
INPUT = flags.DEFINE_string(
    "input",
    None,
    "With decompose and fine_tune: the video file, or folder of images. With evaluate and --tracks: the same, or the "
    "folder of a decomposition, which needs no model.",
)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "With decompose: the folder of the results. With export and learn_motion: the .safetensors file to write.",
)
PREDICT = flags.DEFINE_integer("predict", None, "With decompose: number of frames to predict after the last one.")
FUTURES = flags.DEFINE_integer(
    "futures",
    None,
    "With decompose and --predict: also samples this number of possible futures, to futures.csv and futures.png.",
)
FORMATS = flags.DEFINE_list(
    "formats",
    None,
    "With decompose: further output formats, separated by commas: coco (instances with masks), mot (MOTChallenge), "
    "tiff (labels for ImageJ and napari), movement (bounding-box tracks).",
)
CLIPS = flags.DEFINE_bool("object_clips", False, "With decompose: also writes a small video of every object.")
OVERWRITE = flags.DEFINE_bool(
    "overwrite", False, "With decompose: replaces the files that an earlier decomposition wrote to --output."
)
RANGE = flags.DEFINE_list(
    "value_range",
    None,
    "LOW,HIGH: the pixel values to map to black and to white. By default, 8-bit videos are left unchanged, and "
    "deeper ones are stretched from their lowest to their highest value.",
)
REGION = flags.DEFINE_list(
    "region",
    None,
    "X,Y,WIDTH,HEIGHT: the part of the frame the model sees, in pixels. Default: the region used in training, or "
    "else the central square.",
)
STRIDE = flags.DEFINE_integer("frame_stride", None, "N: the model sees every N-th frame.")
BACKGROUND = flags.DEFINE_enum(
    "background",
    None,
    ("auto", *BACKGROUNDS),
    "auto: the program chooses one of the following, by the whole recording. "
    "median: for a static camera; the model sees the difference from the recording's per-pixel median, on black. "
    "bright: for dark objects on a bright background; the model sees the negative. "
    "keep: the model sees the frames unchanged.",
)
TILE = flags.DEFINE_integer(
    "tile",
    None,
    "For objects that are small in the frame: see overlapping square tiles of this side, in pixels. Choose four to ten "
    "times the size of an object. Objects keep their numbers across tiles. With fine_tune: train on such tiles.",
)
SEPARATE = flags.DEFINE_bool(
    "separate",
    None,
    "Objects of one slot are separated, and object numbers replace slots. This is the default with --tile "
    "and with --background=median; --noseparate keeps the slots.",
)
TRACKS = flags.DEFINE_string(
    "tracks",
    None,
    "With evaluate: a CSV file of true point tracks for the recording --input. Its decomposition is scored against "
    "them.",
)
TRACK_OPTIONS = flags.DEFINE_list(
    "track_options",
    None,
    "With --tracks: column names and distances as key=value, separated by commas. Keys: frame, object, x, y, point, "
    "centre, first_frame, body_length, match and reach (docs/metrics.md).",
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Reads the next three flags from the cluster: Slurm, a TPU pod, Kubernetes or MPI."
)
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "The host:port of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "The number of processes.")
PROCESS_ID = flags.DEFINE_integer("process_id", None, "The index of this process, from 0.")

GROUPS = {
    "What to do": (MODE,),
    "Which run or model": (CONFIG, WORKDIR, MODEL, INIT),
    "Decomposing a video, exporting a model": (INPUT, OUTPUT, PREDICT, FUTURES, FORMATS, CLIPS, OVERWRITE),
    "Reading the video": (BACKGROUND, REGION, TILE, SEPARATE, STRIDE, RANGE),
    "Scoring a video against point tracks": (TRACKS, TRACK_OPTIONS),
    "Training with several processes (see launch/)": (DISTRIBUTED, COORDINATOR, NUM_PROCESSES, PROCESS_ID),
}
"""The flags in the order of `--help`."""


def viewing_flags() -> dict[str, Any]:
    """The values of the flags of `stii_jax.inference.viewing`, by name."""
    return {flag.name: flag.value for flag in GROUPS["Reading the video"]}


def usage(introduction: str) -> str:
    """The text that `--help` prints."""
    parts = [introduction.strip()]
    for title, group in GROUPS.items():
        lines = [f"{title}:", ""]
        for flag in group:
            # absl puts an enum's choices before its help.
            lines += [f"  --{flag.name}", *(_modes() if flag is MODE else _wrapped(flags.FLAGS[flag.name].help or ""))]
        parts.append("\n".join(lines))
    named = {"Configs": config_names(), "Trained models": pretrained.names()}
    parts.append("\n".join(f"{title}: {', '.join(names)}" for title, names in named.items()))
    return "\n\n".join(parts)


def _modes() -> list[str]:
    return [f"      {name:13}{mode.help}{' (the default)' * (name == MODE.default)}" for name, mode in MODES.items()]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=" " * 6, subsequent_indent=" " * 6)
