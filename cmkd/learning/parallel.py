"""Several processes for one training, each with a device of its own and a part of every batch.

Every process computes the objective of the whole batch: logits, targets and soft targets of all
are gathered, and its own logits stand among them with their gradient. So any objective, also one
that couples the clips of a batch, has the value that it has in one process, and the processes'
gradients add up to its gradient. One process does nothing of this.

Gradients are summed by plain all_reduce, not by DistributedDataParallel: a weight that no process
used must stay without a gradient (Adam's L2 would move it), a part may be empty, and a division by
the number of processes would round. The price is that the sum does not overlap with the backward
pass. Plain numbers and flags go through gloo on the CPU, so that no step waits for a GPU twice.
"""

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cmkd.errors import ConfigError

# What torchrun gives to each process that it starts, and to nothing else.
STARTED_BY_TORCHRUN = "TORCHELASTIC_RUN_ID"
# The file that asks the processes to stop, in an environment variable that their launcher sets.
STOP = "CMKD_STOP"
BUCKET = 1 << 23  # weights whose gradients are added together (32 MB)
# A process that says nothing for so long is given up by the others; a dead one is seen at once.
PATIENCE = datetime.timedelta(minutes=30)


class Parted(RuntimeError):
    """The other processes are no longer there: one of them knows why."""


def part(start: int, stop: int, rank: int, size: int) -> tuple[int, int]:
    """Cut positions into `size` contiguous parts that differ by one at most; return one of them.

    The first ranks get the larger parts, so rank 0 has none only where there is nothing.
    """
    least, longer = divmod(stop - start, size)
    begin = start + rank * least + min(rank, longer)
    return begin, begin + least + (rank < longer)


