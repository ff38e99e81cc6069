# What the rules share: the suite, the paths' patterns and the functions that find a job's inputs.
import os
import shutil
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from cmkd.errors import CmkdError
from cmkd.operations import devices, owners, retries, slurm_states
from cmkd.plan import agreement, budget, commands, downloads, names, suites


def load_suite():
    """Load the suite by the verbs' own loader; a wrong one ends here, in its own sentences.

    A job of a cluster reads it again, and it was checked before the job was submitted.
    """
    checked = not workflow.is_main_process
    given = workflow.overwrite_configfiles or workflow.configfiles
    try:
        if given:
            return suites.load(Path(given[-1]), config, checked)
        return suites.make(config, Path("config/config.yaml"), checked)
    except CmkdError as error:
        raise WorkflowError(str(error)) from None


# The lock of a Snakemake that was killed must not stop the next one.
if workflow.is_main_process:
    owners.enter(Path(), logger.warning)

SUITE = load_suite()
AGREEMENT = agreement.Agreement(SUITE)
PREPARED = f"{SUITE.prepared}/{{dataset}}"
RUN = f"{SUITE.results}/runs/{{dataset}}/{{run}}/fold-{{fold}}/seed-{{seed}}"
ALONE = RUN.replace("{run}", "{link}")
TAUGHT = RUN.replace("{run}", "{link}@{teacher}")
TEACHER = RUN.replace("{run}", "{teacher}")
TABLES = f"{SUITE.results}/tables/{SUITE.name}"
FIGURES = f"{SUITE.results}/figures/{SUITE.name}"
LOGS = f"{SUITE.results}/logs"

slurm_states.quote_python()

# `cmkd` is installed beside Snakemake even where that folder is not on the PATH.
if shutil.which("cmkd") is None:
    folders = (os.environ.get("PATH", ""), str(Path(sys.executable).parent))
    os.environ.update(PATH=os.pathsep.join(folders))


def job_of(wildcards):
    """Return the job that a rule's wildcards name."""
    run = wildcards.get("run", wildcards.get("link"))
    if "teacher" in wildcards.keys():
        run = f"{run}@{wildcards.teacher}"
    return suites.Job(wildcards.dataset, run, int(wildcards.fold), int(wildcards.seed))


def edge(path, protected):
    """Return an input whose time counts, or not while it is protected."""
    return ancient(str(path)) if protected else str(path)


def every(name):
    """Return a file of every run of the suite; none in a job of a cluster, which makes one run."""
    if not workflow.is_main_process:
        return []
    return [str(SUITE.folder(job) / name) for job in SUITE.jobs()]


def figures():
    """Return the two figures of every dataset of the suite, and that of the claims."""
    if not workflow.is_main_process:  # of a cluster, where tables are no job
        return []
    datasets = dict.fromkeys(job.dataset for job in SUITE.jobs())
    kinds, endings = ("gains", "cost"), ("png", "svg")
    claims = [f"{FIGURES}/claims.{ending}" for ending in endings]
    return claims + expand(
        "{folder}/{kind}-{dataset}.{ending}",
        folder=FIGURES,
        kind=kinds,
        dataset=datasets,
        ending=endings,
    )


# Inputs. They are found when a job enters the DAG, so that a cluster job, which reads the Snakefile
# again, looks at its own run only.


def wanted_data(wildcards):
    """Return the recipe of a dataset's prepared files."""
    wanted = AGREEMENT.wanted_prepared(wildcards.dataset)
    return edge(wanted.path, wanted.agrees)


def downloaded(wildcards):
    """Return the marker of a download that must be there; its time says nothing."""
    marker = AGREEMENT.marker(wildcards.dataset)
    return edge(marker, True) if marker else []


def wanted_run(wildcards):
    """Return the recipe of a run."""
    wanted = AGREEMENT.wanted_recipe(job_of(wildcards))
    return edge(wanted.path, wanted.agrees)


def manifest(wildcards):
    """Return the manifest that statistics are made from."""
    sound = AGREEMENT.prepared_state(wildcards.dataset) == "sound"
    return edge(f"{SUITE.prepared}/{wildcards.dataset}/manifest.csv", sound)


def changed_manifest(wildcards):
    """Return what makes statistics of another manifest run again, or nothing."""
    frontend, fold = wildcards.frontend, int(wildcards.fold)
    wanted = AGREEMENT.wanted_statistics(wildcards.dataset, frontend, fold)
    return [str(wanted.path)] if wanted else []


def prepared_files(job, finished):
    """Return the prepared files that a job reads, or none if they are absent and it is finished."""
    if AGREEMENT.left_out(job, finished):
        return []
    sound = AGREEMENT.prepared_state(job.dataset) == "sound"
    folder = SUITE.prepared_folder(job.dataset)
    read = ("manifest.csv", "clips.bin", "clips.csv")
    return [edge(folder / name, sound) for name in read]


