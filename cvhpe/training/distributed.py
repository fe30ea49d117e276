"""Data-parallel training by several processes: who this process is, how they start, and what they agree on.

``--nproc N`` starts processes on one machine, ``torchrun`` on several, ``srun`` under SLURM; each leaves rank and size
in the environment.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
import torch.distributed as dist
from torch import Tensor, nn

from cvhpe.errors import UserError

TIMEOUT = timedelta(hours=1)
"""How long processes wait for one another, as while rank 0 validates. If one dies, its launcher ends the others."""

has_joined = False
"""Whether this process has joined a group of several."""


class Rank0Error(UserError):
    """Raised on the other ranks for an error that rank 0 prints; they exit without a message."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of a run.

    Args:
        rank: number of this process.
        size: number of processes.
        local_rank: number of this process on its machine.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> ProcessGroup:
        """The group that ``torchrun`` or a SLURM job step describes.

        >>> ProcessGroup.from_env({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
        ProcessGroup(rank=3, size=8, local_rank=1)
        >>> ProcessGroup.from_env({"SLURM_NTASKS": "8"})  # a batch script, not a step of it
        ProcessGroup(rank=0, size=1, local_rank=0)
        """
        for rank, size, local_rank in (
            ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
            ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
        ):
            if rank in env and size in env:
                return cls(int(env[rank]), int(env[size]), int(env.get(local_rank, 0)))
        return cls()

    @property
    def is_rank0(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def run_on_rank0(self, work: Callable[[], Any]) -> None:
        """Run something on rank 0 while the others wait.

        Args:
            work: called without arguments.

        Raises:
            UserError: On rank 0, if ``work`` raises it.
            Rank0Error: On the others then.
        """
        message: list[str | None] = [None]
        fault: UserError | None = None
        if self.is_rank0:
            try:
                work()
            except UserError as error:
                fault, message = error, [str(error)]
        if self.size > 1:
            dist.broadcast_object_list(message, 0)
            if message[0] is not None:
                dist.barrier()  # a process that leaves early would break the connection for those still receiving
        if fault is not None:
            raise fault
        if message[0] is not None:
            raise Rank0Error(message[0])

    def all_reduce_max(self, number: int) -> int:
        """The largest of the processes' numbers; the host waits, the GPU does not."""
        if self.size == 1:
            return number
        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of the processes' tensors, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


def local_device(env: Mapping[str, str], local_rank: int, num_visible: int) -> int:
    """The GPU of a process among those it sees: under ``--gpus-per-task 1`` SLURM shows it no other.

    Args:
        env: environment variables.
        local_rank: number of the process on its machine.
        num_visible: number of GPUs it sees.

    Returns:
        Number of its GPU.

    Example:
        >>> slurm = {"SLURM_LOCALID": "3"}
        >>> local_device(slurm, 3, 1), local_device(slurm, 3, 8), local_device({}, 3, 1)
        (0, 3, 3)
    """
    own_only = num_visible == 1 and "SLURM_LOCALID" in env and "LOCAL_RANK" not in env
    return 0 if own_only else local_rank


def rendezvous_address(env: Mapping[str, str]) -> tuple[str, int]:
    """Where the processes of a run meet.

    Args:
        env: environment variables: ``MASTER_ADDR`` and ``MASTER_PORT``, or those of a SLURM job.

    Returns:
        Host and port; of a SLURM job its first node, and a port that follows from its number.

    Raises:
        UserError: If neither is given.

    Example:
        >>> rendezvous_address({"SLURM_STEP_NODELIST": "gpu[007-009,12],cpu1", "SLURM_JOB_ID": "1234567"})
        ('gpu007', 44567)
    """
    address = env.get("MASTER_ADDR")
    if address is None:
        nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
        match = re.match(r"([^\[,]+)(?:\[(\w+))?", nodes)
        if match is None:
            raise UserError("several processes, but no MASTER_ADDR says where they meet; start them with torchrun")
        address = match[1] + (match[2] or "")
    port = env.get("MASTER_PORT")
    return address, int(port) if port else 40000 + int(env.get("SLURM_JOB_ID", 0)) % 10000


@contextmanager
def process_group(group: ProcessGroup, device: torch.device) -> Iterator[ProcessGroup]:
    """Connect the processes of a run: NCCL for tensors on GPUs, gloo for others.

    Args:
        group: this process and the number of all.
        device: of this process.

    Yields:
        The group, connected.
    """
    global has_joined
    if group.size == 1:
        yield group
        return
    address, port = rendezvous_address(os.environ)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
        "env://" if "RANK" in os.environ else f"tcp://{address}:{port}",
        rank=group.rank,
        world_size=group.size,
        timeout=TIMEOUT,
    )
    has_joined = True
    try:
        yield group
    finally:
        dist.destroy_process_group()


