"""Where tfds keeps the videos of a split while it is generated, before it knows in how many files to write them.

Its own `Shuffler` holds 1 GB in memory. Of a larger split it makes files, for which it needs tensorflow; and of one
that is to stay in order, one file, that it reads back into memory as a whole.
"""

import os
import tempfile
from collections.abc import Iterator
from typing import Any


class Spool:
    """One file, written and read once in the order of generation; has the interface of tfds's `Shuffler`.

    The file has no name: it is gone when the process is, however it ends.
    """

    def __init__(self, dirpath: str | os.PathLike[str], disable_shuffling: bool, **unused: Any):
        assert disable_shuffling, "a spool keeps the order"
        self._file = tempfile.TemporaryFile(dir=dirpath)  # noqa: SIM115 (closed once it has been read)
        self.size = 0
        self.num_examples = 0

    @property
    def bucket_lengths(self) -> list[int]:
        """As if all were in one of tfds's buckets."""
        return [self.num_examples]

    def add(self, key: int, data: bytes) -> None:
        """Keys have to be 0, 1, 2 and so on."""
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
