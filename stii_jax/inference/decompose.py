"""Decompose a video of any length with a model, frame by frame, in constant memory.

The output folder receives all of these files at the end, or none. docs/files.md describes every column.

    overlay.mp4          the recording with every object's outline, number and recent path; predicted frames with an
                         orange edge
    slots.mp4            the model's view: frame, segmentation over it, reconstruction, every slot; not for tiles
    slots.gif            the same for the first 300 frames
    masks.npz            `segmentation` (T H W, the slot of every pixel of the input's frame, 255 outside the model's
                         view), `palette` (256 3, the colours of the slots) and `time` (T, seconds)
    masks/000000.png     the same as images with that palette, one per frame
    trajectories.csv     one row per frame and slot: time, centroid, area and box in pixels of the input
    decomposition.json   the input, the model and the background's slot, and
                         `files`: the names of all files
                         `damage`: the reason why the files end early, if the input could not be read to its end, or
                         the model's output became infinite or NaN
                         `untimed`: the reason why frames follow at the average rate, if the input's times are unusable
                         `value_range`: the pixel values shown as 0 and 255
                         `notes`: remarks on the input, also as facts such as `cuts`; see `stii_jax.inference.remarks`
                         `novelty`: a comparison with held-out videos of the model's training; see
                         `stii_jax.evaluation.novelty`
    futures.csv          on request, the same for every sampled future; see `stii_jax.inference.futures`
    futures.png          the paths of all futures over the last observed frame
    objects/slot_1.mp4   on request, a clip of every object; see `stii_jax.inference.object_clips`
    coco.json, ...       on request, formats of other programs; see `stii_jax.inference.formats`

Frames are counted from 0, as the model sees them: every `frame_stride`-th frame of the input. Predicted frames follow
at the mean interval. The background's slot is the one with most pixels in the first ten frames. In tiles, and if a
static background is removed, object numbers replace slots, and the background is 0; see `object_stream`.
"""

import contextlib
import dataclasses
import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from stii_jax.data.errors import DataError
from stii_jax.inference.formats import FORMATS
from stii_jax.inference.futures import FutureFiles
from stii_jax.inference.identities import MAX_OBJECTS
from stii_jax.inference.model import Model
from stii_jax.inference.object_clips import CLIPS, write_clips
from stii_jax.inference.output_folder import (
    EVERY_NAME,
    NAMES,
    OF_FUTURES,
    OF_ONE_VIEW,
    SUMMARY,
    check_output,
    replace_output,
)
from stii_jax.inference.outputs import STRIP, Animation, Masks, Trajectories, VideoFile, VideoInfo
from stii_jax.inference.recordings import Recording
from stii_jax.inference.request import Request
from stii_jax.inference.stream import FRAMES_FOR_BACKGROUND, FrameResult, FrameStream, find_background
from stii_jax.storage.files import write_results
from stii_jax.visualization import visualize
from stii_jax.visualization.overlay import OverlayPainter


def check_request(request: Request) -> None:
    """Raise `DataError` if a result would replace the input."""
    source = request.input.resolve()
    if {source, *source.parents} & {(request.output / name).resolve() for name in EVERY_NAME}:
        raise DataError(f"{request.input} would be replaced by a result: give another --output")


