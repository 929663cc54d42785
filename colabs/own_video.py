# ---
# jupyter:
#   accelerator: GPU
#   colab:
#     gpuType: T4
#     provenance: []
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A video of your own
#
# This notebook trains a small model on the frames of your video, without labels. It then draws the objects it found
# over a held-out part of the video. Upload a file on Colab, or give a path. Without either, a video of bouncing balls
# is generated. Training takes 10 to 20 minutes on two otherwise idle CPU cores; a GPU is used if there is one.
#
# At this size, the model can learn a few large objects that move in front of a static background of another colour:
# marbles on a table rather than a street. See the checklist **Is my video suitable?** in `docs/training.md`. It lists
# the object sizes, contrasts and speeds that this model learned.

# %% [markdown]
# The next two cells install the package; they do nothing if it is already there. In a checkout, they install the
# checkout. Elsewhere, for example on Colab, pip installs `SOURCE`. The default is the package's name, which works once
# it is published. Until then:
#
# - set `SOURCE` to the address of your fork, `git+https://...`, or
# - put a wheel (`python -m build --wheel`) or a zip of the repository (`git archive -o stii_jax.zip HEAD`) into the
#   folder that this notebook runs in. If pip finds neither, Colab asks you to upload one.
#
# If an import fails afterwards, restart the session once and run all cells again.

# %%
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = "stii_jax"  # @param {type:"string"}


def install(source):
    extras = "[widgets,cuda12]" if shutil.which("nvidia-smi") else "[widgets]"
    package = [f"stii_jax{extras} @ {source}" if "://" in str(source) else f"{source}{extras}"]
    if isinstance(source, Path) and source.is_dir():
        package.insert(0, "-e")
    return subprocess.run([sys.executable, "-m", "pip", "install", "-q", *package]).returncode == 0


# %%
try:
    from stii_jax import __version__  # noqa: F401
except ImportError:
    here, on_colab = Path.cwd(), "google.colab" in sys.modules
    checkouts = [folder for folder in (here, *here.parents) if (folder / "stii_jax/__init__.py").exists()]
    sent = sorted([*here.glob("stii?jax*.whl"), *here.glob("stii?jax*.zip")], key=lambda file: file.stat().st_mtime)
    found = [*checkouts, *sent[::-1], SOURCE] if SOURCE == "stii_jax" else [SOURCE]
    if not (installed := install(found[0])) and on_colab:
        from google.colab import files

        installed = any(install(here / name) for name in files.upload())
    if not installed:
        raise SystemExit(
            f"pip cannot install {found[0]}: its message is above. Try another of the ways listed above"
        ) from None
    sys.path[:0] = map(str, {*checkouts} & {found[0]})

# %% [markdown]
# ## Storage
#
# Colab deletes its disk when the session ends. With `KEEP`, the run is written to your Google Drive instead. In a later
# session, run all cells with the same settings and the same video: training resumes from the last checkpoint. The last
# cell offers a download instead.

# %%
from stii_jax.visualization.notebook import download, run_folder

KEEP = False  # @param {type:"boolean"}
RUNS = run_folder("own_video", on_drive=KEEP)

# %% [markdown]
# ## The video
#
# - `UPLOAD` asks for a file, on Colab.
# - `VIDEO` is the path of a file, of a folder of images (one video), or of a folder of videos. Leave it empty to
#   generate a video.
# - `CROP` removes pixels on the left, top, right and bottom. Crop tightly, because objects should be large.
# - `SQUARE` keeps the central square of the rest. Otherwise, the rest is squeezed into a square.
# - `EVERY` is the frame stride. From one frame to the next, an object should move by less than its width.

# %%
UPLOAD = False  # @param {type:"boolean"}
VIDEO = ""  # @param {type:"string"}
CROP = (0, 0, 0, 0)  # @param {type:"raw"}
SQUARE = True  # @param {type:"boolean"}
EVERY = 1  # @param {type:"integer"}
if UPLOAD:
    from google.colab import files

    VIDEO = next(iter(files.upload()))
print(VIDEO or "no video given: one is made")

# %% [markdown]
# Settings for training. `SLOTS` is the number of objects plus one for the background. `SIGMA` is the assumed standard
# deviation of the pixel noise: 0.3 for strong colours, as in the quickstart, or 0.15 if objects differ little from the
# background.

# %%
import os

SLOTS = 3  # @param {type:"integer"}
SIGMA = 0.3  # @param {type:"number"}
SCENES, SCENE_FRAMES = 300, 48  # size of the generated video
SETTINGS = {"model.num_slots": SLOTS, "model.sigma": SIGMA, "train.eval_every": 500}
SETTINGS |= {"data.options.crop": CROP, "data.options.square": SQUARE, "data.options.frame_stride": EVERY}
if os.environ.get("STII_SMOKE") == "1":  # only checks that every cell runs: nothing is learned
    SCENES, SCENE_FRAMES = 20, 12
    SETTINGS |= {"train.num_steps": 6, "curriculum.stages": (), "train.log_every": 2, "train.eval_every": 4}
    SETTINGS |= {"data.options.num_frames": 12, "optim.warmup_steps": 2, "train.checkpoint_every": 6}
    SETTINGS |= {"model.num_refinements": 2, "eval.lengths": (6,), "eval.chunk_frames": 6}

# %% [markdown]
# Without a video of your own, this cell generates one: 300 consecutive scenes of two balls, each in new colours. From
# here on, it is treated like any other video.

# %%
from stii_jax.config import load_config
from stii_jax.data import open_dataset
from stii_jax.inference.outputs import VideoFile

