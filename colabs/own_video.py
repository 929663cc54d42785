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
# Trains a small model on one video, from its frames alone, and lays what it found over a part that it has not seen:
# upload a file on Colab, give the path of one, or give nothing, and a video of bouncing balls is made here. Training
# takes about as long as the quickstart, some 10 to 20 minutes on two CPU cores; a GPU is used where there is one.
#
# What it can learn at this size are a few things that move before a plain background and differ from it in colour:
# marbles on a table rather than a street. The video made here has 300 scenes, each in colours of its own, and after 800
# steps each ball had a slot. Videos with few scenes, or in which a colour always stands for the same thing, are harder:
# `docs/quickstart.md` tells what made learning easy.

# %% [markdown]
# First, the package. If it is already installed, the next two cells do nothing. In a checkout, they install the
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
            f"pip cannot install {found[0]}: its message is above. Try another way of those listed"
        ) from None
    sys.path[:0] = map(str, {*checkouts} & {found[0]})

# %% [markdown]
# Settings. `SLOTS` is the number of objects, and one for the background. `EVERY` takes every so many frames: things
# should move by a part of their size from one frame to the next, not by more. `SIGMA` is the noise that a pixel is
# expected to have: 0.3 as in the quickstart for strong colours, 0.15 where objects differ little from the background.

# %%
import os

UPLOAD = False  # @param {type:"boolean"}
VIDEO = ""  # @param {type:"string"}
SLOTS = 3  # @param {type:"integer"}
EVERY = 1  # @param {type:"integer"}
SIGMA = 0.3  # @param {type:"number"}
CLIP, SCENES = 48, 300  # frames of a clip; clips of the video that is made where there is none
WORK, SETTINGS = Path("runs/own_video"), {"model.num_slots": SLOTS, "model.sigma": SIGMA, "train.eval_every": 500}
if os.environ.get("STII_SMOKE") == "1":  # only to see that every cell runs: nothing is learned
    CLIP, SCENES = 12, 20
    SETTINGS |= {"train.num_steps": 6, "curriculum.stages": (), "train.log_every": 2, "train.eval_every": 4}
    SETTINGS |= {"data.options.num_frames": 12, "optim.warmup_steps": 2, "train.checkpoint_every": 6}
    SETTINGS |= {"model.num_refinements": 2, "eval.lengths": (6,), "eval.chunk_frames": 6}

# %% [markdown]
# ## The video
#
# With `UPLOAD`, on Colab, a button asks for the file.

# %%
if UPLOAD:
    from google.colab import files

    VIDEO = next(iter(files.upload()))
print(VIDEO or "no video given: one is made")

# %% [markdown]
# Without a file, this makes one: scenes of two balls, one after the other, with new colours in each. As an `.mp4` it is
# then treated as any other video.

# %%
from stii_jax.config import load_config
from stii_jax.data import open_dataset
from stii_jax.exports import VideoFile

if not VIDEO:
    VIDEO = "made.mp4"
    options = load_config("quickstart").data.options.to_dict() | {"num_train": SCENES}
    simulated = open_dataset("bouncing_balls", "mini", options)
    with VideoFile(Path(), fps=10, name=VIDEO) as file:
        for scene in next(simulated.eval_batches("train", CLIP, SCENES, SCENES))["video"]:
            for frame in scene:
                file.write(frame.repeat(4, axis=0).repeat(4, axis=1))

# %% [markdown]
# It is cut into clips, which are folders of images: the middle square of every frame, at the 32x32 pixels that the
# model sees. Each tenth clip is kept for validation.

# %%
from PIL import Image

from stii_jax.data.view import View
from stii_jax.recordings import Recording

CLIPS, unfinished = WORK / f"{Path(VIDEO).stem}-{EVERY}-{CLIP}", WORK / "unfinished"
if not CLIPS.exists():  # once cut, they stay as they are: what is trained on is built of them
    shutil.rmtree(unfinished, ignore_errors=True)
    for number, frame in enumerate(Recording(Path(VIDEO), View(size=32, square=True), EVERY)):
        clip = number // CLIP
        folder = unfinished / ("validation" if clip % 10 == 9 else "train") / f"{clip:05}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(folder / f"{number:06}.png")
    unfinished.rename(CLIPS)
print(f"{len(list(CLIPS.glob('*/*')))} clips, {len(list(CLIPS.glob('*/*/*')))} frames")

# %% [markdown]
# What the model will see, a row a clip: check that the things you care for are in the square, can be told apart at this
# size, and move from one picture to the next.

# %%
import numpy as np

from stii_jax.notebook import run, show, watch
from stii_jax.traversal_pictures import draw_panels

rows = []
for folder in sorted((CLIPS / "train").iterdir())[:3]:
    images = sorted(folder.iterdir())[::4][:8]
    rows.append({f"t={4 * n}": np.asarray(Image.open(path)) for n, path in enumerate(images)})
show(draw_panels(rows))

# %% [markdown]
# ## Training
#
# There is no truth to score against, so look at the animation of a held-out clip: "segmentation" should come to follow
# the objects, a slot each, and "reconstruction" to look like "frame". The loss jumps where clips become longer, as
# it is a sum over frames. Stop the cell when you like: run again, it goes on.

# %%
RUN = WORK / f"run-{CLIPS.name}"
command = [sys.executable, "-m", "stii_jax.main", "--config", "video_folder:small", "--workdir", str(RUN)]
SETTINGS |= {"data.options.folder": CLIPS.resolve()}
watch([*command, *(f"--config.{key}={value}" for key, value in SETTINGS.items())], RUN)

# %% [markdown]
# ## Overlay
#
# The trained model takes a held-out clip apart, and imagines what comes in the five frames after it. For your whole
# video, give `--input` its path: it is cut to the same square.

# %%
HELD_OUT = sorted((CLIPS / "validation").iterdir())[0]
FOUND = WORK / "found"
main = [sys.executable, "-m", "stii_jax.main", "--workdir", RUN]
run(*main, "--mode", "decompose", "--input", HELD_OUT, "--output", FOUND, "--predict", 5, "--overwrite")

# %% [markdown]
# "overlay" has the colours of the slots over the frame, grey being the background: an object should keep its colour to
# the end. Frames with an orange edge are imagined.

# %%
from IPython.display import Video, display

display(Video(FOUND / "overlay.mp4", embed=True))

# %% [markdown]
# The same as stills; the last one is imagined.

# %%
from stii_jax.data.videofile import read_frames

frames = list(read_frames(FOUND / "overlay.mp4"))
show(*(frames[number] for number in (5, len(frames) // 2, -1)))

# %% [markdown]
# ## Trajectories
#
# Where each object went, in pixels of the clip, from the dot on. Lines should be as smooth as the motion was; jumps are
# slots that changed their object. `trajectories.csv` has these numbers, `masks.npz` the slot of every pixel.

# %%
import csv

from matplotlib import pyplot

rows = list(csv.DictReader((FOUND / "trajectories.csv").open()))
rows = [row for row in rows if row["background"] == row["predicted"] == "0"]
for slot in sorted({row["object"] for row in rows}):
    places = [(row["centroid_x"] or "nan", row["centroid_y"] or "nan") for row in rows if row["object"] == slot]
    x, y = np.array(places, float).T
    pyplot.plot(x, y, label=f"slot {slot}", marker="o", markevery=[0])
pyplot.gca().set(xlim=(0, 32), ylim=(32, 0), aspect="equal")
pyplot.legend()
pyplot.show()
