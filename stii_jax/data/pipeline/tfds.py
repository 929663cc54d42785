"""The parts of tensorflow-datasets and array_record that this package uses.

No other module imports the two libraries. If one of their releases moves or renames something, only this module
changes.
"""

import contextlib
from collections.abc import Iterator

from array_record.python.array_record_module import ArrayRecordReader
from tensorflow_datasets import disable_progress_bar
from tensorflow_datasets.core import BuilderConfig, DatasetInfo, GeneratorBasedBuilder, MetadataDict, Version, shuffle
from tensorflow_datasets.core.download import DownloadConfig
from tensorflow_datasets.core.features import Encoding, FeaturesDict, Scalar, Tensor

__all__ = [
    "ArrayRecordReader",
    "BuilderConfig",
    "DatasetInfo",
    "DownloadConfig",
    "Encoding",
    "FeaturesDict",
    "GeneratorBasedBuilder",
    "MetadataDict",
    "Scalar",
    "Tensor",
    "Version",
    "disable_progress_bar",
    "shuffled_by",
]


@contextlib.contextmanager
def shuffled_by(shuffler: type) -> Iterator[None]:
    """Have tfds build with `shuffler` instead of its own `Shuffler`."""
    own = shuffle.Shuffler
    shuffle.Shuffler = shuffler  # type: ignore[misc]
    try:
        yield
    finally:
        shuffle.Shuffler = own
