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
# # The paper's comparison at a small scale
#
# This notebook trains STII, IODINE, SEQ-IODINE, R-NEM and DDPAE on two bouncing balls at 24x24 pixels. It then makes
# the paper's tables for them: scores by clip length, more objects than in training, and prediction. The scale suits
# two CPU cores. It allows a comparison of the systems, but does not reproduce the published numbers, which are for
# larger models on harder videos.
#
# **Time:** all systems with five seeds took 46 minutes on two cores of an Intel Xeon, or about 9 minutes per seed. A
# GPU is used if there is one.

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
# Colab deletes its disk when the session ends. With `KEEP`, the runs are written to your Google Drive instead. Run all
# cells in a later session, and the sweep resumes with the unfinished runs. The last cell offers a download instead.

# %%
from stii_jax.visualization.notebook import download, run_folder

KEEP = False  # @param {type:"boolean"}
RUNS = run_folder("paper", on_drive=KEEP)

# %% [markdown]
# Settings. `SYSTEMS` are any of `stii`, `iodine`, `rnem`, `ddpae` and `stii-white`. `iodine` includes SEQ-IODINE, which
# runs the same parameters in another way. R-NEM and DDPAE can only model white balls on black. `stii-white` sees the
# same videos; the others see balls in colour. One seed gives a first impression, without error bars.

# %%
import os

SYSTEMS = "stii iodine rnem ddpae stii-white"  # @param {type:"string"}
SEEDS = 1  # @param {type:"slider", min:1, max:5}
WORKERS = 1 if shutil.which("nvidia-smi") else 2
SETTINGS = {}
if os.environ.get("STII_SMOKE") == "1":  # only checks that every cell runs: nothing is learned
    SYSTEMS = "ddpae"
    SETTINGS = {"train.num_steps": 4, "train.log_every": 2, "train.checkpoint_every": 4, "eval.num_videos": 4}
    SETTINGS |= {"data.options.num_train": 32, "data.options.num_validation": 4, "data.options.num_test": 4}
    SETTINGS |= {"eval.batch_size": 4, "eval.periodic_videos": 4, "optim.warmup_steps": 2}
    SETTINGS |= {"data.num_frames": 4, "eval.chunk_frames": 5, "eval.lengths": (5, 10)}
    SETTINGS |= {"eval.observed_frames": 5, "eval.predict_frames": 5}
CHANGES = [f"--config.{key}={value}" for key, value in SETTINGS.items()]

# %% [markdown]
# ## Run
#
# Every run is scored on 100 held-out videos. You can stop the cell at any time and run it again to resume with the
# unfinished runs.

# %%
from stii_jax.visualization.notebook import run

sweep = [sys.executable, "-m", "stii_jax.sweep", "--sweep", "baselines", "--output", RUNS]
run(*sweep, "--seeds", SEEDS, "--workers", WORKERS, "--only", *SYSTEMS.split(), *CHANGES)

# %% [markdown]
# ## Table 1 at a small scale
#
# F-ARI measures how well the balls are separated; ARI includes the background, too. Both are computed per frame. The
# `video` scores are computed over the clip, where a slot has to keep its ball. In our runs, STII and IODINE had about
# the same F-ARI per frame. Over a clip, IODINE's was close to 0, because nothing ties its slots to balls.

# %%
from IPython.display import Image, Markdown, display

from stii_jax.report import read_runs
from stii_jax.report.figures import length_figure, prediction_figure
from stii_jax.report.seeds import experiments
from stii_jax.report.tables import evaluation_table, length_table, prediction_table

found = experiments(read_runs(RUNS))
display(Markdown(length_table(found, None).markdown))

# %% [markdown]
# The same as curves. Check whether a line falls as clips get longer, and how far a system's "video F-ARI" is below its
# "F-ARI".

# %%
display(Image(length_figure(found)))

# %% [markdown]
# Further evaluations of the same parameters: IODINE run as SEQ-IODINE, three balls instead of the two in training
# (`num_balls`), and balls that leave the frame (`margin`).

# %%
if table := evaluation_table(found, None):
    display(Markdown(table.markdown))

# %% [markdown]
# Prediction: scores over the frames predicted after 20 observed ones. F-ARI should fall the further a system predicts.

# %%
if table := prediction_table(found):
    display(Markdown(table.markdown), Image(prediction_figure(found)))

# %% [markdown]
# ## Our results
#
# A checkout contains our own runs of the same sweep, with five seeds. Your curves above should lie near them.
# `results/quick/README.md` discusses them, including the cases where STII fails.

# %%
from stii_jax.config import config_folder

measured = config_folder().parent / "results" / "quick" / "baselines"
if measured.exists():
    ours = experiments(read_runs(measured))
    display(Markdown(length_table(ours, None).markdown), Image(length_figure(ours)))
else:
    print("not in a checkout: our results are in results/quick of the repository")

# %% [markdown]
# `DOWNLOAD` sends all runs to your computer as one file. To resume them in another session, upload the file and run
# `shutil.unpack_archive("paper.zip", RUNS)` before the cell that runs the sweep.

# %%
DOWNLOAD = False  # @param {type:"boolean"}
if DOWNLOAD:
    download(RUNS)
