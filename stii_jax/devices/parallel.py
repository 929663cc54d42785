"""Data parallelism: a function mapped over all devices of all processes by `pmap` or `shard_map`."""

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from stii_jax.devices.machine import num_cores
from stii_jax.errors import UserError

AXIS = "batch"
"""Name of the mapped axis, for collectives."""


class DeviceError(UserError, ValueError):
    """A batch cannot be divided among the devices."""


def use_all_cores(batch_sizes: Sequence[int]) -> None:
    """Create one virtual device per CPU core if jax runs on CPU, where XLA runs a convolution on one thread.

    The number of devices divides each of the batches: batches of 6 on 4 cores give 3 devices. Call it before jax looks
    for devices. `JAX_NUM_CPU_DEVICES` and `XLA_FLAGS=--xla_force_host_platform_device_count=N` take precedence.
    """
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not given and "JAX_NUM_CPU_DEVICES" not in os.environ:
        common = max(math.gcd(*batch_sizes), 1)
        devices = max(n for n in range(1, num_cores() + 1) if common % n == 0)
        jax.config.update("jax_num_cpu_devices", devices)


def check_batch_size(batch_size: int, field: str) -> None:
    """Raise `DeviceError` if the devices cannot share a batch equally."""
    if batch_size % jax.device_count():
        count = jax.device_count()
        nearest = max(round(batch_size / count), 1) * count
        raise DeviceError(
            f"{field}={batch_size} cannot be divided by the {count} devices: give a multiple, e.g. {field}={nearest}, "
            "or fewer devices (on CPU: JAX_NUM_CPU_DEVICES=1)"
        )


def process_batch_indices(batch_size: int) -> np.ndarray:
    """Return the indices of this process's videos within the whole batch."""
    local = batch_size // jax.process_count()
    return np.arange(local) + jax.process_index() * local


def replicated(tree: Any) -> Any:
    """Replicate arrays and keys, which each process holds completely, to every device of all processes.

    In a run of one process they are returned unchanged.
    """
    if jax.process_count() == 1:
        return tree
    mesh = Mesh(_in_order(jax.devices()), AXIS, axis_types=(AxisType.Auto,))
    everywhere = NamedSharding(mesh, PartitionSpec())

    def spread(leaf):
        if not isinstance(leaf, (jax.Array, np.ndarray)):
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(spread(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return leaf
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, everywhere, lambda index: host[index])

    return jax.tree.map(spread, tree)


def _in_order(devices: Sequence[jax.Device]) -> np.ndarray:
    """Order devices so that those of a process are adjacent, as in the batch; on a TPU pod they may not be."""
    return np.array(sorted(devices, key=lambda device: (device.process_index, device.id)))


class DataParallel:
    """A function `function(shared, *sharded)` mapped over the devices; see `data_parallel`."""

    def __init__(self, map_over: Callable, share: Callable, split: Callable, join: Callable, *, ahead: bool = True):
        self._map_over, self._share, self._split, self._join, self._ahead = map_over, share, split, join, ahead
        self._programs: dict[Any, Callable] = {}

    def __call__(self, shared: Any, *sharded: Any) -> Any:
        """Run the function; compiles it at the first call with these shapes."""
        arguments = self._place(shared, sharded)
        return self._join(self._compiled_for(arguments)(*arguments))

    def compiled(self, shared: Any, *sharded: Any) -> Any:
        """Return the compiled program of such a call, with `cost_analysis` and `memory_analysis`. One process only."""
        return self._compiled_for(self._place(shared, sharded))

    def _compiled_for(self, arguments):
        leaves, tree = jax.tree.flatten(arguments)
        key = tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in self._programs:
            mapped = self._map_over(len(arguments) - 1)
            self._programs[key] = mapped.lower(*arguments).compile() if self._ahead else mapped
            _return_freed_memory()
        return self._programs[key]

    def _place(self, shared, sharded):
        # Outputs are on every device, so the first inputs are placed there too: both then use the same program.
        return self._share(shared), *jax.tree.map(self._split, sharded)


def _return_freed_memory() -> None:
    """Return memory freed by the compiler, half a gigabyte at the paper's size, to the system; glibc would keep it."""
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def data_parallel(
    function: Callable,
    kind: str = "pmap",
    *,
    shared_outputs: bool,
    donate_first: bool = False,
    devices: Sequence[jax.Device] | None = None,
) -> DataParallel:
    """Map `function(shared, *sharded)` over the devices.

    Args:
        function: the computation of one device. `shared` is the same on each device; arrays in `sharded` are the
            device's part of the batch. It may use collectives over `AXIS`.
        kind: "pmap" or "shard_map"; they give the same numbers. In a jax without `pmap`, both are `shard_map`.
        shared_outputs: True if the outputs are equal on all devices (made so by collectives) and are returned once.
            Otherwise they are per-example and joined along their first axis, as this process's part of the batch.
        donate_first: True if `shared` may be overwritten.
        devices: devices to use; by default all devices of every process.

    Returns:
        A function with the same arguments. Their number is fixed, and the first axis of `sharded` arrays is this
        process's batch.
    """
    mesh = Mesh(_in_order(jax.devices() if devices is None else devices), AXIS, axis_types=(AxisType.Auto,))
    donate = (0,) if donate_first else ()
    return (_pmap if kind == "pmap" and hasattr(jax, "pmap") else _shard_map)(function, mesh, shared_outputs, donate)


def _pmap(function, mesh, shared_outputs, donate):
    local, devices = mesh.local_devices, list(mesh.devices)
    on_local = NamedSharding(Mesh(np.array(local), AXIS, axis_types=(AxisType.Auto,)), PartitionSpec())

    def map_over(count):
        axes, out_axes = (None, *[0] * count), None if shared_outputs else 0
        return jax.pmap(function, AXIS, in_axes=axes, out_axes=out_axes, donate_argnums=donate, devices=devices)

    def share(tree):
        return jax.device_put(tree, on_local)

    def split(x):
        return x.reshape(len(local), -1, *x.shape[1:])

    def join(outputs):
        return outputs if shared_outputs else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)

    # A program compiled ahead of its call would need arrays of all processes.
    return DataParallel(map_over, share, split, join, ahead=jax.process_count() == 1)


def _shard_map(function, mesh, shared_outputs, donate):
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)

    def map_over(count):
        specs, out_specs = (everywhere, *[split] * count), everywhere if shared_outputs else split
        # With varying-axes checks, pmean of a gradient would sum it once more.
        body = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out_specs, check_vma=False)
        return jax.jit(body, donate_argnums=donate)

    def share(tree):
        if jax.process_count() > 1:
            return replicated(tree)
        return jax.device_put(tree, NamedSharding(mesh, everywhere))

    def to_global(x: Any) -> jax.Array:
        return jax.make_array_from_process_local_data(NamedSharding(mesh, split), np.asarray(x))

    def join(outputs):
        if shared_outputs or jax.process_count() == 1:
            return outputs
        return multihost_utils.global_array_to_host_local_array(outputs, mesh, split)

    return DataParallel(map_over, share, to_global, join)
