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
# # Explore a trained model
#
# This notebook explores a trained model that comes with the package. We decompose held-out videos, remove slots, swap
# objects between videos, move single latents, and predict future frames. Nothing is trained here. It takes a few
# minutes on two CPU cores, most of them for compilation.

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
# Settings. `MODEL` names a model that comes with the package, or a `.safetensors` file that `--mode export` wrote for
# your own run. `VIDEO` selects the held-out video to show.

# %%
import os

import jax

from stii_jax import pretrained
from stii_jax.devices.parallel import use_all_cores

MODEL = "balls"  # @param {type:"string"}
VIDEO = 0  # @param {type:"slider", min:0, max:3}
NUM_VIDEOS, NUM_FRAMES = 8, 40
if os.environ.get("STII_SMOKE") == "1":  # only checks that every cell runs
    NUM_VIDEOS, NUM_FRAMES = 4, 20
use_all_cores([NUM_VIDEOS])
print(f"{jax.device_count()} x {jax.devices()[0].device_kind}")

# %% [markdown]
# ## The model
#
# A model file holds the parameters, all settings, and the scores of the model, here on 100 held-out videos.

# %%
trained = pretrained.load(MODEL)
config, params, facts = trained
minutes = (facts["train_seconds"] or 0) / 60
print(f"{config.system}, {config.model.num_slots} slots, {trained.step} steps in {minutes:.0f} minutes")
for scores in facts.get("results", {}).get("lengths", []):  # empty if the model was never scored
    print(f"{scores['num_frames']} frames: ARI {scores['ari']:.3f}, F-ARI {scores['f_ari']:.3f}")

# %% [markdown]
# ## Decompose
#
# Next, decompose a few held-out videos from the distribution the model was trained on, and score them.

# %%
from stii_jax.evaluation import result_files
from stii_jax.evaluation.evaluator import Evaluator
from stii_jax.runs import setup

config.eval.batch_size, config.eval.num_pictures = NUM_VIDEOS, 4
config.eval.num_videos = NUM_VIDEOS
evaluator = Evaluator(config, setup.load_dataset(config, evaluated=True))
scores, pictures = evaluator.evaluate(params, config.eval.split, (NUM_FRAMES,), NUM_VIDEOS)
result_files.print_scores(scores)

# %% [markdown]
# Here is one of them. Each slot, in the lower rows, should hold one ball or the background, and "segmentation" should
# agree with "truth" in every frame.

# %%
from stii_jax.visualization.notebook import play, show
from stii_jax.visualization.visualize import animation, strip

show(strip(*pictures[VIDEO]))

# %% [markdown]
# The same video in motion. Watch whether a slot keeps its ball when two balls touch.

# %%
play(animation(*pictures[VIDEO]))

# %% [markdown]
# The trajectories of the slots, drawn over the last frame. White dots are the true paths: the coloured lines should
# lie on them.

# %%
from stii_jax.visualization.trajectories import draw_trajectories

show(draw_trajectories(*pictures[VIDEO]))

# %% [markdown]
# ## Drop a slot
#
# A frame is decoded slot by slot, so we can leave one out. Without a ball's slot, background should appear in its
# place. Without the background's slot, the balls' slots must fill pixels that they never had to explain.

# %%
from stii_jax.analysis.slot_editing import concatenate, get_slots, render, select
from stii_jax.analysis.traversal import largest_object, observe_held_out, to_rgb
from stii_jax.analysis.traversal_pictures import draw_panels, draw_traversal

model = evaluator.model
observed = observe_held_out(evaluator, params, num_frames=10)
slots = get_slots(observed, VIDEO)
numbers = [n for n, used in enumerate(slots.present) if used]  # the model infers how many slots it needs
seen = [to_rgb(frame) for frame in jax.device_get(observed.frame)]
shown = {"seen": seen[VIDEO], "all slots": render(model, params, slots)}
for k in numbers:
    shown[f"without {k}"] = render(model, params, select(slots, [n for n in numbers if n != k]))
show(draw_panels([shown]))

# %% [markdown]
# ## Swap objects between videos
#
# First, we replace this video's largest ball by the largest ball of another video. Then we add it instead, so that
# there is one ball more than in any training video. The ball should keep its position and colour.

# %%
OTHER = 1  # @param {type:"slider", min:0, max:3}
own, new = largest_object(observed, VIDEO), largest_object(observed, OTHER)
guest = select(get_slots(observed, OTHER), [new])
swapped = concatenate(select(slots, [n for n in numbers if n != own]), guest)
shown = {"this video": seen[VIDEO], "the other": seen[OTHER], "swapped": render(model, params, swapped)}
shown["added"] = render(model, params, concatenate(slots, guest))
show(draw_panels([shown]))

# %% [markdown]
# ## Move a latent
#
# The sliders move one dimension of one slot's latents and decode the frame again. Units are standard deviations over
# objects. The initial dimension is the most informative one (highest KL divergence from the prior). Everything else
# stays fixed, including the temporal state, which also describes the object. So do not expect one dimension to control
# a single property.

# %%
import ipywidgets as widgets

from stii_jax.analysis.slot_editing import shift_latent
from stii_jax.analysis.traversal import latent_statistics
from stii_jax.storage.images import encode_png

statistics = latent_statistics(observed)
last = len(statistics.kl) - 1
slot = widgets.IntSlider(value=own, min=0, max=model.num_slots - 1, description="slot")
dimension = widgets.IntSlider(value=int(statistics.kl.argmax()), min=0, max=last, description="dimension")
moved_by = widgets.FloatSlider(value=0, min=-3, max=3, step=0.25, description="offset")
screen = widgets.Image(format="png")

# %%
still = render(model, params, slots)


def move_and_draw(_=None):
    step = moved_by.value * float(statistics.scale[dimension.value])
    frame = render(model, params, shift_latent(slots, slot.value, dimension.value, step))
    screen.value = encode_png(draw_panels([{"before": still, "after": frame}]))


for slider in (slot, dimension, moved_by):
    slider.observe(move_and_draw, "value")
move_and_draw()

# %% [markdown]
# Drag "offset" away from 0. Only this slot's object should change, and the pixels that it covers or uncovers.

# %%
widgets.VBox([slot, dimension, moved_by, screen])

# %% [markdown]
# The same without sliders: one row per dimension for the eight most informative ones, moved from -2 to +2. The middle
# column is unchanged. Look at the property that a row changes: position, size or colour. In the model `balls`, a row
# shifts the ball a little, tints it or blurs its edge, and usually does several at once.

# %%
from stii_jax.analysis.traversal import traverse

show(draw_traversal(traverse(model, params, observed, statistics, index=VIDEO)))

# %% [markdown]
# ## Predict
#
# The model sees half of the frames and predicts the next ten, which have an orange edge. The true frames are above
# them. Balls should keep their colour and roughly their size. They slow down, and some leave their true paths.

# %%
config.eval.observed_frames, config.eval.predict_frames = NUM_FRAMES // 2, 10
scores, futures = evaluator.forecast(params)
result_files.print_scores(scores)
show(strip(*futures[VIDEO], num_columns=12, num_observed=NUM_FRAMES // 2))

# %% [markdown]
# The predicted path of each ball, thin and with hollow markers, beside the true one, dotted.

# %%
show(draw_trajectories(*futures[VIDEO], num_observed=NUM_FRAMES // 2))
