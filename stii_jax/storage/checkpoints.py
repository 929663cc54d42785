"""Checkpoints on disk: written in the background, atomically, and read back bit for bit.

A checkpoint has four items: `params`, which can be read alone; `state`, the rest of what training needs; `meta`, JSON
that says what made it; and `digests`, by which damage to the others is noticed. Nothing in it is code.
"""

import contextlib
import itertools
import json
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers as policies

from stii_jax.devices.parallel import replicated
from stii_jax.errors import UserError
from stii_jax.storage.digests import describe_form, digest_json, digest_leaves, name_leaves
from stii_jax.types import Params

FORMAT_VERSION = 1
"""To be raised when older code can no longer read what newer code writes, or the other way round."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint that cannot be written or read; the message is one line that says what to do."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint whose files are missing, truncated, unreadable or not as they were written."""


class Checkpointer:
    """Writes and reads the checkpoints of one folder; keeps the latest and the best.

    Args:
      directory: made if absent; what a killed process left unfinished in it is removed.
      keep_latest: newest checkpoints kept.
      keep_best: checkpoints of the highest `best_metric` kept; those saved without it do not compete.
      best_metric: key of `metrics`.

    Raises:
      CheckpointError: the folder cannot be made, read or written.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        keep_latest: int = 2,
        keep_best: int = 1,
        best_metric: str = "f_ari",
    ):
        self.directory = _absolute(directory)
        self._best_metric = best_metric
        keep = [
            policies.LatestN(keep_latest),
            policies.BestN(get_metric_fn=_rank, n=keep_best, keep_checkpoints_without_metrics=False),
        ]
        options = ocp.CheckpointManagerOptions(
            best_fn=_rank,  # without it orbax writes no metrics
            preservation_policy=policies.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
        )
        with self._writing():
            self._manager = _open(self.directory, options)
            if "://" not in self.directory and not os.access(self.directory, os.W_OK):
                raise PermissionError("the folder is read-only")

    def save(
        self,
        step: int,
        params: Params,
        state: Any,
        meta: Mapping[str, Any],
        metrics: Mapping[str, float] | None = None,
    ) -> None:
        """Starts to write a checkpoint; the arrays may be donated or changed once it returns.

        Args:
          step: names the checkpoint, once.
          params: the model's parameters.
          state: any other pytree, not empty, of arrays, numbers and PRNG keys.
          meta: JSON; the keys `format_version` and `has_digests` are ours.
          metrics: the checkpoint competes for the best if `best_metric` is in it and finite.

        Raises:
          CheckpointError: a parameter is not finite, the step exists, or this or the previous save failed.
        """
        bad = [name for name, leaf in name_leaves(params).items() if not jnp.isfinite(leaf).all()]
        if bad:
            raise CheckpointError(f"step {step} is not saved: NaN or Inf in {_some(bad)}")
        if step in self._manager.all_steps():
            raise CheckpointError(f"{self.directory} already has step {step}: resume it, or change --workdir")
        params, state = replicated((params, state))
        value = (metrics or {}).get(self._best_metric, math.nan)
        ranked = {self._best_metric: float(value)} if math.isfinite(value) else None
        described = {**meta, "format_version": FORMAT_VERSION, "has_digests": True}
        digests = {"params": digest_leaves(params), "state": digest_leaves(state), "meta": digest_json(described)}
        items = ocp.args.Composite(
            params=ocp.args.StandardSave(params),
            state=ocp.args.StandardSave(state),
            meta=ocp.args.JsonSave(described),
            digests=ocp.args.JsonSave(digests | {"metrics": digest_json(ranked or {})}),
        )
        with self._writing():
            self._manager.save(step, args=items, metrics=ranked)

    def wait(self) -> None:
        """Returns when what was saved is on disk; raises `CheckpointError` if it could not be written."""
        with self._writing():
            self._manager.wait_until_finished()

    def restore(self, params: Params, state: Any, step: int | None = None) -> tuple[Params, Any, dict[str, Any]]:
        """The params, state and meta of `step`, or of the newest checkpoint.

        If the newest is damaged, it is renamed to `damaged_...` with a warning, and the one before is read.

        Args:
          params: arrays or `jax.ShapeDtypeStruct`s of the form expected. What has a sharding is restored with
            it, the rest on the first device.
          state: the same for the rest.
          step: which.

        Raises:
          CheckpointError: there is none, or it is of another model or format.
          DamagedCheckpointError: it, or every one, is damaged.
        """
        self.wait()
        steps = sorted(self._manager.all_steps(), reverse=True) if step is None else [step]
        for candidate in steps:
            try:
                return self._restore(params, state, candidate)
            except DamagedCheckpointError as error:
                if step is not None:
                    raise
                if candidate == steps[-1]:
                    way_out = f"no other is left: move {self.directory} away to begin anew, or change --workdir"
                    raise DamagedCheckpointError(f"{error}; {way_out}") from error
                warnings.warn(f"{error}; going back to the one before", stacklevel=2)
                self._put_aside(candidate)
        raise CheckpointError(f"no checkpoint in {self.directory}")

    def latest_step(self) -> int | None:
        """The newest step, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step of the highest metric, or None where none was saved with one."""
        return self._manager.best_step()

    def close(self) -> None:
        """Waits for the last save and ends the threads; raises `CheckpointError` as `wait` does."""
        with self._writing():
            self._manager.close()

    def _restore(self, params: Params, state: Any, step: int) -> tuple[Params, Any, dict[str, Any]]:
        meta, saved, digests = _describe(self._manager, step)
        given = {"params": params, "state": state}
        changes = _changes({item: saved[item] for item in given}, given)
        if changes:
            raise CheckpointError(
                f"{self.directory}/{step} is of another model: {_some(changes)}; "
                "use the config it was made with, or another --workdir"
            )
        items = _read(self._manager, step, given, digests)
        return items["params"], items["state"], meta

    def _put_aside(self, step: int) -> None:
        """Makes room for the step to be saved again, and keeps the files for whoever wants to look."""
        if jax.process_index() == 0:
            path = epath.Path(self.directory)
            names = (f"damaged_{step}_{number}" for number in itertools.count(1))  # no clock, which may go back
            (path / str(step)).rename(next(path / name for name in names if not (path / name).exists()))
        ocp.multihost.sync_global_processes(f"{self.directory}/{step} is put aside")
        self._manager.reload()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        # Orbax and tensorstore raise nearly everything: OSError, ValueError, RuntimeError.
        except Exception as error:
            if hasattr(self, "_manager"):
                with contextlib.suppress(OSError):
                    self._manager.reload()  # it has already forgotten what this save was to replace
            timed_out = isinstance(error, TimeoutError)
            way_out = "see that it can be reached and the clock is right" if timed_out else "free space there"
            if jax.process_count() > 1:
                way_out = f"start all again if another process has stopped, or else {way_out}"
            raise CheckpointError(
                f"cannot write checkpoints to {self.directory} ({_line(error)}): "
                f"{way_out}, or change --workdir; finished checkpoints are as they were"
            ) from error


def restore_params(
    directory: str | os.PathLike[str], step: int | Literal["best"] | None = None
) -> tuple[Params, dict[str, Any]]:
    """The params and meta of a checkpoint, with no need of the training state; changes nothing on disk.

    Args:
      directory: what `Checkpointer` wrote to.
      step: which; "best" is the one of the highest metric, None the newest.

    Returns:
      Params on the first device, and meta.

    Raises:
      CheckpointError: there is no such checkpoint, or it is of another format.
      DamagedCheckpointError: it cannot be read.
    """
    path = _absolute(directory)
    if not epath.Path(path).is_dir():
        raise CheckpointError(f"no checkpoint in {path}: there is no such folder")
    options = ocp.CheckpointManagerOptions(
        best_fn=_rank, read_only=True, save_interval_steps=0, create=False, enable_async_checkpointing=False
    )
    manager = _open(path, options)
    try:
        chosen = manager.best_step() if step == "best" else manager.latest_step() if step is None else step
        if chosen is None:
            raise CheckpointError(f"no {'best ' if step == 'best' else ''}checkpoint in {path}")
        meta, saved, digests = _describe(manager, chosen)
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved["params"])
        return _read(manager, chosen, {"params": shapes}, digests)["params"], meta
    except DamagedCheckpointError as error:
        raise DamagedCheckpointError(f"{error}; training again goes back to the one before") from error
    finally:
        manager.close()


class _Manager(ocp.CheckpointManager):
    def _get_metrics(self, step: int) -> dict[str, float] | None:
        """What orbax reads scores by: None, with a warning, where damage would keep the run from being opened."""
        try:
            metrics = super()._get_metrics(step)
            digests = self.directory / str(step) / "digests" / "metadata"
            if digests.exists() and json.loads(digests.read_text())["metrics"] != digest_json(metrics or {}):
                raise ValueError("not what was saved")
            return metrics
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"the score of {self.directory}/{step} is damaged ({_line(error)}): it no longer counts for the best "
                "checkpoint, and goes when there are newer ones; copy the folder to keep it",
                stacklevel=2,
            )
            return None


def _open(directory: str, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
    handlers = {
        "params": ocp.StandardCheckpointHandler(),
        "state": ocp.StandardCheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
        "digests": ocp.JsonCheckpointHandler(),
    }
    return _Manager(directory, item_handlers=handlers, options=options)


def _describe(manager: ocp.CheckpointManager, step: int) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A checkpoint's meta, the shapes of its other items, and the digests of their leaves."""
    if step not in manager.all_steps():
        raise CheckpointError(f"no step {step} in {manager.directory}: it has {sorted(manager.all_steps())}")
    with _reading(manager, step):
        meta, digests = _read_meta(manager, step)
        metadata = manager.item_metadata(step)
        saved = {item: metadata[item].tree for item in ("params", "state")}
        for item, leaves in digests.items():
            forms = {name: describe_form(leaf) for name, leaf in name_leaves(saved[item]).items()}
            if forms != {name: text.split()[0] for name, text in leaves.items()}:
                raise ValueError(f"{item}: other leaves than were saved")
        return meta, saved, digests


