"""Several processes at work on one run: who they are, and the few things that they tell each other.

Runs of MD and islands of the sampler are dealt out by number; in training every process takes a part of
each batch, and gradients are averaged. The first process writes what is shared; the others write only the
pieces that they have finished (`boltzgen.runtime.checkpoints`), so all of them need to see the run directory.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from boltzgen.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PATIENCE = timedelta(days=365)
"""How long one waits for another, whose part may take days; a process that is gone is noticed at once."""


@dataclass(frozen=True)
class Processes:
    """This process among ``size`` of them; by default there is no other.

    rank, local_rank
        Its number among all, and among those on this machine, of which there are ``local_size``.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, n: int) -> range:
        """The part of the numbers 0 to n - 1 that falls to this process."""
        return range(self.rank, n, self.size)

    def barrier(self) -> None:
        """Wait until everybody has come here."""
        if self.size > 1:
            import torch.distributed as dist

            dist.barrier()

    def from_first(self, value: T | None) -> T | None:
        """The value that the first process gives, in every process."""
        if self.size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        import torch.distributed as dist

        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return cast("list[T]", values)

    def average_(self, tensors: list[Tensor]) -> None:
        """Replace tensors by their means over all processes."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [p.view_as(t) for p, t in zip(parts, tensors, strict=True)])


ALONE = Processes()


LOST_CONTACT = 3
"""Exit status of a process that another one has left: whatever happened, happened there."""


def is_lost_contact(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    import torch.distributed as dist

    words = ("gloo", "nccl", "closed by peer", "reset by peer")
    return isinstance(error, dist.DistError) or any(word in str(error).lower() for word in words)


def launched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher (ours, torchrun or srun) has started this process among others."""
    return _by_torchrun(environment) or _by_slurm(environment)


def join(devices: int, nodes: int, environment: Mapping[str, str] = os.environ) -> Processes:
    """Meet the other processes of ``nodes`` times ``devices``.

    Raises ConfigError where the launcher has started another number of them.
    """
    if _by_torchrun(environment):
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        rank, size, local_rank = (int(environment[name]) for name in names)
        address = f"tcp://{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
    else:
        from lightning.pytorch.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment()
        rank, size, local_rank = slurm.global_rank(), slurm.world_size(), slurm.local_rank()
        address = f"tcp://{slurm.main_address}:{slurm.main_port}"
    if size != devices * nodes:
        raise ConfigError(
            f"--devices {devices} --nodes {nodes}",
            f"that is {devices * nodes} processes, but the launcher has started {size}",
            "make the two agree",
        )
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(local_rank)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size, timeout=PATIENCE)
    return Processes(rank, size, local_rank, devices)


def _by_torchrun(environment: Mapping[str, str]) -> bool:
    return {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"} <= set(environment)


def _by_slurm(environment: Mapping[str, str]) -> bool:
    """A step of srun with several tasks; the script given to sbatch, or a shell of srun's, is none."""
    names = {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID"}
    return names <= set(environment) and int(environment["SLURM_NTASKS"]) > 1
