"""Several processes, one run: who this process is, how they start, and what they agree on.

One command serves one process, ``--nproc N`` on one machine, ``torchrun`` over several and ``srun`` under SLURM:
whoever starts us leaves rank and size in the environment.
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
from cvhpe.io.process_pool import num_cores

PATIENCE = timedelta(hours=1)
"""How long processes wait for one another, as while the first one validates. The launcher ends all if one dies."""


class Rank0Error(UserError):
    """A fault of the first process, which tells of it; the others end in silence."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of a run. rank: its number. local: its number on its machine, and its GPU's."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def is_rank0(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.rank == 0

    def run_on_rank0(self, work: Callable[[], Any]) -> None:
        """Let the first process do ``work`` before any goes on; its :class:`UserError` ends all of them."""
        said: list[str | None] = [None]
        fault: UserError | None = None
        if self.is_rank0:
            try:
                work()
            except UserError as error:
                fault, said = error, [str(error)]
        if self.size > 1:
            dist.broadcast_object_list(said, 0)
            if said[0] is not None:
                dist.barrier()  # who leaves while others still hear of it pulls the connection from under them
        if fault is not None:
            raise fault
        if said[0] is not None:
            raise Rank0Error(said[0])

    def all_reduce_max(self, number: int) -> int:
        """The largest of the processes' numbers; the host waits, the GPU does not."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """The sum of the processes' tensors, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values


def world_of(env: Mapping[str, str]) -> ProcessGroup:
    """Who this process is, by the variables of ``torchrun`` or of a SLURM job step.

    >>> world_of({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    ProcessGroup(rank=3, size=8, local=1)
    >>> world_of({"SLURM_NTASKS": "8"})  # a batch script, not a step of it
    ProcessGroup(rank=0, size=1, local=0)
    """
    if "WORLD_SIZE" in env and "RANK" in env:
        return ProcessGroup(int(env["RANK"]), int(env["WORLD_SIZE"]), int(env.get("LOCAL_RANK", 0)))
    if "SLURM_STEP_NUM_TASKS" in env and "SLURM_PROCID" in env:
        return ProcessGroup(
            int(env["SLURM_PROCID"]), int(env["SLURM_STEP_NUM_TASKS"]), int(env.get("SLURM_LOCALID", 0))
        )
    return ProcessGroup()


def local_device(env: Mapping[str, str], local: int, seen: int) -> int:
    """Which of the GPUs that this process sees is its own: under ``--gpus-per-task 1`` SLURM shows it no other.

    >>> local_device({"SLURM_LOCALID": "3"}, 3, 1), local_device({"SLURM_LOCALID": "3"}, 3, 8), local_device({}, 3, 1)
    (0, 3, 3)
    """
    alone = seen == 1 and "SLURM_LOCALID" in env and "LOCAL_RANK" not in env
    return 0 if alone else local


def rendezvous_address(env: Mapping[str, str]) -> tuple[str, int]:
    """Where the processes meet: ``MASTER_ADDR`` and ``MASTER_PORT``, or the first node and the number of a SLURM job.

    >>> rendezvous_address({"SLURM_STEP_NODELIST": "gpu[007-009,12],cpu1", "SLURM_JOB_ID": "1234567"})
    ('gpu007', 44567)
    """
    address = env.get("MASTER_ADDR")
    if address is None:
        nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
        found = re.match(r"([^\[,]+)(?:\[(\w+))?", nodes)
        if found is None:
            raise UserError("several processes, but no MASTER_ADDR says where they meet; start them with torchrun")
        address = found[1] + (found[2] or "")
    port = env.get("MASTER_PORT")
    return address, int(port) if port else 40000 + int(env.get("SLURM_JOB_ID", 0)) % 10000


@contextmanager
def process_group(world: ProcessGroup, device: torch.device) -> Iterator[ProcessGroup]:
    """Meet the other processes: NCCL for what is on GPUs, gloo for what is not."""
    if world.size == 1:
        yield world
        return
    address, port = rendezvous_address(os.environ)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    dist.init_process_group(
        backend, f"tcp://{address}:{port}" if "RANK" not in os.environ else "env://",
        rank=world.rank, world_size=world.size, timeout=PATIENCE,
    )  # fmt: skip
    global met
    met = True
    try:
        yield world
    finally:
        dist.destroy_process_group()


met = False
"""Whether this process has met others."""


def exit_now(code: int) -> NoReturn:
    """End a process that has met others, without Python's and the C++ libraries' own endings.

    gloo's threads outlive their destroyed group wherever a model was trained by DistributedDataParallel (torch 2.14),
    and some processes in a hundred abort when the libraries end under them, after a run that went well.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or a full disk: it was said before
            stream.flush()
    os._exit(code)


def wrap_ddp(model: nn.Module, world: ProcessGroup, device: torch.device, same_pairs: bool) -> nn.Module:
    """The model as the processes train it together: gradients are averaged while backward still runs.

    same_pairs: whether every process has work for every network in every step. Only then may batch statistics be
    those of the whole batch, since a process without work would be waited for in the middle of a forward pass.
    """
    if world.size == 1:
        return model
    if device.type == "cuda" and same_pairs:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    places = [device] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(model, device_ids=places, gradient_as_bucket_view=True)


def launch(procs: int, arguments: Sequence[str]) -> int:
    """Run ``cvhpe`` with ``arguments`` in ``procs`` processes of this machine.

    Returns the exit code that the first to fail has given itself; 128 and the signal's number where all were killed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import get_args_parser, run

    cores = num_cores()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // procs)))
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the processes speak for themselves
    asked = ["--standalone", "--nproc-per-node", str(procs), "--max-restarts", "0", "-m", "cvhpe", *arguments]
    try:
        run(get_args_parser().parse_args(asked))
    except ChildFailedError as error:
        failed = sorted(error.failures.values(), key=lambda failure: failure.timestamp)
        codes = [failure.exitcode for failure in failed]
        return next((code for code in codes if code > 0), 128 - codes[0])
    except SignalException as signal:
        return 128 + int(signal.sigval)
    return 0


def without_procs(arguments: Sequence[str]) -> list[str]:
    """A command line without its ``--nproc N``, for the processes that it starts.

    >>> without_procs(["train", "--nproc", "2", "--out", "run", "--nproc=3"])
    ['train', '--out', 'run']
    """
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip or argument == "--nproc":
            skip = not skip
        elif not argument.startswith("--nproc="):
            kept.append(argument)
    return kept


def is_peer_failure(world: ProcessGroup, error: RuntimeError) -> bool:
    """Whether an error says no more than that another process of the run has ended."""
    if world.size == 1 or not isinstance(error, RuntimeError):
        return False
    return isinstance(error, dist.DistError) or any(
        sign in str(error) for sign in ("gloo", "Connection closed by peer", "Connection reset", "NCCL")
    )


def say_elsewhere(world: ProcessGroup, error: UserError) -> None:
    """Tell of a fault that is this machine's own, once a machine; the first process's own words come elsewhere."""
    if world.local == 0 and not isinstance(error, Rank0Error):
        print(f"process {world.rank}: error: {error}", file=sys.stderr)
