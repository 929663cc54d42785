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
# This notebook trains STII on simulated videos of two balls and shows how it learns to group pixels, to model each
# object's appearance, and to predict its motion. It takes about 5 minutes on two CPU cores. A GPU is used if there is
# one, but is not needed.

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
# Colab deletes its disk when the session ends. With `KEEP`, the run is written to your Google Drive instead. Run all
# cells in a later session, and training resumes from the last checkpoint. The last cell offers a download instead.

# %%
from stii_jax.visualization.notebook import download, run_folder

KEEP = False  # @param {type:"boolean"}
RUN = run_folder("quickstart", on_drive=KEEP)

# %% [markdown]
# Settings of this notebook. All others are as in `configs/quickstart.py`.

# %%
import os

os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # training runs in another process, which also needs memory
import jax

SETTINGS = {"train.eval_every": 500}
if os.environ.get("STII_SMOKE") == "1":  # only checks that every cell runs: nothing is learned
    SETTINGS |= {"train.num_steps": 6, "curriculum.stages": (), "train.log_every": 2, "train.eval_every": 4}
    SETTINGS |= {"data.options.num_train": 32, "data.options.num_validation": 4, "data.options.num_test": 4}
    SETTINGS |= {"model.num_refinements": 2, "eval.batch_size": 4, "eval.chunk_frames": 5, "eval.lengths": (5, 10)}
    SETTINGS |= {"eval.observed_frames": 5, "eval.predict_frames": 5, "optim.warmup_steps": 2}
OVERRIDES = [f"{key}={value}" for key, value in SETTINGS.items()]
print(f"{jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## The videos
#
# The videos are simulated when they are first needed. Below are three held-out ones, one per row. Two balls bounce
# around, with new colours in every video. The model gets such frames and nothing else.

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
# The cell runs the same command as in a terminal. In the curves, look at F-ARI, which measures the segmentation of the
# balls (1 is perfect, 0 is chance). The loss jumps when clips become longer, because it is a sum over frames. In the
# animation of a held-out video, look at "segmentation". At first its regions have little to do with the balls. In the
# end, each of three slots holds one ball or the background, and keeps it. You can stop the cell at any time and run it
# again to resume from the last checkpoint.

# %%
from stii_jax.visualization.notebook import watch

command = [sys.executable, "-m", "stii_jax.main", "--config", "quickstart", "--workdir", str(RUN)]
watch([*command, *(f"--config.{override}" for override in OVERRIDES)], RUN)

# %% [markdown]
# ## Scores
#
# Scores on held-out videos, over their first 10 to 40 frames, ± the standard error over videos. ARI includes the
# background, F-ARI only the balls. The `video_` scores are computed over the whole clip, where a slot has to keep its
# ball. Three runs of ours had F-ARI .999 and ARI .999 at 40 frames.

# %%
import json

from stii_jax.evaluation import result_files

result_files.print_scores(json.loads((RUN / "results.json").read_text())["lengths"])

# %% [markdown]
# A held-out video, from left to right. Compare "segmentation" with "truth": regions should have the same colours in
# both, and keep them to the right end. Below are the mask and the appearance of each slot.

# %%
from IPython.display import Image

Image(filename=RUN / "media" / "test_0.png")

# %% [markdown]
# ## Prediction
#
# The model sees 20 frames and predicts the next 10. Scores are over the first 3, 5, 7 and 10 predicted frames.

# %%
from stii_jax.visualization.notebook import run

run(sys.executable, "-m", "stii_jax.main", "--workdir", RUN, "--mode", "predict")

# %% [markdown]
# Frames with an orange edge are predicted; the row "frame" shows the true ones. Balls keep their colour and roughly
# their size, but slow down, and some leave their true paths. Three runs of ours had an F-ARI of .73 to .75 over the
# first three predicted frames, and of .57 to .61 over ten.

# %%
Image(filename=RUN / "media" / "prediction_0.png")

# %% [markdown]
# The same as paths. Thin lines with hollow markers are predicted; white dots are the true paths.

# %%
Image(filename=RUN / "media" / "trajectories_0.png")

# %% [markdown]
# Where to go next: `explore.ipynb` explores a trained model, `own_video.ipynb` trains on your own videos, and
# `paper.ipynb` compares systems.

# %% [markdown]
# `DOWNLOAD` sends the run to your computer as one file. To resume it in another session, upload the file and run
# `shutil.unpack_archive("quickstart.zip", RUN)` before the training cell.

# %%
DOWNLOAD = False  # @param {type:"boolean"}
if DOWNLOAD:
    download(RUN)
