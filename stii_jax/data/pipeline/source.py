"""Batches of clips from a built dataset.

The videos and frames in a batch depend on the seed and the step alone. So training can resume at any step, on any
number of processes, with exactly the batches it would have seen.
"""

import dataclasses
import resource
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grain
import numpy as np

from stii_jax.data.builder import VideoBuilder
from stii_jax.data.catalog import prepare
from stii_jax.data.errors import REBUILD, DataError, unknown
from stii_jax.data.pipeline.recolor import recolor

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class VideoDataset:
    """A dataset that is ready for reading."""

    builder: VideoBuilder
    num_threads: int = 4
    """Number of reader threads per iterator."""

    @property
    def num_frames(self) -> int:
        """The number of frames per stored training video, which is the length of the longest clip to train on."""
        return self.frames_of("train")

    def frames_of(self, split: str) -> int:
        """The number of frames per stored video of a split, which is the length of the longest clip."""
        return self.builder.frames_of(split)

    @property
    def image_size(self) -> int:
        """The height and width of a frame, in pixels."""
        return self.builder.builder_config.image_size

    @property
    def num_objects(self) -> int:
        """The maximum number of objects in a video; labels of `segmentation` go from 1 to this number."""
        return self.builder.builder_config.max_objects

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of videos per split."""
        return {split: self.builder.info.splits[split].num_examples for split in self.splits}

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits."""
        return self.builder.splits

    def train_batches(
        self,
        num_frames: int,
        batch_size: int,
        seed: int,
        *,
        start_step: int = 0,
        split: str = "train",
        recolored: bool = False,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Yield endless batches of clips that start at random frames of shuffled videos.

        Args:
            num_frames: length of a clip.
            batch_size: clips per step over all processes; process p gets the p-th of `process_count` parts.
            seed: seed of the order of the videos and of the clips' first frames; 0 to 2**32 - 1.
            start_step: the step whose batch comes first.
            split: "train", "validation" or "test".
            recolored: True to give each clip random colours, by the seed and its number; see `recolor`.
            process_index: index of this process.
            process_count: number of processes that share a batch.

        Returns:
            dicts of `video` uint8 `B T H W 3` in 0..255 and, where the dataset has labels, `segmentation`
            uint8 `B T H W` (0 = background).

        Raises:
            DataError: an unknown split, a clip longer than the videos, or a batch that cannot be divided among the
                processes. `next` raises it if a stored video is damaged.
        """
        if not 0 <= seed < 2**32:
            raise DataError(f"seed={seed}: give 0 to 2**32 - 1")
        per_process = self._check(split, num_frames, batch_size, process_index, process_count)
        place = self.clip_locations(num_frames, seed, split)
        read = self._reader(split, num_frames)

        def clip(position: int) -> Batch:
            clip = read(*place(position))
            if recolored:
                clip["video"] = recolor(clip["video"], np.random.default_rng([seed, position, 1]))
            return clip

        def batch(step: int) -> Batch:
            first = step * batch_size + process_index * per_process
            return _stack([clip(position) for position in range(first, first + per_process)])

        steps = grain.MapDataset.range(start_step, np.iinfo(np.int64).max).map(batch)
        return iter(steps.to_iter_dataset(self._read_options))

    def clip_locations(self, num_frames: int, seed: int, split: str = "train") -> Callable[[int], tuple[int, int]]:
        """Return `place`, where `place(n)` is the video and the first frame of the n-th clip of `train_batches`.

        Clip i of a step's batch has number `step * batch_size + i`.
        """
        order = grain.MapDataset.range(self.split_sizes[split]).seed(seed).shuffle().repeat()
        last = self.frames_of(split) - num_frames

        def place(number: int) -> tuple[int, int]:
            rng = np.random.default_rng([seed, number])
            return int(order[number]), int(rng.integers(last, endpoint=True))

        return place

    def eval_batches(
        self,
        split: str,
        num_frames: int,
        batch_size: int,
        num_videos: int = 0,
        *,
        process_index: int = 0,
        process_count: int = 1,
    ) -> Iterator[Batch]:
        """Yield the first videos of a split once, in order, each from its first frame.

        Args:
            split: "train", "validation" or "test".
            num_frames: length of a clip.
            batch_size: clips per batch over all processes; see `train_batches`.
            num_videos: number of videos; 0 is the whole split.
            process_index: index of this process.
            process_count: number of processes that share a batch.

        Returns:
            dicts as from `train_batches`, with `valid` bool `B`. The last batch is padded with black videos, all
            background, that are not valid.

        Raises:
            DataError: as for `train_batches`, or for more videos than the split has.
        """
        per_process = self._check(split, num_frames, batch_size, process_index, process_count)
        available = self.split_sizes[split]
        num_videos = num_videos or available
        if not 1 <= num_videos <= available:
            raise DataError(f"num_videos={num_videos}: split {split!r} has {available} videos; give 1 to {available}")
        read = self._reader(split, num_frames)

        def batch(step: int) -> Batch:
            first = step * batch_size + process_index * per_process
            clips = [read(min(index, num_videos - 1), 0) for index in range(first, first + per_process)]
            valid = np.arange(first, first + per_process) < num_videos
            batch = _stack(clips)
            return {key: value * _expand(valid, value) for key, value in batch.items()} | {"valid": valid}

        steps = grain.MapDataset.range(-(-num_videos // batch_size)).map(batch)
        return iter(steps.to_iter_dataset(self._read_options))

    def _reader(self, split: str, num_frames: int) -> Callable[[int, int], Batch]:
        """Return a function that reads a clip, given its video's index and its first frame.

        A file that was read from stays open as long as the iterator lives.
        """
        info = self.builder.info.splits[split]
        allow_open_files(info.num_shards)
        records = self.builder.as_data_source(split)
        ends = np.cumsum(info.shard_lengths)

        def read(index: int, start: int) -> Batch:
            try:
                record = records[index]
            except Exception as error:  # a RuntimeError if a record's hash is wrong, or an error of the system
                path = info.filepaths[int(np.searchsorted(ends, index, side="right"))]
                cause = " ".join(str(error).split())
                raise DataError(f"{path} is damaged: video {index} of {split}: {cause}. {REBUILD}") from error
            return self.builder.decode(record, start, num_frames)

        return read

    @property
    def _read_options(self) -> grain.ReadOptions:
        # Each thread reads whole batches.
        return grain.ReadOptions(num_threads=self.num_threads, prefetch_buffer_size=2 * self.num_threads)

    def _check(self, split: str, num_frames: int, batch_size: int, process_index: int, process_count: int) -> int:
        """Raise `DataError` for a request that cannot be met. Return the number of clips per process and batch."""
        if split not in self.splits:
            raise unknown("split", split, self.splits)
        longest = self.frames_of(split)
        if not 1 <= num_frames <= longest:
            raise DataError(
                f"num_frames={num_frames}: the {split} videos of {self.builder.builder_config.name} have "
                f"{longest} frames; give 1 to {longest}, or build longer videos with options.num_frames"
            )
        if not 0 <= process_index < process_count:
            raise DataError(f"process_index={process_index} of {process_count} processes: give 0 to process_count - 1")
        if batch_size < 1 or batch_size % process_count:
            raise DataError(
                f"batch_size={batch_size} over {process_count} processes: give a positive multiple of {process_count}"
            )
        return batch_size // process_count


def open_dataset(
    dataset: str,
    variant: str,
    options: Mapping[str, Any] | None = None,
    data_dir: str = "",
    manual_dir: str = "",
    *,
    num_threads: int = 4,
) -> VideoDataset:
    """Open a dataset for reading, after building it if it is missing.

    Args:
        dataset: see `prepare`, which raises the same errors.
        variant: see `prepare`.
        options: see `prepare`.
        data_dir: see `prepare`.
        manual_dir: see `prepare`.
        num_threads: number of reader threads per iterator.
    """
    return VideoDataset(prepare(dataset, variant, options, data_dir, manual_dir), num_threads)


def allow_open_files(count: int) -> None:
    """Raise the limit on open files for `count` more files, as far as the system permits; 1,024 is a common limit.

    Raises:
        DataError: the hard limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Allow for training, an evaluation and a stage that has just ended, and for the process's other files.
    wanted, least = 4 * count + 512, count + 64
    if hard != resource.RLIM_INFINITY and hard < least:
        raise DataError(
            f"the dataset has {count} files to read at once, but this process may open {hard} in all: "
            "raise the limit with `ulimit -Hn` or in limits.conf, or build the dataset in fewer files"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _stack(clips: list[dict[str, Any]]) -> Batch:
    return {key: np.stack([clip[key] for clip in clips]) for key in clips[0]}


def _expand(valid: np.ndarray, like: np.ndarray) -> np.ndarray:
    return valid.reshape(-1, *(1,) * (like.ndim - 1))