def clips_to_train(wildcards):
    """Return the prepared clips that a training reads."""
    job = job_of(wildcards)
    return prepared_files(job, AGREEMENT.settled(job))


def clips_to_score(wildcards):
    """Return the prepared clips that an evaluation reads."""
    job = job_of(wildcards)
    return prepared_files(job, AGREEMENT.scored(job))


def statistics(wildcards):
    """Return the statistics that a training normalises with."""
    job = job_of(wildcards)
    if AGREEMENT.left_out(job, AGREEMENT.settled(job)):
        return []
    path = SUITE.statistics(job)
    sound = AGREEMENT.prepared_state(job.dataset) == "sound"
    return edge(path, sound and AGREEMENT.statistics_agree(path, job.dataset))


def initial_weights(wildcards):
    """Return the weights that a training starts from, of another run or the user's, if any.

    The user's file counts by its hash, not by its time; a finished run does without it.
    """
    job = job_of(wildcards)
    initial = SUITE.initial_of(job)
    if initial:
        return [str(AGREEMENT.weights(initial))]
    own = AGREEMENT.own_weights(job)
    if own is None or (not own.is_file() and AGREEMENT.settled(job)):
        return []
    return [edge(own, True)]


def wanted_rows(wildcards):
    """Return the rows that the tables must have."""
    wanted = AGREEMENT.wanted_rows()
    return edge(wanted.path, wanted.agrees)


# Options of the verbs.


def data_root_option(wildcards):
    """Return the option that says where the recordings are, if the configuration does."""
    root = SUITE.root(wildcards.dataset)
    return ["--data-root", str(root)] if root else []


def data_file(wildcards):
    """Return a dataset's recipe as a file."""
    return str(AGREEMENT.data_file(wildcards.dataset))


def download_options(wildcards):
    """Return the options that fetch a dataset and do no more."""
    return commands.download_options(SUITE, wildcards.dataset)


def frontend_options(wildcards):
    """Return the options that describe a front end."""
    frontend = SUITE.frontends(wildcards.dataset)[wildcards.frontend]
    numbers = (frontend.mel_bins, frontend.shift_ms, frontend.frames)
    flags = ("--mel-bins", "--shift-ms", "--frames")
    return [str(part) for pair in zip(flags, numbers) for part in pair]


def run_folder(wildcards):
    """Return a run's folder."""
    return str(SUITE.folder(job_of(wildcards)))


def statistics_file(wildcards):
    """Return the path of a run's statistics."""
    return str(SUITE.statistics(job_of(wildcards)))


def initial_option(wildcards):
    """Return the option that names the weights to start from, if they lie in a file."""
    path = commands.initial_file(SUITE, job_of(wildcards))
    return ["--initial", str(path)] if path else []


def execution_file(wildcards):
    """Return the suite's execution block as a file."""
    return str(AGREEMENT.execution_file())


def budget_options(wildcards):
    """Return the option by which a training sees whether the suite's budget reaches for it."""
    limited = "budget_gpu_hours" in SUITE.execution
    return ["--suite", str(AGREEMENT.suite_file())] if limited else []


def suite_file(wildcards):
    """Return the whole resolved suite as a file."""
    return str(AGREEMENT.suite_file())


# GPUs of a workstation.


def limit_gpus():
    """Let as many jobs use a GPU at once as a workstation has; a cluster counts its own."""
    local = workflow.is_main_process and workflow.resource_settings.nodes is None
    if (
        not local
        or "gpu" in workflow.global_resources
        or SUITE.execution["device"] == "cpu"
    ):
        return
    count = len(devices.visible())
    if count:
        workflow.register_resource("gpu", count)


# After the last job.


def make_views():
    """Make tables and the MLflow copy from the runs that are there, unless they are up to date."""
    if not views_due():
        return
    for verb in ("tables", "track"):
        command = ["cmkd", verb, str(AGREEMENT.suite_file())]
        if subprocess.run(command).returncode:
            logger.warning(f"'cmkd {verb}' failed; the runs are not touched by that.")


def views_due():
    """Tell whether a run is newer than the tables or the MLflow copy, or these are missing."""
    views = [Path(str(path)) for path in (*rules.tables.output, *rules.track.output)]
    if not all(view.is_file() for view in views):
        return True
    oldest = min(view.stat().st_mtime for view in views)
    runs = [Path(path) for path in every("metrics.json")]
    return any(not run.is_file() or run.stat().st_mtime > oldest for run in runs)


def say_budget():
    """Say that the budget ended the suite, if it did."""
    sentence = budget.ended(SUITE)
    if sentence:
        logger.warning(sentence)


def say_stale():
    """Say how many runs no longer agree with their data, after the data were prepared anew."""
    stale = len(agreement.Agreement(SUITE).stale())
    if stale:
        logger.warning(
            f"{stale} run(s) have become stale, because their data or recipe changed:"
            " run the same command again."
        )
