"""The verb `doctor`: is this installation fit to run, and does the profile fit the cluster?"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata
from pathlib import Path

from cmkd.errors import ConfigError
from cmkd.files import checkout
from cmkd.operations import disks
from cmkd.operations.findings import Finding, ok, page, summary, warning, wrong
from cmkd.operations.slurm import form as forms
from cmkd.operations.slurm import probe, reader, site, traps, write
from cmkd.plan.suites import Suite

PYTHON = (3, 11)
GIGABYTE = 10**9
ROOM = 20 * GIGABYTE  # below this, prepared data or a suite's runs may not fit
TORCH = """
import json, torch, torchaudio, torchvision
print(json.dumps({"cuda": torch.version.cuda, "gpus": torch.cuda.device_count(),
    "names": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]}))
"""
PROGRAMS = ("sbatch", "srun", "scancel", "squeue", "scontrol", "sinfo")


def installation(suite: Suite) -> None:
    """Print what was found on this machine; raises ConfigError if something is wrong."""
    _say(check(suite))


def cluster(suite: Suite, profile: Path, job: bool, wait: float) -> None:
    """Print how a profile fits the cluster; raises ConfigError if something is wrong.

    Args:
        suite: its results folder must be seen by compute nodes, its GPUs be there.
        profile: the profile's folder.
        job: whether to submit a small job to each partition.
        wait: seconds to wait for one of them.
    """
    _say(check_cluster(suite, forms.read(profile), job, wait))


def fill(suite: Suite, profile: Path, keys: Sequence[str]) -> None:
    """Fill the profile's form from the cluster, and print what was changed.

    Raises ConfigError where the cluster does not answer, or for a key that the form lacks.
    """
    form = forms.read(profile)
    found = list(programs())
    if any(one.level == "wrong" for one in found):
        _say(found)
    new, notes = write.choose(form, reader.read_site(), keys, gpus(suite))
    print(page(notes) + "\n" if notes else "", end="")
    if new.text == form.text:
        print(f"{form.path}: nothing to fill in")
        return
    print(write.difference(form, new), end="")
    write.write(new)
    print(f"{form.path} is written; `cmkd doctor --slurm` checks it")


def _say(findings: Iterable[Finding]) -> None:
    """Print findings as they come, then how many there are; raise if one is wrong."""
    found = []
    for one in findings:
        print(page([one]), flush=True)
        found.append(one)
    print(f"\n{summary(found)}")
    bad = sum(one.level == "wrong" for one in found)
    if bad:
        raise ConfigError(f"{bad} thing(s) above are wrong: change what stands behind ->")


def gpus(suite: Suite) -> int:
    """Return how many GPUs one training of a suite takes."""
    return int(suite.execution.get("gpus") or 1)


def check(suite: Suite) -> Iterator[Finding]:
    """Yield what was found on this machine."""
    yield from python()
    yield from packages()
    yield from torch()
    yield from git()
    yield from folders(suite)
    yield from temporary()
    yield from processors(suite)


def check_cluster(suite: Suite, form: forms.Form, job: bool, wait: float) -> Iterator[Finding]:
    """Yield how a profile fits the cluster that this machine belongs to."""
    yield from traps.check_form(form)
    yield from traps.environment()
    found = list(programs())
    yield from found
    if any(one.level == "wrong" for one in found):
        return
    there = reader.read_site()
    yield from site.check(form, there, gpus(suite))
    yield from traps.check(form, there)
    yield from probe.here(suite.results)
    if job:
        yield from probe.check(form, suite.results, wait, gpus(suite))
    else:
        yield from traps.by_variable()


def programs() -> Iterator[Finding]:
    """Say whether Slurm's programs are there and its controller answers."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        cure = "run this on the cluster's login node, after `module load slurm` where sites need it"
        yield wrong("slurm", f"not on the PATH: {', '.join(missing)}", cure)
        return
    version = reader.ask("sinfo", "--version").out.strip()
    answer = reader.controller()
    if answer.code:
        said = " ".join((answer.error or "no answer").split())
        yield wrong("slurm", f"the controller does not answer: {said}", "ask your site")
    else:
        yield ok("slurm", f"{version}: the controller answers")


