"""Apply a model to a video of any length, frame by frame, in memory that the length does not change.

It leaves these files in the output folder, all of them at the end or none; docs/files.md describes every column:

    overlay.mp4          frame, segmentation over it, reconstruction, every slot; predicted ones with an orange edge
    overlay.gif          the same, of the first 300 frames
    masks.npz            `segmentation` (T H W, the slot of every pixel of the input's frame, 255 outside of the model's
                         view), `palette` (256 3, the colours of the slots) and `time` (T, seconds)
    masks/000000.png     the same as images with that palette, one per frame
    trajectories.csv     one row per frame and slot: time, centroid, area and box in pixels of the input
    decomposition.json   what was decomposed by what; the background's slot; `files`, the names of all of these;
                         `damage` if the input could not be read to its end, or the model's output became infinite or
                         NaN: there the files end; `untimed` if the times in the input could not be used to its end:
                         frames then follow at its average rate; `value_range`, the pixel values shown
                         as 0 and 255; `notes`, remarks on how the input was read; `novelty`, how far the video is from
                         the held-out ones of the model's training (see `stii_jax.evaluation.novelty`)
    objects/slot_1.mp4   on request, a clip of every object; see `stii_jax.inference.object_clips`
    coco.json, ...       on request, formats of other programs; see `stii_jax.inference.formats`

Frames are counted from 0, as the model sees them: of the input's, every `frame_stride`-th. Predicted frames follow at
the mean interval. The background's slot is the one with most pixels in the first ten frames.
"""

import contextlib
import functools
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from stii_jax.data.errors import DataError
from stii_jax.data.options import VideoConfig
from stii_jax.evaluation import novelty
from stii_jax.inference.formats import FORMATS
from stii_jax.inference.object_clips import CLIPS, write_clips
from stii_jax.inference.output_folder import EVERY_NAME, NAMES, SUMMARY, check_output, replacing
from stii_jax.inference.outputs import Animation, Masks, Scene, Segmented, Trajectories, VideoFile
from stii_jax.inference.recordings import RecordedFrame, Recording
from stii_jax.inference.request import Request
from stii_jax.models.video_model import EVALUATION_SEED, VideoModel, example_keys
from stii_jax.storage.files import write_results
from stii_jax.types import Decomposition, Params
from stii_jax.visualization import visualize
from stii_jax.visualization.regions import Canvas

_FRAMES_FOR_BACKGROUND = 10


class Decomposed(NamedTuple):
    """One frame and what the model says of it."""

    frame: UInt8[np.ndarray, "S S 3"] | None
    """None for a predicted frame."""
    seconds: float | None
    """Presentation time, relative to the first frame; None for a predicted frame."""
    decomposition: Decomposition
    """The decomposition of this frame alone: B and T are 1."""

    @property
    def labels(self) -> UInt8[np.ndarray, "S S"]:
        """The most likely slot of every pixel."""
        return np.asarray(self.decomposition.masks)[0, 0].argmax(axis=0).astype(np.uint8)


class Stream:
    """Decomposes a video frame after frame; what comes out is what `Evaluator.observe` gives for its video 0."""

    def __init__(self, model: VideoModel, params: Params):
        self._model, self._params, self._state = model, params, model.initial_state(params, 1)
        self.monitor = novelty.Monitor(model)
        """Statistics of the frames seen so far, for the novelty warning."""
        self.damage: str | None = None
        """Why it stopped before the end, once it has."""

    def run(self, frames: Iterable[RecordedFrame], num_predicted: int = 0) -> Iterator[Decomposed]:
        """Decompose one or more frames, and predict those after them."""
        for number, item in enumerate(_one_ahead(self._steps(frames, num_predicted))):
            if not all(np.isfinite(array).all() for array in item.decomposition):
                self.damage = f"the model's output is not finite from frame {number} on"
                return
            if item.frame is not None:
                self.monitor.add(item.frame, item.decomposition)
            yield item

    def _steps(self, frames: Iterable[RecordedFrame], num_predicted: int) -> Iterator[Decomposed]:
        for frame in frames:
            decomposition, self._state = _observe(self._model, self._params, self._state, frame.view)
            yield Decomposed(frame.view, frame.seconds, decomposition)
        for _ in range(num_predicted):
            decomposition, self._state = _predict(self._model, self._params, self._state)
            yield Decomposed(None, None, decomposition)


@functools.partial(jax.jit, static_argnums=0)
def _observe(model, params, state, frame):
    keys = example_keys(jax.random.key(EVALUATION_SEED), jnp.zeros(1, int))
    return model.stream(params, state, frame[None].astype(jnp.float32) / 255.0, keys)


@functools.partial(jax.jit, static_argnums=0)
def _predict(model, params, state):
    return model.predict(params, state, 1)


def _one_ahead(items: Iterator[Decomposed]) -> Iterator[Decomposed]:
    """The same, but one is drawn and written while the device works on the next."""
    waiting = next(items)
    for item in items:
        yield waiting
        waiting = item
    yield waiting


def check_request(request: Request) -> None:
    """Raise `DataError` if a result would replace the input."""
    source = request.input.resolve()
    if {source, *source.parents} & {(request.output / name).resolve() for name in EVERY_NAME}:
        raise DataError(f"{request.input} would be replaced by a result: give another --output")


