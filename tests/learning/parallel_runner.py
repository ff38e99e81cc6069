"""Run functions, or trainings in float64, in several forked gloo processes.

Called with a JSON list of cases and a folder. A case is a training, {"name", "sizes": [1, 2],
"fold", "wanted", "prepared", "statistics", "teacher", "frozen"}, or {"name", "sizes", "call": name
of a function here}.
Prints {case: {size: [what each rank returned]}}; a training's rank 0 writes its weights to
FOLDER/CASE-SIZE.safetensors. In float64 rounding is some 1e-15, so what differs more is wrong.
"""

import copy
import json
import os
import sys
from pathlib import Path
from typing import Any

import timm  # noqa: F401  (once, not in each fork)
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from cmkd.learning import fit, inputs, parallel, train
from cmkd.learning.objectives import find
from cmkd.learning.parallel import World


class Doubled:
    """Views, in float64."""

    def __init__(self, views: Any) -> None:
        self.views = views

    def epoch(self, number: int) -> "Doubled":
        return Doubled(self.views.epoch(number))

    def __len__(self) -> int:
        return len(self.views)

    def batch(self, start: int, stop: int) -> Any:
        batch = self.views.batch(start, stop)
        student = batch.student.double()
        same = batch.teacher is batch.student
        teacher = student if same or batch.teacher is None else batch.teacher.double()
        return batch._replace(student=student, teacher=teacher, targets=batch.targets.double())


def freeze(model: nn.Module) -> None:
    """Keep batch norm in eval mode, whatever `train()` says."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]
            module.training = False


def training(case: dict, world: World, folder: Path) -> Any:
    """Train a case and return its history."""
    paths = {key: case[key] and Path(case[key]) for key in
             ("wanted", "prepared", "statistics", "teacher")}  # fmt: skip
    found = inputs.gather(**paths, fold=case["fold"], seed=0, initial=None)
    task = train.build_task(found, {"device": "cpu"}, world)
    if case.get("frozen"):
        freeze(task.model)
    task.model.double()
    task.views = Doubled(task.views)  # type: ignore[assignment]
    if task.teacher:
        task.teacher.model.double()
        task.teacher.hash = train.teacher.fingerprint(task.teacher.model)
    score = task.validate
    task.validate = score and (lambda model: score(copy.deepcopy(model).float()))
    rows = fit.fit(task, fit.State())
    if world.leader:
        weights = task.readouts.weights(task.readouts.names[0], task.model)
        tensors = {key: value.contiguous() for key, value in weights.items()}
        save_file(tensors, folder / f"{case['name']}-{world.size}.safetensors")
    return rows


def net() -> nn.Module:
    """Return a small model with batch norm and a weight that nothing uses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4)).double()
    model.register_parameter("unused", nn.Parameter(torch.ones(3)))
    return model


def gradients(world: World) -> Any:
    """Return how far the gradients of a coupled loss are from autograd's on the whole batch."""
    torch.manual_seed(1)
    views, soft = torch.randn(11, 6).double(), torch.randn(11, 4).double()
    targets = F.one_hot(torch.arange(11) % 4).double()
    options = {"labels": "single", "lambda": 0.3, "tau": 2.0, "beta": 2.0, "gamma": 1.0}
    own, whole = net().eval(), net().eval()
    begin, end = world.part(3, 8)  # five rows for up to four processes
    answer, labels, taught = world.whole(
        own(views[begin:end]), targets[begin:end], soft[begin:end], 3, 8
    )
    total = find("dist")(answer, taught, labels, options).total
    total.backward()
    world.add(own, (end - begin) / 5)
    # The oracle: the same loss by hand, with numpy's correlation as autograd operations.
    logits = whole(views[3:8])
    hard = -(targets[3:8] * logits.log_softmax(-1)).sum(-1).mean()
    one, other = (z.div(2.0).softmax(-1) for z in (logits, soft[3:8]))
    inter = torch.stack(
        [torch.corrcoef(torch.stack(p))[0, 1] for p in zip(one, other, strict=True)]
    )
    intra = torch.stack(
        [torch.corrcoef(torch.stack(p))[0, 1] for p in zip(one.T, other.T, strict=True)]
    )
    expected = 0.3 * hard + 0.7 * 4.0 * (2.0 * (1 - inter.mean()) + (1 - intra.mean()))
    expected.backward()
    pairs = list(zip(own.parameters(), whole.parameters(), strict=True))
    apart = [(a.grad - b.grad).abs().max().item() for a, b in pairs if b.grad is not None]
    return {
        "apart": max(apart),
        "loss": abs(total.item() - expected.item()),
        "largest": max(b.grad.abs().max().item() for _, b in pairs if b.grad is not None),
        "unused": own.unused.grad is None,
    }


