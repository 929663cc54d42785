"""Temporary storage for a split's videos while TFDS generates them, before the number of files is known.

TFDS's own `Shuffler` holds up to 1 GB in memory. It writes a larger split to files, for which it needs TensorFlow. If
the order must be kept, it writes one file and reads all of it back into memory.
"""

import os
import tempfile
from collections.abc import Iterator
from typing import Any


class Spool:
    """One file, written and read once in the order of generation, with the interface of TFDS's `Shuffler`.

    The file has no name, so it vanishes with the process, however that ends.
    """

    def __init__(self, dirpath: str | os.PathLike[str], disable_shuffling: bool, **unused: Any):
        assert disable_shuffling, "a spool keeps the order"
        self._file = tempfile.TemporaryFile(dir=dirpath)  # noqa: SIM115 (closed once it has been read)
        self.size = 0
        self.num_examples = 0

    @property
    def bucket_lengths(self) -> list[int]:
        """The number of examples, as if all were in one of TFDS's buckets."""
        return [self.num_examples]

    def add(self, key: int, data: bytes) -> None:
        """Append an example. The keys have to be 0, 1, 2 and so on."""
        assert key == self.num_examples, f"video {key} came after {self.num_examples - 1}"
        self._file.write(len(data).to_bytes(8, "little"))
        self._file.write(data)
        self.size += len(data)
        self.num_examples += 1

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        with self._file:
            self._file.seek(0)
            for key in range(self.num_examples):
                yield key, self._file.read(int.from_bytes(self._file.read(8), "little"))