def _read_meta(manager: ocp.CheckpointManager, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Meta, and the digests of params and state: none of a checkpoint from before there were some."""

    def read(item: str) -> dict[str, Any]:
        return dict(manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item])

    meta, digests = read("meta"), {}
    # Two signs: damage to one of them is then noticed, too.
    if meta.get("has_digests") or (manager.directory / str(step) / "digests").exists():
        digests = read("digests")
        if digests["meta"] != digest_json(meta):
            raise ValueError("meta: not what was saved")
    version = meta.pop("format_version")
    meta.pop("has_digests", None)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{manager.directory}/{step} has format {version}, this stii_jax reads {FORMAT_VERSION}: "
            "use the stii_jax that wrote it"
        )
    return meta, {item: digests[item] for item in ("params", "state") if digests}


def _read(
    manager: ocp.CheckpointManager, step: int, targets: Mapping[str, Any], digests: Mapping[str, Any]
) -> Mapping[str, Any]:
    restores = {item: ocp.args.StandardRestore(jax.tree.map(_target, tree)) for item, tree in targets.items()}
    with _reading(manager, step):
        items = manager.restore(step, args=ocp.args.Composite(**restores))
        for item in targets if digests else ():
            found = digest_leaves(items[item])
            changed = [f"{item}/{name}" for name, text in digests[item].items() if found[name] != text]
            if changed:
                raise ValueError(f"not what was saved: {_some(changed)}")
        return items


@contextlib.contextmanager
def _reading(manager: ocp.CheckpointManager, step: int) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise DamagedCheckpointError(f"{manager.directory}/{step} is damaged ({_line(error)})") from error


def _target(leaf: Any) -> Any:
    """What orbax is to restore in the place of `leaf`."""
    if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
    # Without a sharding orbax looks for the devices that the checkpoint was saved on.
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _changes(saved: Any, given: Any) -> list[str]:
    """Leaves that differ in name, shape or type."""
    old = {name: describe_form(leaf) for name, leaf in name_leaves(saved).items()}
    new = {name: describe_form(leaf) for name, leaf in name_leaves(given).items()}
    return [
        f"{name} is {old.get(name, 'absent')}, expected {new.get(name, 'absent')}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]


def _rank(metrics: Mapping[str, float]) -> float:
    """The metric to maximise: the only one that `Checkpointer` writes."""
    (value,) = metrics.values()
    return value


def _absolute(directory: str | os.PathLike[str]) -> str:
    path = os.fspath(directory)
    return path if "://" in path else os.path.abspath(path)


def _some(lines: list[str]) -> str:
    return "; ".join(lines[:4]) + (f"; and {len(lines) - 4} more" if len(lines) > 4 else "")


def _line(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    text = re.sub(r" \[\w+=.*", "", text)  # tensorstore's annotations
    return text if len(text) < 300 else f"{text[:120]} ... {text[-150:]}"  # the cause comes last


def _is_worth_showing(record: logging.LogRecord) -> bool:
    """Leaves out what orbax logs of every save, and the tracebacks of errors that it also raises."""
    return "orbax" not in record.pathname or (record.levelno >= logging.ERROR and not record.exc_info)


logging.getLogger("absl").addFilter(_is_worth_showing)