def empty(world: World) -> Any:
    """Return the sum over processes of gradients where all but the first have no row."""
    own, whole = net().eval(), net().eval()
    views, targets = torch.ones(1, 6).double(), torch.eye(4)[:1].double()
    begin, end = world.part(0, 1)
    answer, labels, _ = world.whole(own(views[begin:end]), targets[begin:end], None, 0, 1)
    F.cross_entropy(answer, labels).backward()
    world.add(own, end - begin)
    F.cross_entropy(whole(views), targets).backward()
    pairs = zip(own.parameters(), whole.parameters(), strict=True)
    return max((a.grad - b.grad).abs().max().item() for a, b in pairs if b.grad is not None)


def live(world: World) -> Any:
    """Return running statistics after one step of live batch norm, and the mean of the parts'."""
    model, views = net(), torch.arange(66.0).double().view(11, 6) / 66
    begin, end = world.part(0, 11)
    model(views[begin:end]).sum().backward()
    world.add(model, (end - begin) / 11)
    places = [parallel.part(0, 11, rank, world.size) for rank in range(world.size)]
    features = [net()[0](views[slice(*place)]) for place in places]
    variance = sum(x.var(0) * len(x) / 11 for x in features)
    return [
        (model[1].running_mean - 0.1 * torch.cat(features).mean(0)).abs().max().item(),
        (model[1].running_var - (0.9 + 0.1 * variance)).abs().max().item(),
    ]


def values(world: World) -> Any:
    """Return what the leader shared, and what any process was asked."""
    own = {"rank": world.rank, "text": "schön", "score": 0.1 + 0.2, "none": None}
    tensors = {"whole": torch.tensor(world.rank + 7), "rows": torch.full((2, 3), float(world.rank)),
               "empty": torch.empty(0, 4)} if world.leader else {}  # fmt: skip
    got = world.share_tensors(tensors)
    return {
        "shared": world.share(own if world.leader else None),
        "tensors": {key: [str(t.dtype), t.tolist()] for key, t in got.items()},
        "one": world.stops(world.rank == world.size - 1),
        "none": world.stops(False),
    }


def unequal(world: World) -> Any:
    """Return what is said where the last process's weights differ in one bit."""
    model = net()
    world.check_equal(model)
    if world.rank == world.size - 1:
        with torch.no_grad():
            model[0].bias[0] = torch.nextafter(model[0].bias[0], torch.tensor(9.0).double())
    try:
        world.check_equal(model)
    except RuntimeError as error:
        return str(error)
    return ""


def gone(world: World) -> Any:
    """Return what a process finds when another has left without a word."""
    if world.rank == world.size - 1:
        os._exit(0)
    try:
        while True:
            world.stops(False)
    except parallel.Parted as error:
        return type(error).__name__


def child(case: dict, rank: int, size: int, folder: Path, meeting: Path) -> None:
    """Be one of the processes and write what it returned."""
    world = World()
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
        world = parallel.Processes(rank, size)
    call = globals()[case["call"]] if "call" in case else None
    found = call(world) if call else training(case, world, folder)
    (folder / f"{case['name']}-{size}-{rank}.json").write_text(json.dumps(found))


def forked(case: dict, size: int, folder: Path) -> list[Any]:
    """Run a case in so many processes and return what each returned (None: it left)."""
    meeting = folder / f"meeting-{case['name']}-{size}"
    children = []
    for rank in range(size):
        process = os.fork()
        if process == 0:
            try:
                child(case, rank, size, folder, meeting)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        children.append(process)
    bad = [rank for rank, process in enumerate(children) if os.waitpid(process, 0)[1]]
    if bad:
        raise SystemExit(f"{case['name']} with {size} processes: {bad} failed")
    paths = [folder / f"{case['name']}-{size}-{rank}.json" for rank in range(size)]
    return [json.loads(path.read_text()) if path.exists() else None for path in paths]


def main() -> None:
    """Run all cases."""
    torch.set_num_threads(1)
    train.BATCH = 5  # so that a small validation split is several batches
    cases, folder = (
        json.loads(sys.argv[1]),
        Path(sys.argv[2]),
    )
    print(json.dumps({
        case["name"]: {size: forked(case, size, folder) for size in case["sizes"]}
        for case in cases
    }))  # fmt: skip


if __name__ == "__main__":
    main()