def print_notes(notes: Iterable[str]) -> None:
    """Print remarks on the input, which `decomposition.json` holds as well."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr, flush=True)


def decompose(model: Model, request: Request, origin: Mapping[str, str], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write the files of the module's docstring, and return the content of `decomposition.json`.

    Args:
        model: a trained model.
        request: the video, the output folder and the files to write.
        origin: the source of the parameters, for `decomposition.json`. A killed job resumes only if it is the same.
        facts: further entries of `decomposition.json`.

    Raises:
        DataError: the video cannot be read, or does not fit the view; the output folder holds other files.
        OSError: the output cannot be written.
    """
    check_request(request)
    started = time.monotonic()
    names = {*NAMES, *(FORMATS[name].name for name in request.formats), *[CLIPS] * request.object_clips}
    names |= {*OF_FUTURES} if request.num_futures else set()
    job = request._asdict() | {"input": request.input.resolve(), "output": "", "overwrite": False, **origin}
    job = {key: str(value) for key, value in (job | {"num_slots": model.num_slots}).items()}
    check_output(request.output, names, job, request.overwrite)
    stream, sampled = model.stream(request.input, **request.viewing._asdict()), list[FrameStream]()
    recording, canvas = stream.video, stream.canvas
    names -= {*OF_ONE_VIEW} if stream.tiles else set()
    print_notes(noted := stream.notes)
    expected = recording.expected and recording.expected + request.num_predicted
    with replace_output(request.output, names, job, request.overwrite) as folder:
        frames = _frames(stream, request, sampled)
        shown = iter(tqdm(frames, desc="decomposing", total=expected, unit="frame", mininterval=0.5))
        # Colours depend on the background's slot and are fixed from the start, but the very first frames often differ
        # from the rest.
        if not (head := list(itertools.islice(shown, FRAMES_FOR_BACKGROUND))):
            raise DataError(f"{request.input}: {stream.damage}")
        background = stream.find_background(head)
        info = VideoInfo(
            name=request.input.name,
            width=recording.width,
            height=recording.height,
            scale=canvas.scale,
            fps=recording.fps,
            expected=recording.expected,
            colors=visualize.slot_colors(1 + MAX_OBJECTS if stream.is_numbered else model.num_slots, background),
            background=background,
            is_numbered=stream.is_numbered,
            slot_colors=None if stream.tiles else _slot_colors(head),
        )
        painter = OverlayPainter(
            info.width, info.height, info.scale, recording.box, info.colors, background, recording.scene
        )
        futures = FutureFiles(folder, info, recording.box) if request.num_futures else None
        negative = recording.background == "bright"
        counts = _write(folder, itertools.chain(head, shown), info, request.formats, painter, futures, negative)
        num_futures = 0
        if futures is not None:
            whole = counts[True] == request.num_predicted
            num_futures = futures.write(sampled if whole else (), request.num_predicted, stream.num_labels)
        if request.object_clips:
            plain = dataclasses.replace(model.view, background="keep")
            again = Recording(request.input, plain, recording.stride, recording.value_range)
            write_clips(folder, again, info)
        results = {
            "input": str(request.input),
            "input_size": (recording.width, recording.height),
            "view_box": recording.box,
            **({"tiles": stream.tiles} if stream.tiles else {}),
            **({"num_objects": stream.num_labels - 1} if stream.is_numbered else {}),
            "frame_stride": recording.stride,
            "background": recording.background,
            "fps": recording.fps,
            "num_frames": counts[False],
            "num_predicted": counts[True],
            **({"num_futures": num_futures} if request.num_futures else {}),
            "value_range": recording.value_range,
            "notes": stream.notes,
            **stream.remarks.facts,
            "untimed": recording.untimed,
            "damage": next((one.damage for one in (stream, *sampled) if one.damage), None),
            "size": model.view.size,
            "mask_scale": canvas.scale,
            "num_slots": model.num_slots,
            "background_slot": background,
            "novelty": stream.compare(),
            "files": sorted(names),
            "seconds": round(time.monotonic() - started, 3),
            **origin,
            **facts,
        }
        write_results(folder / SUMMARY, results)
    print_notes(note for note in stream.notes if note not in noted)
    return results


def _slot_colors(head: Sequence[FrameResult]) -> UInt8[np.ndarray, "K 3"]:
    """The colours of the slots, given the first frames."""
    masks = [frame.slot_masks for frame in head]
    return visualize.slot_colors(len(masks[0]), find_background(masks))


def _frames(stream: FrameStream, request: Request, sampled: list[FrameStream]) -> Iterator[FrameResult]:
    """Yield the observed and the predicted frames. At the end of the observed ones, add the futures to `sampled`."""
    yield from stream
    if request.num_predicted:
        sampled += stream.futures(request.num_futures)
        yield from stream.predict(request.num_predicted)


def _write(
    folder: Path,
    frames: Iterable[FrameResult],
    info: VideoInfo,
    formats: Iterable[str],
    painter: OverlayPainter,
    futures: FutureFiles | None,
    negative: bool,
) -> Counter[bool]:
    """Write every file except the summary, the clips and those of futures. The model saw the `negative`, if true.

    Return the numbers of observed and predicted frames.
    """
    counts = Counter[bool]()
    with contextlib.ExitStack() as files:
        overlay = files.enter_context(VideoFile(folder, info.fps, crf=20))
        views: list[VideoFile | Animation] = []
        if info.slot_colors is not None:
            views += [files.enter_context(VideoFile(folder, info.fps, STRIP))]
            views += [files.enter_context(Animation(folder, info.fps))]
        always = [files.enter_context(Masks(folder, info)), files.enter_context(Trajectories(folder, info))]
        observed = [files.enter_context(FORMATS[name](folder, info)) for name in formats]
        for result in frames:
            number, seconds, predicted, *_ = result.segmented
            for file in always if predicted else always + observed:
                file.write(result.segmented)
            if futures is not None:
                futures.see(result)
            if result.is_cut:
                painter.forget_paths()
            painted = result.reconstruction if predicted else None
            if painted is not None and negative:
                painted = 1 - painted
            overlay.write(painter.draw(result.pixels, painted, result.mask, result.regions), seconds)
            if views:
                assert result.decomposition is not None and info.slot_colors is not None
                caption = f"t={number}" + "  predicted" * predicted
                picture = visualize.animation_frame(result.frame, result.decomposition, info.slot_colors, caption)
                for file in views:
                    file.write(picture, seconds)
            counts[predicted] += 1
    return counts