def python() -> Iterator[Finding]:
    """Say which Python runs, and whether the command `cmkd` is this one."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < PYTHON:
        yield wrong("python", version, "install Python 3.11 or newer, then cmkd again")
    else:
        yield ok("python", f"{version}, {sys.executable}")
    command = shutil.which("cmkd")
    if command is None:
        text = f"cmkd is not on the PATH; it is in {Path(sys.executable).parent}"
        activate = shlex.quote(f"{Path(sys.executable).parent}/activate")
        yield warning("command", text, f"source {activate}")


def packages() -> Iterator[Finding]:
    """Say whether what cmkd needs is installed, in versions that were tested together."""
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in metadata.requires("cmkd") or []]
    needed = [need for need in needed if need.marker is None or need.marker.evaluate()]
    found = {need.name: _version(need.name) for need in needed}
    bad = [
        f"{need.name} {found[need.name] or 'is missing'} (needs {need.specifier})"
        for need in needed
        if not found[need.name] or not need.specifier.contains(found[need.name], prereleases=True)
    ]
    if bad:
        cure = "pip install -c constraints.txt -e ."
        yield wrong("packages", "; ".join(bad), cure)
        return
    yield from _pins({name: version for name, version in found.items() if version})


def _pins(found: dict[str, str]) -> Iterator[Finding]:
    """Say which packages differ from the versions that were tested together."""
    path = checkout() / "constraints.txt"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    pins = {name.lower(): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.M)}
    other = [
        f"{name} {version} (tested: {pins[name.lower()]})"
        for name, version in found.items()
        if pins.get(name.lower(), version) != version.split("+")[0]
    ]
    if other:
        cure = "pip install -c constraints.txt -e . if something fails"
        yield warning("packages", "; ".join(other), cure)
    else:
        yield ok("packages", f"{len(found)} in the versions that were tested together")


def _version(name: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def torch() -> Iterator[Finding]:
    """Say whether torch and its two companions load together and see the GPUs (in a process)."""
    command = [sys.executable, "-W", "ignore", "-c", TORCH]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    except subprocess.TimeoutExpired:
        yield wrong(
            "torch", "does not load within 3 minutes", "look at the disk of the environment"
        )
        return
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        cure = "install torch, torchaudio and torchvision of one release again"
        yield wrong("torch", f"does not load with torchaudio and torchvision: {said}", cure)
        return
    versions = ", ".join(f"{name} {_version(name)}" for name in ("torch", "torchaudio"))
    yield ok("torch", f"{versions} load together")
    yield from _gpus(json.loads(done.stdout.splitlines()[-1]), nvidia())


def nvidia() -> list[str]:
    """Return the GPUs that the driver lists, or none where there is no driver."""
    answer = reader.ask("nvidia-smi", "-L")
    return [line for line in answer.out.splitlines() if line.startswith("GPU ")]


def _gpus(seen: dict[str, object], listed: list[str]) -> Iterator[Finding]:
    """Say whether torch sees the GPUs that the driver lists."""
    if listed and not seen["gpus"] and os.environ.get("CUDA_VISIBLE_DEVICES", "0") != "":
        build = f"CUDA {seen['cuda']}" if seen["cuda"] else "no CUDA (a CPU build)"
        cure = "install the build of torch for this driver (README.md)"
        text = f"the driver lists {len(listed)}, torch with {build} sees none"
        yield wrong("GPUs", text, cure)
    elif not seen["gpus"]:
        yield ok("GPUs", "none here; runs use the CPU (on a cluster, jobs may have some)")
    else:
        yield ok("GPUs", f"torch sees {seen['gpus']}: {', '.join(map(str, seen['names']))}")  # type: ignore[call-overload]


def git() -> Iterator[Finding]:
    """Say whether the commit will be known to cost.json."""
    answer = reader.ask("git", "-C", str(checkout()), "rev-parse", "--short", "HEAD")
    if answer.code == 127:
        yield warning("git", "is not there: cost.json will not name the commit", "install git")
    elif answer.code:
        yield warning("git", "this is no git checkout: cost.json will not name the commit")
    else:
        yield ok("git", f"commit {answer.out.strip()}")


def folders(suite: Suite) -> Iterator[Finding]:
    """Say how much room results and prepared data have, and how fast a safe write is."""
    for name, folder in {"results": suite.results, "prepared": suite.prepared}.items():
        free = disks.room(folder)
        text = f"{free / GIGABYTE:.0f} GB free in {disks.there(folder)}"
        if free < ROOM:
            cure = f"`cmkd plan` says what is needed; `{name}:` of the suite may name another disk"
            yield warning(name, text, cure)
        else:
            yield ok(name, text)
    where = disks.there(suite.results)
    try:
        yield from probe.latency(disks.latency(where), f"in {where}")
    except OSError as error:
        cure = "`results:` of the suite must name a folder that you may write to"
        yield wrong("results", f"cannot be written: {error}", cure)


def temporary() -> Iterator[Finding]:
    """Say whether the folder for temporary files can be used."""
    try:
        folder = Path(tempfile.gettempdir())
        disks.latency(folder)
    except OSError as error:
        yield wrong("temporary files", str(error), "set TMPDIR to a folder that you may write to")
        return
    free = disks.room(folder)
    text = f"{free / GIGABYTE:.0f} GB free in {folder}"
    if free < GIGABYTE:
        yield warning("temporary files", text, "set TMPDIR to a folder with more room")
    else:
        yield ok("temporary files", text)


def processors(suite: Suite) -> Iterator[Finding]:
    """Say how many processors this process may use, and whether the suite wants more."""
    there = len(os.sched_getaffinity(0))
    wanted = max(int(suite.execution.get(key) or 1) for key in ("threads", "workers"))
    text = f"{there} processors, the suite uses up to {wanted} in a job"
    if wanted > there:
        cure = "fewer `threads` or `workers` under `execution:`, if jobs run on this machine"
        yield warning("processors", text, cure)
    else:
        yield ok("processors", text)
