"""Data parallelism: one function a device, over all devices of all processes, by `pmap` or `shard_map`."""

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
    """A batch that the devices cannot share."""


def use_all_cores(batch_sizes: Sequence[int]) -> None:
    """One virtual device a CPU core, where jax runs on CPU: XLA runs a convolution on one thread there.

    As many as share each of the batches equally, that is: batches of 6 on 4 cores make 3 devices. Call it before jax
    looks for devices. `JAX_NUM_CPU_DEVICES` and `XLA_FLAGS=--xla_force_host_platform_device_count=N` stand where they
    are set.
    """
    given = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not given and "JAX_NUM_CPU_DEVICES" not in os.environ:
        common = max(math.gcd(*batch_sizes), 1)
        devices = max(n for n in range(1, num_cores() + 1) if common % n == 0)
        jax.config.update("jax_num_cpu_devices", devices)


def check_batch_size(batch_size: int, field: str) -> None:
    """Raises `DeviceError` where the devices cannot share a batch equally."""
    if batch_size % jax.device_count():
        count = jax.device_count()
        nearest = max(round(batch_size / count), 1) * count
        raise DeviceError(
            f"{field}={batch_size} cannot be divided by the {count} devices: give a multiple, e.g. {field}={nearest}, "
            "or fewer devices (on CPU: JAX_NUM_CPU_DEVICES=1)"
        )


def process_batch_indices(batch_size: int) -> np.ndarray:
    """Numbers of this process's videos within the whole batch."""
    local = batch_size // jax.process_count()
    return np.arange(local) + jax.process_index() * local


def replicated(tree: Any) -> Any:
    """Arrays that each process has whole, as arrays that are on every device of all processes; keys, too.

    In a run of one process they stay where they are.
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
    """Devices of a process beside one another, as its part of a batch is; on a TPU pod they need not be so."""
    return np.array(sorted(devices, key=lambda device: (device.process_index, device.id)))


class DataParallel:
    """`function(shared, *sharded)` mapped over the devices; see `data_parallel`."""

    def __init__(self, map_over: Callable, share: Callable, split: Callable, join: Callable, *, ahead: bool = True):
        self._map_over, self._share, self._split, self._join, self._ahead = map_over, share, split, join, ahead
        self._programs: dict[Any, Callable] = {}

    def __call__(self, shared: Any, *sharded: Any) -> Any:
        """Runs the function; compiles it at the first call with such shapes."""
        arguments = self._place(shared, sharded)
        return self._join(self._compiled_for(arguments)(*arguments))

    def compiled(self, shared: Any, *sharded: Any) -> Any:
        """The program that such a call runs, with its `cost_analysis` and `memory_analysis`; of one process."""
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
        # What comes back is on every device: so is what is sent in the first time, for the same program.
        return self._share(shared), *jax.tree.map(self._split, sharded)


def _return_freed_memory() -> None:
    """Gives back what the compiler has freed, half a gigabyte at the paper's size; glibc would keep it."""
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
    """Maps `function(shared, *sharded)` over the devices.

    Args:
        function: for one device; `shared` is the same on each, arrays in `sharded` are its part of the batch. It may
            use collectives over `AXIS`.
        kind: "pmap" or "shard_map"; they give the same numbers. In a jax without `pmap`, both are `shard_map`.
        shared_outputs: the outputs are equal on all devices (made so by collectives) and come back once. Otherwise
            they are per-example and come back joined along their first axis, as this process's part of the batch.
        donate_first: `shared` may be overwritten.
        devices: all of every process, if not given.

    Returns:
        A function of the same arguments, always as many, whose `sharded` arrays have the batch of this process as
        first axis.
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

    # A program compiled ahead of its call would want arrays of all processes.
    return DataParallel(map_over, share, split, join, ahead=jax.process_count() == 1)


def _shard_map(function, mesh, shared_outputs, donate):
    everywhere, split = PartitionSpec(), PartitionSpec(AXIS)

    def map_over(count):
        specs, out_specs = (everywhere, *[split] * count), everywhere if shared_outputs else split
        # Varying-axes checks would make pmean of a gradient sum it once more.
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
