"""One training in 1, 2 and 4 processes: what differs?

    python benchmarks/processes.py RECIPE.yaml [RECIPE.yaml ...] --fold 1 \
        --prepared results/prepared/esc10 --statistics STATS.json [--epochs 20]

Trains each recipe (a run folder's recipe.yaml, without a teacher) on the CPU in so many processes,
with live batch norm and, where the model has any, with its running statistics frozen; then, to
compare with, in one process with the next seed. Prints a Markdown table of the largest differences
to the training in one process: of the weights, of the test clips' logits, and of the metric.
With --float64 it trains in twice the precision, which tells rounding from anything else.
"""

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
import yaml
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from cmkd.audio.views import Banks
from cmkd.learning import fit, inputs, parallel, train
from cmkd.scoring.metrics import all_metrics
from cmkd.scoring.predict import BATCH, predict

CPU = torch.device("cpu")
SIZES = (1, 2, 4)


class Way(NamedTuple):
    """How a recipe is trained."""

    recipe: Path
    frozen: bool
    size: int
    seed: int


class Ends(NamedTuple):
    """What a training came to."""

    weights: dict[str, torch.Tensor]
    logits: Any
    metric: float
    loss: float


def freeze(model: nn.Module) -> None:
    """Keep batch norm in eval mode, whatever `train()` says."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module  # type: ignore[method-assign]


class Doubled:
    """Views in float64; of an epoch, too."""

    def __init__(self, views: Any) -> None:
        """Take the views that there are."""
        self.views = views

    def epoch(self, number: int) -> "Doubled":
        """Return an epoch."""
        return Doubled(self.views.epoch(number))

    def __len__(self) -> int:
        """Return its number of positions."""
        return len(self.views)

    def batch(self, start: int, stop: int) -> Any:
        """Return some of its positions."""
        batch = self.views.batch(start, stop)
        return batch._replace(student=batch.student.double(), targets=batch.targets.double())


def trained(way: Way, given: argparse.Namespace, world: parallel.World, out: Path) -> None:
    """Train in one of the processes; the first one writes what came out."""
    found = inputs.gather(
        way.recipe, given.fold, way.seed, given.prepared, given.statistics, None, None
    )
    task = train.build_task(found, {"device": "cpu"}, world)
    if way.frozen:
        freeze(task.model)
    if given.float64:
        task.model.double()
        task.views = Doubled(task.views)  # type: ignore[assignment]
    rows = fit.fit(task, fit.State())
    if not world.leader:
        return
    test = found.clips.subset(given.fold, "test")
    banks = Banks(found.clips, test, found.recipe["input"])
    batches = (batch.double() if given.float64 else batch for batch in banks.batches(BATCH))
    logits = predict(task.model, batches, CPU)
    scores = all_metrics(logits, found.clips.labels[test], found.recipe["dataset"]["labels"])
    ends = {f"weight/{key}": value.contiguous() for key, value in task.model.state_dict().items()}
    ends |= {"logits": torch.from_numpy(logits)}
    ends |= {"metric": torch.tensor(scores[task.metric]), "loss": torch.tensor(rows[-1]["loss"])}
    save_file(ends, out)


def run(way: Way, given: argparse.Namespace, folder: Path) -> Ends:
    """Fork the processes of a training and return what it came to."""
    out, meeting = folder / "ends.safetensors", folder / "meeting"
    meeting.unlink(missing_ok=True)
    children = []
    for rank in range(way.size):
        process = os.fork()
        if process == 0:
            world = parallel.World()
            if way.size > 1:
                place = {"init_method": f"file://{meeting}", "rank": rank, "world_size": way.size}
                dist.init_process_group("gloo", **place)
                world = parallel.Processes(rank, way.size)
            trained(way, given, world, out)
            os._exit(0)
        children.append(process)
    if any([os.waitpid(child, 0)[1] for child in children]):  # all of them are waited for
        raise SystemExit(f"{way}: a process failed")
    ends = load_file(out)
    weights = {key: value for key, value in ends.items() if key.startswith("weight/")}
    metric, loss = (float(ends[key]) for key in ("metric", "loss"))
    return Ends(weights, ends["logits"].numpy(), metric, loss)


def row(name: str, batch_norm: str, way: str, ends: Ends, one: Ends) -> str:
    """Return a line of the table."""
    keys = [key for key, value in ends.weights.items() if value.is_floating_point()]
    largest = max(float((ends.weights[key] - one.weights[key]).abs().max()) for key in keys)
    logits = float(np.abs(ends.logits - one.logits).max())
    cells = (name, batch_norm, way, f"{largest:.1e}", f"{logits:.1e}", f"{ends.loss:.6f}",
             f"{100 * ends.metric:.2f}", f"{100 * (ends.metric - one.metric):+.2f}")  # fmt: skip
    return f"| {' | '.join(cells)} |"


def shortened(path: Path, epochs: int | None, folder: Path) -> Path:
    """Return a recipe with so many epochs."""
    recipe = yaml.safe_load(path.read_text())
    recipe["training"]["epochs"] = epochs or recipe["training"]["epochs"]
    out = folder / f"{recipe['run']}.yaml"
    out.write_text(yaml.safe_dump(recipe))
    return out


def compare(path: Path, given: argparse.Namespace, folder: Path) -> None:
    """Print the lines of one recipe."""
    recipe = shortened(path, given.epochs, folder)
    found = inputs.gather(recipe, given.fold, 0, given.prepared, given.statistics, None, None)
    norms = any(isinstance(module, _BatchNorm) for module in train.build_model(found).modules())
    for frozen in (False, True) if norms else (False,):
        kind = ("frozen" if frozen else "live") if norms else "none"
        one = run(Way(recipe, frozen, 1, 0), given, folder)
        for size in SIZES:
            ends = one if size == 1 else run(Way(recipe, frozen, size, 0), given, folder)
            print(row(recipe.stem, kind, f"{size} process(es)", ends, one), flush=True)
        other = run(Way(recipe, frozen, 1, 1), given, folder)
        print(row(recipe.stem, kind, "another seed", other, one), flush=True)


def main() -> None:
    """Compare the recipes that were named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--prepared", type=Path, required=True)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--float64", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | batch norm | trained in | weights | logits | last loss | metric | change |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for path in given.recipes:
            compare(path, given, Path(name))


if __name__ == "__main__":
    main()
