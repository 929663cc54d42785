"""Compare trained models with classical trackers on a recording with true tracks.

    python -m stii_jax.comparison --input video.mp4 --tracks tracks.csv --model balls --output comparison.json

The classical trackers need neither training nor a model: a background model of OpenCV (MOG2) with nearest-neighbour
linking, and Otsu's threshold with trackpy's linking. Their settings are tuned on the first hundred frames with the true
tracks at hand, by HOTA. All are scored by the code of `--mode evaluate --tracks`. OUTPUT.md has the table.

It needs the packages of the extra `comparison`.
"""

from stii_jax.comparison.command import main

__all__ = ["main"]
