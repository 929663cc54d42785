"""Checkpoints on disk, written atomically in the background and restored bit for bit.

A checkpoint contains no code. Its four items are:
- `params`, which can be read alone;
- `state`, the rest of the training state;
- `meta`, a JSON description of its origin;
- `digests`, which reveal damage to the other items.
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
"""Version of the format. Raise it when older code can no longer read new checkpoints, or newer code old ones."""


class CheckpointError(UserError, RuntimeError):
    """A checkpoint cannot be written or read; the one-line message says what to do."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's files are missing, truncated, unreadable or changed."""


class Checkpointer:
    """A writer and reader of one folder's checkpoints, which keeps the latest and the best.

    Args:
      directory: the folder, created if absent; unfinished files of a killed process are removed.
      keep_latest: number of newest checkpoints to keep.
      keep_best: number of checkpoints with the highest `best_metric` to keep. Checkpoints without it do not compete.
      best_metric: key of `metrics`.

    Raises:
      CheckpointError: the folder cannot be created, read or written.
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
        """Start writing a checkpoint. Its arrays may be donated or changed once this returns.

        Args:
          step: unique name of the checkpoint.
          params: the model's parameters.
          state: any other pytree, not empty, of arrays, numbers and PRNG keys.
          meta: a JSON object; the keys `format_version` and `has_digests` are reserved.
          metrics: scores. The checkpoint competes for the best if `best_metric` is among them and finite.

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
        """Wait until all saves are on disk; raises `CheckpointError` if one failed."""
        with self._writing():
            self._manager.wait_until_finished()

    def restore(self, params: Params, state: Any, step: int | None = None) -> tuple[Params, Any, dict[str, Any]]:
        """Restore the params, state and meta of `step`, or of the newest checkpoint.

        If the newest is damaged, it is renamed to `damaged_...` with a warning, and the previous one is read.

        Args:
          params: arrays or `jax.ShapeDtypeStruct`s of the expected form. Leaves with a sharding are restored with it,
            the others on the first device.
          state: the same for the rest of the state.
          step: step of the checkpoint; None is the newest.

        Raises:
          CheckpointError: there is no checkpoint, or it belongs to another model or format.
          DamagedCheckpointError: the checkpoint, or every one, is damaged.
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
                    way_out = f"no other is left: move {self.directory} away to start over, or change --workdir"
                    raise DamagedCheckpointError(f"{error}; {way_out}") from error
                warnings.warn(f"{error}; falling back to the previous checkpoint", stacklevel=2)
                self._put_aside(candidate)
        raise CheckpointError(f"no checkpoint in {self.directory}")

    def latest_step(self) -> int | None:
        """Return the newest step, or None."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """Return the step with the highest metric, or None if none was saved with a metric."""
        return self._manager.best_step()

    def close(self) -> None:
        """Wait for the last save and end the threads; raises `CheckpointError` as `wait` does."""
        with self._writing():
            self._manager.close()

    def _restore(self, params: Params, state: Any, step: int) -> tuple[Params, Any, dict[str, Any]]:
        meta, saved, digests = _describe(self._manager, step)
        given = {"params": params, "state": state}
        changes = _changes({item: saved[item] for item in given}, given)
        if changes:
            raise CheckpointError(
                f"{self.directory}/{step} belongs to another model: {_some(changes)}; "
                "use the config it was trained with, or another --workdir"
            )
        items = _read(self._manager, step, given, digests)
        return items["params"], items["state"], meta

    def _put_aside(self, step: int) -> None:
        """Rename a damaged checkpoint, so that its step can be saved again and its files can be inspected."""
        if jax.process_index() == 0:
            path = epath.Path(self.directory)
            names = (f"damaged_{step}_{number}" for number in itertools.count(1))  # a clock might jump back
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
                    self._manager.reload()  # it has already dropped the checkpoints that this save would have replaced
            timed_out = isinstance(error, TimeoutError)
            way_out = "check that it can be reached and that the clock is right" if timed_out else "free space there"
            if jax.process_count() > 1:
                way_out = f"if another process has stopped, restart all of them; otherwise {way_out}"
            raise CheckpointError(
                f"cannot write checkpoints to {self.directory} ({_line(error)}): "
                f"{way_out}, or change --workdir; finished checkpoints are unaffected"
            ) from error


def restore_params(
    directory: str | os.PathLike[str], step: int | Literal["best"] | None = None
) -> tuple[Params, dict[str, Any]]:
    """Restore only the params and meta of a checkpoint; changes nothing on disk.

    Args:
      directory: the folder of a `Checkpointer`.
      step: step of the checkpoint; "best" is the one with the highest metric, None the newest.

    Returns:
      The params on the first device, and the meta.

    Raises:
      CheckpointError: there is no such checkpoint, or it has another format.
      DamagedCheckpointError: the checkpoint cannot be read.
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
        raise DamagedCheckpointError(f"{error}; resuming training falls back to the previous checkpoint") from error
    finally:
        manager.close()


