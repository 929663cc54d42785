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
# Trains STII on simulated videos of two balls, and shows what it learns while it learns it: which pixels belong
# together, what each object looks like, and where it goes. On two CPU cores it takes about 10 minutes; there is no need
# for a GPU, but one is used where there is one.
#
# Run the cells from top to bottom. **On Colab, first say where the package is to be had from:** `SOURCE` is the address
# of the repository that this notebook is from (`git+https://...`), or the path of a wheel that you have uploaded. In a
# checkout, leave it empty.

# %%
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = ""  # @param {type:"string"}
above = [folder for folder in Path.cwd().resolve().joinpath("colabs").parents if (folder / "stii_jax/main.py").exists()]
if importlib.util.find_spec("stii_jax") is None:
    extras = "[notebooks,cuda]" if shutil.which("nvidia-smi") else "[notebooks]"
    if not (SOURCE or above):
        raise SystemExit("Put into SOURCE where stii_jax is: git+https://... of its repository, or the path of a wheel")
    place = [f"stii_jax{extras} @ {SOURCE}"] if "://" in SOURCE else [f"{SOURCE or above[0]}{extras}"]
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *["-e"][bool(SOURCE) :], *place], check=True)
    sys.path[:0] = [str(folder) for folder in above[:1] if not SOURCE]