if not VIDEO:
    VIDEO = "made.mp4"
    options = load_config("quickstart").data.options.to_dict() | {"num_train": SCENES}
    simulated = open_dataset("bouncing_balls", "mini", options)
    with VideoFile(Path(), fps=10, name=VIDEO) as file:
        for scene in next(simulated.eval_batches("train", SCENE_FRAMES, SCENES, SCENES))["video"]:
            for frame in scene:
                file.write(frame.repeat(4, axis=0).repeat(4, axis=1))

# %% [markdown]
# Training reads all videos in a folder. A single file is linked into its own folder. If there are several videos, some
# are held out for validation. Of a single video, the last tenth is held out.

# %%
from stii_jax.data.video_folder import find_recordings, split_recordings

FOLDER = Path(VIDEO).resolve()
if FOLDER.is_file():
    link = Path("runs", "videos", FOLDER.stem, FOLDER.name)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(FOLDER)
    FOLDER = link.parent.resolve()
split = split_recordings(find_recordings(FOLDER), validation_fraction=0.1)
print({name: [recording.name for recording in found] for name, found in split.items()})
frames_of = (split["validation"] or split["train"])[0].frames
HELD_OUT = frames_of[0].parent if len(frames_of) > 1 else frames_of[0]

# %% [markdown]
# ## What the model will see
#
# The first frame, with a box around the part that the model will see. Adjust `CROP` and `SQUARE` above until the box
# contains your objects and little else.

# %%
import numpy as np
from PIL import Image, ImageDraw

from stii_jax.data.video.view import View
from stii_jax.inference.recordings import Recording
from stii_jax.visualization.notebook import run, show, watch

recording = Recording(HELD_OUT, View(size=32, margins=CROP, square=SQUARE), EVERY)
whole = Image.fromarray(next(iter(recording)).pixels)
left, top, right, bottom = recording.box
edge = 1 + max(whole.size) // 200
ImageDraw.Draw(whole).rectangle((left, top, right - 1, bottom - 1), outline="orange", width=edge)
show(np.asarray(whole))

# %% [markdown]
# The same part over time, at the model's resolution of 32x32 pixels. You should be able to distinguish the objects in
# each picture, and see them move from one to the next.

# %%
import itertools

from stii_jax.analysis.traversal_pictures import draw_panels

frames = itertools.islice(Recording(HELD_OUT, View(size=32, margins=CROP, square=SQUARE), EVERY), 24)
shown = {f"t={n}": frame.view for n, frame in enumerate(frames) if n % 2 == 0}
rows = [dict(itertools.islice(shown.items(), start, start + 6)) for start in (0, 6)]
show(draw_panels(rows))

# %% [markdown]
# ## Training
#
# There are no labels to score against, so watch the animation of a held-out clip. In time, "segmentation" should
# follow the objects, one slot each, and "reconstruction" should look like "frame". The loss jumps when clips become
# longer, because it is a sum over frames. You can stop the cell at any time and run it again to resume. **When to
# stop** in `docs/training.md` shows examples of learning, success and failure.

# %%
import zlib

SETTINGS |= {"data.options.folder": FOLDER}
RUN = RUNS / f"{FOLDER.name}-{zlib.crc32(repr(SETTINGS).encode()):08x}"  # other settings start another run
command = [sys.executable, "-m", "stii_jax.main", "--config", "video_folder:small", "--workdir", str(RUN)]
watch([*command, *(f"--config.{key}={value}" for key, value in SETTINGS.items())], RUN)

# %% [markdown]
# ## Overlay
#
# The trained model decomposes the last frames of the held-out video and predicts the five frames after them. To
# decompose a whole video, pass its path to `--input`. It is cropped in the same way.

# %%
import collections

CLIP, FOUND = RUNS / "clip", RUNS / "found"
shutil.rmtree(CLIP, ignore_errors=True)
CLIP.mkdir()
last = collections.deque((frame.pixels for frame in Recording(HELD_OUT, View(size=32))), maxlen=16 * EVERY)
for number, frame in enumerate(last):
    Image.fromarray(frame).save(CLIP / f"{number:06}.png")
main = [sys.executable, "-m", "stii_jax.main", "--workdir", RUN]
run(*main, "--mode", "decompose", "--input", CLIP, "--output", FOUND, "--predict", 5, "--overwrite")

# %% [markdown]
# Every object has an outline, a number and its recent path. An object should keep its colour to the end. Frames with an
# orange edge are predicted.

# %%
from IPython.display import Video, display

display(Video(FOUND / "overlay.mp4", embed=True))

# %% [markdown]
# Three stills of the model's output. "overlay" shows the colours of the slots over the frame; grey is the background.
# The last still is predicted.

# %%
from stii_jax.data.video.videofile import read_frames

frames = list(read_frames(FOUND / "slots.mp4"))
show(*(frames[number] for number in (5, len(frames) // 2, -1)))

# %% [markdown]
# ## Trajectories
#
# The path of each object, in pixels of your video, starting at the dot. Lines should be as smooth as the motion. A jump
# means that a slot switched to another object. `trajectories.csv` has the positions, `masks.npz` the slot of every
# pixel. In Python they are `found.tracks` and `found.masks`.

# %%
from matplotlib import pyplot

import stii_jax

model = stii_jax.load_model(RUN)
found = model.decompose(CLIP)
for slot in set(range(model.num_slots)) - {found.background}:
    x, y = found.tracks.centroids[:, slot].T
    pyplot.plot(x, y, label=f"slot {slot}", marker="o", markevery=[0])
pyplot.gca().set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
pyplot.legend()
pyplot.show()

# %% [markdown]
# ## Download
#
# `DOWNLOAD` sends the run and its results to your computer as one file. To resume it in another session, upload the
# file and run `shutil.unpack_archive("own_video.zip", RUNS)` before the training cell.

# %%
DOWNLOAD = False  # @param {type:"boolean"}
if DOWNLOAD:
    download(RUNS)
