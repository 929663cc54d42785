"""Ground-truth point tracks in CSV files; see `stii_jax.data.tracks.points`."""