class _Manager(ocp.CheckpointManager):
    def _get_metrics(self, step: int) -> dict[str, float] | None:
        """Read a checkpoint's scores for orbax. If damaged, warn and return None, so that the run can be opened."""
        try:
            metrics = super()._get_metrics(step)
            digests = self.directory / str(step) / "digests" / "metadata"
            if digests.exists() and json.loads(digests.read_text())["metrics"] != digest_json(metrics or {}):
                raise ValueError("not what was saved")
            return metrics
        except (OSError, ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"the score of {self.directory}/{step} is damaged ({_line(error)}): the checkpoint no longer competes "
                "for the best one and is deleted once there are newer ones; copy the folder to keep it",
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
    """Return a checkpoint's meta, the shapes of its other items, and the digests of their leaves."""
    if step not in manager.all_steps():
        raise CheckpointError(f"no step {step} in {manager.directory}: it has {sorted(manager.all_steps())}")
    with _reading(manager, step):
        meta, digests = _read_meta(manager, step)
        metadata = manager.item_metadata(step)
        saved = {item: metadata[item].tree for item in ("params", "state")}
        for item, leaves in digests.items():
            forms = {name: describe_form(leaf) for name, leaf in name_leaves(saved[item]).items()}
            if forms != {name: text.split()[0] for name, text in leaves.items()}:
                raise ValueError(f"{item}: leaves differ from those saved")
        return meta, saved, digests


def _read_meta(manager: ocp.CheckpointManager, step: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the meta and the digests of params and state. Old checkpoints have no digests."""

    def read(item: str) -> dict[str, Any]:
        return dict(manager.restore(step, args=ocp.args.Composite(**{item: ocp.args.JsonRestore()}))[item])

    meta, digests = read("meta"), {}
    # Two indicators, so that damage to one of them is noticed too.
    if meta.get("has_digests") or (manager.directory / str(step) / "digests").exists():
        digests = read("digests")
        if digests["meta"] != digest_json(meta):
            raise ValueError("meta: not what was saved")
    version = meta.pop("format_version")
    meta.pop("has_digests", None)
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{manager.directory}/{step} has format {version}, this stii_jax reads {FORMAT_VERSION}: "
            "use the version of stii_jax that wrote it"
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
    """Return the restore target of `leaf` for orbax."""
    if not isinstance(leaf, (jax.Array, jax.ShapeDtypeStruct)):
        return np.asarray(leaf) if isinstance(leaf, np.generic) else leaf
    # Without a sharding, orbax looks for the devices that saved the checkpoint.
    sharding = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _changes(saved: Any, given: Any) -> list[str]:
    """Describe the leaves that differ in name, shape or type."""
    old = {name: describe_form(leaf) for name, leaf in name_leaves(saved).items()}
    new = {name: describe_form(leaf) for name, leaf in name_leaves(given).items()}
    return [
        f"{name} is {old.get(name, 'absent')}, expected {new.get(name, 'absent')}"
        for name in sorted(old | new)
        if old.get(name) != new.get(name)
    ]


def _rank(metrics: Mapping[str, float]) -> float:
    """Return the metric to maximise, the only one that `Checkpointer` writes."""
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
    """False for orbax's log of every save, and for tracebacks of errors that it also raises."""
    return "orbax" not in record.pathname or (record.levelno >= logging.ERROR and not record.exc_info)


logging.getLogger("absl").addFilter(_is_worth_showing)
