"""How many threads a job may use: those of the suite, never more than the job was given."""

import os
from collections.abc import Mapping

PER_TASK = "SLURM_CPUS_PER_TASK"
# torchrun's: processes of one run on this machine, which share the job's processors.
PROCESSES = "LOCAL_WORLD_SIZE"


def processors(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processors this process may use, at least 1.

    That is the smallest of what the kernel lets it run on, what Slurm gave the job, where there is
    one (a cluster without cgroups lets a job run on all), and its share among the run's processes.
    """
    given = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    limits = [given or 1]
    if environment.get(PER_TASK, "").isdigit():
        limits.append(int(environment[PER_TASK]))
    share = environment.get(PROCESSES, "")
    return max(1, min(limits) // max(1, int(share) if share.isdigit() else 1))


def granted(wanted: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the threads to use where `wanted` are asked for; says so where they are fewer."""
    limit = processors(environment)
    if wanted > limit:
        asked = f"execution.threads asks for {wanted}"
        print(f"threads: {limit}; {asked}, but this process was given {limit} processor(s)")
    return min(wanted, limit)