def exit_now(code: int) -> NoReturn:
    """End a process that has joined a group, without the interpreter's and the C++ libraries' own shutdown.

    gloo's threads outlive their destroyed group wherever a model was trained by DistributedDataParallel (torch 2.14),
    and some processes in a hundred abort in the shutdown, after a run that went well.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or a full disk, which was reported before
            stream.flush()
    os._exit(code)


def wrap_ddp(model: nn.Module, group: ProcessGroup, device: torch.device, same_pairs: bool) -> nn.Module:
    """Wrap a model so that its gradients are averaged over processes during the backward pass.

    Args:
        model: on its device.
        group: the processes.
        device: of the model.
        same_pairs: whether every process has samples for every network in every step. Only then are batch statistics
            those of the whole batch: a process without samples would block the others in the forward pass.

    Returns:
        The wrapper; the model itself for a single process.
    """
    if group.size == 1:
        return model
    if device.type == "cuda" and same_pairs:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    device_ids = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)


def launch(nproc: int, arguments: Sequence[str]) -> int:
    """Run ``cvhpe`` in several processes of this machine.

    Args:
        nproc: number of processes.
        arguments: their command line.

    Returns:
        The exit code of the process that failed first by itself; 128 plus the signal's number if all were killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // nproc)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes print their own errors
    options = ["--standalone", "--nproc-per-node", str(nproc), "--max-restarts", "0", "-m", "cvhpe", *arguments]
    try:
        run(get_args_parser().parse_args(options))
    except ChildFailedError as error:
        failures = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        codes = [failure.exitcode for failure in failures]
        return next((code for code in codes if code > 0), 128 - codes[0])
    except SignalException as signal:
        return 128 + int(signal.sigval)
    return 0


def without_nproc(arguments: Sequence[str]) -> list[str]:
    """A command line without its ``--nproc N``, for the processes that it starts.

    >>> without_nproc(["train", "--nproc", "2", "--out", "run", "--nproc=3"])
    ['train', '--out', 'run']
    """
    rest: list[str] = []
    is_value = False
    for argument in arguments:
        if is_value or argument == "--nproc":
            is_value = not is_value
        elif not argument.startswith("--nproc="):
            rest.append(argument)
    return rest


def is_peer_failure(group: ProcessGroup, error: BaseException) -> bool:
    """Whether an error only says that another process of the run has ended.

    Args:
        group: the processes of the run.
        error: raised by this process.

    Returns:
        False for errors of this process.
    """
    if group.size == 1 or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or any(
        sign in str(error) for sign in ("gloo", "Connection closed by peer", "Connection reset", "NCCL")
    )


def print_local_error(group: ProcessGroup, error: UserError) -> None:
    """Print an error of this machine, once a machine; rank 0 prints its own.

    Args:
        group: the processes of the run.
        error: of this process.
    """
    if group.local_rank == 0 and not isinstance(error, Rank0Error):
        print(f"process {group.rank}: error: {error}", file=sys.stderr)