class World:
    """One process alone: every operation gives back what it was given."""

    rank = 0
    size = 1

    @property
    def leader(self) -> bool:
        """Say whether this is the process that writes."""
        return self.rank == 0

    def part(self, start: int, stop: int) -> tuple[int, int]:
        """Return this process's part of some positions."""
        return part(start, stop, self.rank, self.size)

    def place(self, device: torch.device) -> torch.device:
        """Return this process's own device of a kind."""
        return device

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model with batch statistics over all processes, where there can be such."""
        return model

    def whole(
        self, answer: Any, targets: Tensor, soft: Tensor | None, start: int, stop: int
    ) -> tuple[Any, Tensor, Tensor | None]:
        """Return a batch's logits, targets and soft targets from those of this process's part."""
        return answer, targets, soft

    def add(self, model: nn.Module, share: float) -> None:
        """Add up gradients and average running statistics; `share` of the batch was made here."""

    def rows(self, own: Tensor, start: int, stop: int) -> Tensor:
        """Return the rows of all positions from those of this process's part."""
        return own

    def stops(self, asked: bool) -> bool:
        """Say whether any process was asked to stop."""
        return asked

    def share(self, value: Any) -> Any:
        """Return the leader's value, of what JSON can hold."""
        return value

    def share_tensors(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the leader's tensors, on the CPU where they came from another process."""
        return dict(named)

    def check_equal(self, model: nn.Module) -> None:
        """Raise RuntimeError unless all processes hold the same weights, to the bit."""

    def wait(self) -> None:
        """Wait until all processes have come here."""


class Processes(World):
    """This process among several of torch.distributed's default group."""

    def __init__(self, rank: int, size: int, local: int = 0) -> None:
        """Take the rank, the number of processes, and the number of this one on its machine."""
        self.rank, self.size, self.local = rank, size, local
        self.launcher = os.getppid()
        self.order = Path(os.environ[STOP]) if STOP in os.environ else None

    def place(self, device: torch.device) -> torch.device:
        """Return this process's own GPU, or the CPU."""
        if device.type != "cuda":
            return device
        own = torch.device("cuda", self.local)
        torch.cuda.set_device(own)
        return own

    def prepare(self, model: nn.Module) -> nn.Module:
        """Return the model with SyncBatchNorm on GPUs; on a CPU there is none, and no change."""
        if all(weight.device.type != "cuda" for weight in model.parameters()):
            return model
        # torch's own conversion would lose the activation within timm's batch norms.
        from timm.layers.norm_act import convert_sync_batchnorm

        converted: nn.Module = convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted

    def whole(
        self, answer: Any, targets: Tensor, soft: Tensor | None, start: int, stop: int
    ) -> tuple[Any, Tensor, Tensor | None]:
        """Gather the batch in one collective and put the own logits, still live, in their place."""
        own = list(answer) if isinstance(answer, tuple) else [answer]
        tables = [*own, targets] if soft is None else [*own, targets, soft]
        packed = torch.cat([table.detach() for table in tables], dim=1)
        together = self.rows(packed, start, stop)
        columns = torch.split(together, [table.shape[1] for table in tables], dim=1)
        begin, end = (place - start for place in self.part(start, stop))
        live = [
            torch.cat([column[:begin], mine, column[end:]])
            for mine, column in zip(own, columns, strict=False)
        ]
        rest = [column.contiguous() for column in columns[len(own) :]]
        whole = type(answer)(*live) if isinstance(answer, tuple) else live[0]
        return whole, rest[0], rest[1] if len(rest) > 1 else None

    def rows(self, own: Tensor, start: int, stop: int) -> Tensor:
        """Gather rows [own, columns] of all processes, in order; parts may differ or be empty."""
        places = [part(start, stop, rank, self.size) for rank in range(self.size)]
        counts = [end - begin for begin, end in places]
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in counts]
        with _together():
            dist.all_gather(found, padded)
        return torch.cat([rows[:count] for rows, count in zip(found, counts, strict=True)])

    def add(self, model: nn.Module, share: float) -> None:
        """Sum gradients in buckets; running statistics become the mean over the clips' shares."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        used = torch.tensor([weight.grad is not None for weight in weights], dtype=torch.uint8)
        with _together():
            dist.all_reduce(used, dist.ReduceOp.MAX)
        chosen = [weight for weight, some in zip(weights, used.tolist(), strict=True) if some]
        for bucket in _buckets(chosen):
            _sum_gradients(bucket)
        buffers = _running(model)
        if buffers:
            flat = torch.cat([buffer.flatten() for buffer in buffers]) * share
            with _together():
                dist.all_reduce(flat)
            for buffer, piece in zip(buffers, _cut(flat, buffers), strict=True):
                buffer.copy_(piece)

    def stops(self, asked: bool) -> bool:
        """Say whether any process was asked to stop, or has lost its launcher."""
        order = self.leader and self.order is not None and self.order.exists()
        return self._any(asked or order or os.getppid() != self.launcher)

    def _any(self, flag: bool) -> bool:
        """Say whether the flag is set in any process."""
        found = torch.tensor([flag], dtype=torch.uint8)
        with _together():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found.item())

    def share(self, value: Any) -> Any:
        """Send the leader's value to all as JSON."""
        text = json.dumps(value).encode() if self.leader else b""
        length = torch.tensor([len(text)])
        with _together():
            dist.broadcast(length, 0)
        body = torch.tensor(list(text), dtype=torch.uint8)
        body = body if self.leader else torch.empty(int(length), dtype=torch.uint8)
        with _together():
            dist.broadcast(body, 0)
        return json.loads(bytes(body.numpy()))

    def share_tensors(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Send the leader's tensors to all, byte by byte, through the CPU."""
        about = self.share({key: [str(t.dtype), list(t.shape)] for key, t in named.items()})
        result = {}
        for key, (kind, shape) in about.items():
            dtype = getattr(torch, kind.removeprefix("torch."))
            body = torch.empty(shape, dtype=dtype)
            if self.leader:
                body.copy_(named[key])
            if body.numel():
                with _together():
                    dist.broadcast(body.reshape(-1).view(torch.uint8), 0)
            result[key] = body
        return result

    def check_equal(self, model: nn.Module) -> None:
        """Raise RuntimeError unless all processes hold the same weights, to the bit."""
        total = hashlib.sha256()
        for weight in model.parameters():
            flat = weight.detach().cpu().contiguous().view(-1)
            total.update(flat.view(torch.uint8).numpy().data)
        if self._any(self.share(total.hexdigest()) != total.hexdigest()):
            raise RuntimeError(
                f"the {self.size} processes of this training no longer hold the same weights; "
                "the result must not be used, please report this as a bug"
            )

    def wait(self) -> None:
        """Wait until all processes have come here."""
        self._any(False)


def started() -> bool:
    """Say whether torchrun started this process."""
    return STARTED_BY_TORCHRUN in os.environ


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Around what all processes do at once: raise Parted where the others are gone."""
    try:
        yield
    except RuntimeError as error:
        raise Parted(f"the other processes of this training are gone: {error}") from error


@contextlib.contextmanager
def joined(wanted: str = "auto") -> Iterator[World]:
    """Give the world of this process: alone, or with the others that torchrun started.

    `wanted` is the device that `execution` asks for. Raises ConfigError where this machine has
    fewer GPUs than processes.
    """
    if not started():
        yield World()
        return
    local, here = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = wanted != "cpu" and torch.cuda.is_available()
    if on_gpu and torch.cuda.device_count() < here:
        raise ConfigError(
            f"execution.gpus asks for {here} GPUs on this machine and PyTorch sees "
            f"{torch.cuda.device_count()}; ask for fewer, or for more in the job"
        )
    with _together():
        dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=PATIENCE)
    yield Processes(dist.get_rank(), dist.get_world_size(), local)
    # Not after an error: the others may no longer be there to take leave of.
    dist.destroy_process_group()


def _buckets(weights: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield weights of one kind in groups of at most BUCKET numbers, or of one weight."""
    group: list[nn.Parameter] = []
    for weight in weights:
        full = sum(other.numel() for other in group) + weight.numel() > BUCKET
        if group and (full or weight.dtype != group[0].dtype):
            yield group
            group = []
        group.append(weight)
    if group:
        yield group


def _sum_gradients(weights: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of some weights by their sums over all processes."""
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _together():
        dist.all_reduce(flat)
    for gradient, piece in zip(gradients, _cut(flat, gradients), strict=True):
        gradient.copy_(piece)


def _cut(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Cut a flat tensor into pieces of given shapes."""
    pieces = torch.split(flat, [tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]


def _running(model: nn.Module) -> list[Tensor]:
    """Return the running statistics that each process's batch norms have made of its own part."""
    found: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
            statistics = (module.running_mean, module.running_var) if module.training else ()
            found += [buffer for buffer in statistics if buffer is not None]
    return found
