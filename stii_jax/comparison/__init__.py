"""Compare trained models with classical trackers on a recording with true tracks.

    python -m stii_jax.comparison --input video.mp4 --tracks tracks.csv --model balls --output comparison.json

The classical trackers need no training: OpenCV's background model (MOG2) with nearest-neighbour linking, and Otsu's
threshold with trackpy's linking. Their settings are tuned by HOTA on the first hundred frames, with the true tracks.
All methods are scored by the code of `--mode evaluate --tracks`. The table is written to OUTPUT.md.

The comparison needs the packages of the extra `comparison`.
"""

from stii_jax.comparison.command import main

__all__ = ["main"]
