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
# # Quickstart: objects from raw video, without labels
#
# Trains STII on simulated videos of two balls and shows what it learns while it learns it: which pixels belong
# together, what each object looks like, where it goes next. About 5 minutes on two CPU cores; there is no need for a
# GPU, but one is used where there is one.

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
# Colab deletes its disk when the session ends. With `KEEP`, the run is written to your Google Drive instead. Run all
# cells in a later session, and training resumes from the last checkpoint. The last cell offers a download instead.

# %%
from stii_jax.visualization.notebook import download, run_folder

KEEP = False  # @param {type:"boolean"}
RUN = run_folder("quickstart", on_drive=KEEP)

# %% [markdown]
# Settings of this notebook. Everything else is as in `configs/quickstart.py`.

# %%
import os

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # training has a process of its own, which needs memory, too
import jax

SETTINGS = {"train.eval_every": 500}
if os.environ.get("STII_SMOKE") == "1":  # only to see that every cell runs: nothing is learned
    SETTINGS |= {"train.num_steps": 6, "curriculum.stages": (), "train.log_every": 2, "train.eval_every": 4}
    SETTINGS |= {"data.options.num_train": 32, "data.options.num_validation": 4, "data.options.num_test": 4}
    SETTINGS |= {"model.num_refinements": 2, "eval.batch_size": 4, "eval.chunk_frames": 5, "eval.lengths": (5, 10)}
    SETTINGS |= {"eval.observed_frames": 5, "eval.predict_frames": 5, "optim.warmup_steps": 2}
OVERRIDES = [f"{key}={value}" for key, value in SETTINGS.items()]
print(f"{jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## The videos
#
# They are simulated when they are first needed. Below are three that training never sees, a row each: two balls bounce
# about, and every video has colours of its own. The model gets such frames and nothing else.

# %%
from stii_jax.analysis.traversal_pictures import draw_panels
from stii_jax.config import load_config
from stii_jax.runs import setup
from stii_jax.visualization.notebook import show

config = load_config("quickstart", OVERRIDES)
source = setup.load_dataset(config, evaluated=True)
videos = next(source.eval_batches("test", 40, 3, 3))["video"]
show(draw_panels([{f"t={t}": video[t] for t in range(0, 40, 5)} for video in videos]))

# %% [markdown]
# ## Training
#
# The same command as in a terminal. In the curves, look at F-ARI: how well the pixels of the balls are told apart
# (1 is perfect, 0 is chance). The loss jumps where clips become longer, as it is a sum over frames. In the animation of
# a held-out video, look at "segmentation": at first its regions have little to do with the balls, in the end each of
# three slots holds one ball or the background, and keeps it. Stop the cell when you like: run again, it goes on from
# the last checkpoint.

# %%
from stii_jax.visualization.notebook import watch

command = [sys.executable, "-m", "stii_jax.main", "--config", "quickstart", "--workdir", str(RUN)]
watch([*command, *(f"--config.{override}" for override in OVERRIDES)], RUN)

# %% [markdown]
# ## Scores
#
# On held-out videos, over their first 10 to 40 frames, ± the standard error over videos. ARI counts the background,
# F-ARI the balls alone; the `video_` ones are taken over the whole clip, so that a slot has to keep its ball. Three
# runs of ours had F-ARI .999 and ARI .999 at 40 frames.

# %%
import json

from stii_jax.evaluation import result_files

result_files.print_scores(json.loads((RUN / "results.json").read_text())["lengths"])

# %% [markdown]
# A held-out video, from left to right. Compare "segmentation" with "truth": the same regions should have the same
# colour in both, and keep it to the right end. Below, what each slot draws, and where.

# %%
from IPython.display import Image

Image(filename=RUN / "media" / "test_0.png")

# %% [markdown]
# ## Prediction
#
# The model sees 20 frames and imagines the next 10; scores are of the first 3, 5, 7 and 10 of these.

# %%
from stii_jax.visualization.notebook import run

run(sys.executable, "-m", "stii_jax.main", "--workdir", RUN, "--mode", "predict")

# %% [markdown]
# Frames with an orange edge are imagined; "frame" above them is what really came. Balls keep their colour and roughly
# their size, but slow down, and some miss their way: three runs of ours had an F-ARI of .73 to .75 over the first three
# imagined frames, of .57 to .61 over ten.

# %%
Image(filename=RUN / "media" / "prediction_0.png")

# %% [markdown]
# The same as paths: thin lines with hollow markers are imagined, white dots are the true way.

# %%
Image(filename=RUN / "media" / "trajectories_0.png")

# %% [markdown]
# What next: `explore.ipynb` takes a trained model apart, `own_video.ipynb` trains on videos of yours, `paper.ipynb`
# compares systems.

# %% [markdown]
# `DOWNLOAD` sends the run to your computer, as one file. To go on from it in another session, upload it and run
# `shutil.unpack_archive("quickstart.zip", RUN)` before the training cell.

# %%
DOWNLOAD = False  # @param {type:"boolean"}
if DOWNLOAD:
    download(RUN)
