"""Replay many runs into an MLflow server with PostgreSQL, both started here; print seconds.

python benchmarks/tracking.py [RUNS] [EPOCHS]
"""

import importlib.util
import shutil
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parents[1] / "tests" / "tracking"


def load(name):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def timed(label, work):
    wall, own = time.monotonic(), time.process_time()
    said = work()
    print(f"{label}: {time.monotonic() - wall:.1f} s, of it {time.process_time() - own:.1f} s CPU "
          f"here; {said}", flush=True)  # fmt: skip


def main(runs=200, epochs=50):
    import os

    from cmkd import tracking
    from cmkd.tracking import watching

    trees, servers = load("trees"), load("servers")
    folder = Path(tempfile.mkdtemp(prefix="cmkd-bench-"))
    folder.chmod(0o755)
    postgres = servers.Postgres(folder / "postgres")
    server = servers.Server(folder / "server", postgres.uri)
    try:
        os.environ["MLFLOW_TRACKING_URI"] = server.uri
        seeds = range(runs // 8)
        suite = trees.load(trees.suite_file(folder / "tree", folds=[1, 2], seeds=seeds))
        for job in suite.jobs():
            trees.finish(suite, job, epochs=epochs)
        print(f"{len(suite.jobs())} runs of {epochs} epochs through a server with PostgreSQL")
        timed("first pass", lambda: tracking.track(suite))
        timed("again, nothing to do", lambda: tracking.track(suite))
        watch = watching.Watch(suite)
        timed("first look of --watch", watch.look)
        timed("a look, nothing changed", watch.look)
    finally:
        server.kill()
        postgres.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