def print_notes(notes: Iterable[str]) -> None:
    """Print remarks on how the input is read, which `decomposition.json` holds as well."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)


def decompose(
    model: VideoModel,
    params: Params,
    dataset: VideoConfig,
    request: Request,
    origin: Mapping[str, str],
    facts: Mapping[str, Any],
    held_out: Any = None,
) -> dict[str, Any]:
    """Write the files of the module's docstring, and return the content of `decomposition.json`.

    Args:
        model: for frames of the size that `dataset` has.
        params: its parameters.
        dataset: the dataset that the model was trained on, for the view and the stride; its files are not needed.
        request: the video, the folder and the files to write.
        origin: where the parameters are from, for `decomposition.json`. A killed job goes on if this is the same.
        facts: more for `decomposition.json`.
        held_out: `novelty.summarize` of held-out videos, which the video is compared with; None for no comparison.

    Raises:
        DataError: the video cannot be read, or does not fit the view; the output folder holds other files.
        OSError: the output cannot be written.
    """
    check_request(request)
    started = time.monotonic()
    names = {*NAMES, *(FORMATS[name].name for name in request.formats), *[CLIPS] * request.object_clips}
    job = request._asdict() | {"input": request.input.resolve(), "output": "", "overwrite": False, **origin}
    job = {key: str(value) for key, value in (job | {"num_slots": model.num_slots}).items()}
    check_output(request.output, names, job, request.overwrite)
    recording = Recording(request.input, dataset.view, dataset.frame_stride, request.value_range)
    print_notes(noted := recording.notes)
    stream = Stream(model, params)
    expected = recording.expected and recording.expected + request.num_predicted
    with replacing(request.output, names, job, request.overwrite) as folder:
        frames = stream.run(recording, request.num_predicted)
        shown = iter(tqdm(frames, desc="decomposing", total=expected, unit="frame", mininterval=0.5))
        # Colours must be known at the start, while the very first frames are often not yet cut as the rest.
        if not (head := list(itertools.islice(shown, _FRAMES_FOR_BACKGROUND))):
            raise DataError(f"{request.input}: {stream.damage}")
        background = int(np.bincount(np.stack([item.labels for item in head]).ravel()).argmax())
        canvas = Canvas((dataset.image_size,) * 2, recording.box, recording.width, recording.height)
        scene = Scene(
            name=request.input.name,
            width=recording.width,
            height=recording.height,
            scale=canvas.scale,
            fps=recording.fps,
            expected=recording.expected,
            colors=visualize.slot_colors(model.num_slots, background),
            background=background,
        )
        counts = _write(folder, itertools.chain(head, shown), canvas, scene, request.formats)
        if request.object_clips:
            again = Recording(request.input, dataset.view, dataset.frame_stride, recording.value_range)
            write_clips(folder, again, scene)
        results = {
            "input": str(request.input),
            "input_size": (recording.width, recording.height),
            "view_box": recording.box,
            "frame_stride": dataset.frame_stride,
            "fps": recording.fps,
            "num_frames": counts[False],
            "num_predicted": counts[True],
            "value_range": recording.value_range,
            "notes": recording.notes,
            "untimed": recording.untimed,
            "damage": recording.damage or stream.damage,
            "size": dataset.image_size,
            "mask_scale": canvas.scale,
            "num_slots": model.num_slots,
            "background_slot": background,
            "novelty": stream.monitor.compare(held_out),
            "files": sorted(names),
            "seconds": round(time.monotonic() - started, 3),
            **origin,
            **facts,
        }
        write_results(folder / SUMMARY, results)
    print_notes(recording.notes[len(noted) :])
    return results


def _write(
    folder: Path, frames: Iterable[Decomposed], canvas: Canvas, scene: Scene, formats: Iterable[str]
) -> Counter[bool]:
    """Write every file but the summary and the clips. Returns the number of frames, by whether they are predicted."""
    counts = Counter[bool]()
    with contextlib.ExitStack() as files:
        video = files.enter_context(VideoFile(folder, scene.fps))
        animation = files.enter_context(Animation(folder, scene.fps))
        always = [files.enter_context(Masks(folder, scene)), files.enter_context(Trajectories(folder, scene))]
        observed = [files.enter_context(FORMATS[name](folder, scene)) for name in formats]
        for number, (item, seconds) in enumerate(_timed(frames, scene.fps)):
            predicted = item.frame is None
            labels = canvas.segment(np.asarray(item.decomposition.masks)[0, 0])
            frame = Segmented(number, seconds, predicted, labels.slots, canvas.measure(labels))
            for file in always if predicted else always + observed:
                file.write(frame)
            caption = f"t={number}" + "  predicted" * predicted
            picture = visualize.moment(item.frame, item.decomposition, scene.colors, caption)
            video.write(picture, seconds)
            animation.write(picture, seconds)
            counts[predicted] += 1
    return counts


def _timed(items: Iterable[Decomposed], fps: float) -> Iterator[tuple[Decomposed, float]]:
    """Every frame with its time in seconds; predicted ones follow at the mean interval of those before."""
    seconds, interval = 0.0, 1 / fps
    for number, item in enumerate(items):
        if item.seconds is None:
            seconds += interval
        else:
            seconds = item.seconds
            interval = seconds / number if number else interval
        yield item, seconds
