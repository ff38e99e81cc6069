"""The saved views of an experiment, which MLflow's UI offers under "Views" and by address.

Without them its table has no scores and cuts names, and a comparison is a search by hand. MLflow
3.17 keeps a view as a tag of the experiment: an envelope of name, times and state, the state being
the UI's own settings (columns, filter, grouping, charts) as compressed JSON.
"""

import base64
import json
import math
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from cmkd.plan import names
from cmkd.plan.suites import Job, Suite
from cmkd.reports import references
from cmkd.reports.runs import RunState
from cmkd.tracking import trouble
from cmkd.tracking.entries import STATE

TAG, KEY = "mlflow.sharedViewState.", "cmkd-"
LONGEST = 20_000  # characters of an experiment's tag
PAGES = ("scores", "means", "pair")
WRITTEN = 1  # the time that our views carry; one that was changed in the UI carries a later one
CHARTS = "&compareRunsMode=CHART"
GROUP = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "run"}]}
HOURS = "usage/device_hours"
WIDTHS = {
    "tags.`direction`": 150,
    "tags.`fold`": 60,
    "tags.`seed`": 60,
    f"metrics.`{HOURS}`": 150,
}  # of columns, in pixels
CURVES = ("train/loss_hard", "train/loss_soft", "train/loss")
SECTIONS = {  # the UI cuts longer ones
    "scores": "Test scores, device hours of one training",
    "losses": "By epoch: loss against labels, teacher, both",
}

Settings = dict[str, Any]
Ids = Mapping[Job, str]


def write(
    client: Any,
    suite: Suite,
    dataset: str,
    experiment: str,
    states: Iterable[RunState],
    ids: Ids,
    tree: str = "",
) -> dict[str, str]:
    """Bring an experiment's views up to date; return the pages of the first ones, by title.

    `ids` are MLflow's ids of the runs that are there. A view that somebody changed in the UI stays
    as it is. Those of single models are only in the UI's menu. In a store that others use, too,
    `tree` names our results: the comparison of two runs is one of ours.
    """
    found = client.get_experiment(experiment).tags
    page = f"#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
    done = [state for state in states if state.done and state.job in ids]
    pages = {}
    for key, title, state in _views(suite, dataset, done, ids):
        whole = f"{key}-{tree}" if tree and key == "pair" else key
        name, text = f"{TAG}{KEY}{whole}", _envelope(title, state)
        if len(text) > LONGEST:
            continue
        if found.get(name) != text and not _changed(found.get(name)):
            trouble.insist(partial(client.set_experiment_tag, experiment, name, text))
        if key in PAGES:
            pages[title] = page + whole + (CHARTS if "compareRunCharts" in state else "")
    return pages


def _views(
    suite: Suite, dataset: str, done: Sequence[RunState], ids: Ids
) -> list[tuple[str, str, Settings]]:
    """Return key, title and state of each view, the most useful first."""
    metric = str(suite.dataset(dataset)["metric"])
    runs = list(dict.fromkeys(state.job.run for state in done))
    views = [
        ("scores", "Scores of every run", _table(metric)),
        ("means", "Scores, mean over folds and seeds", _table(metric, ()) | _grouped(runs)),
    ]
    pair = best_pair(suite, dataset, done)
    if pair is not None:
        run = names.parse(pair[0])
        title = f"{run.link} with and without its teacher {run.teacher}"
        views.append(("pair", title, _compared(metric, pair, _of_both(pair, done, ids))))
    for model in dict.fromkeys(names.parse(run).model for run in runs if "@" in run):
        title = f"{model}, alone and with each teacher"
        same = [run for run in runs if names.parse(run).model == model]
        views.append((f"model-{model}", title, _compared(metric, same, f"tags.model = '{model}'")))
    return views


def best_pair(suite: Suite, dataset: str, done: Sequence[RunState]) -> tuple[str, str] | None:
    """Return the taught run with the highest mean score and its student alone, None without one.

    The mean is over the folds and seeds that both have.
    """
    scores: dict[str, dict[tuple[int, int], float]] = {}
    for state in done:
        value = state.metrics.get("value")
        if isinstance(value, int | float) and math.isfinite(value):
            scores.setdefault(state.job.run, {})[state.job.fold, state.job.seed] = float(value)
    known = [names.parse(run) for run in scores]
    found = []
    for run in known:
        alone = references.alone(suite, dataset, run, known) if run.teacher else None
        if alone is None:
            continue
        common = scores[str(run)].keys() & scores[str(alone)].keys()
        if common:
            mean = math.fsum(scores[str(run)][key] for key in common) / len(common)
            found.append((mean, str(run), str(alone)))
    return max(found)[1:] if found else None


def _of_both(pair: tuple[str, str], done: Sequence[RunState], ids: Ids) -> str:
    """Return the filter for two runs, on the folds and seeds that both have."""
    places = {run: {s.job._replace(run="") for s in done if s.job.run == run} for run in pair}
    common = sorted(set.intersection(*places.values()))
    listed = [ids[place._replace(run=run)] for place in common for run in pair]
    return "attributes.run_id IN ({})".format(", ".join(f"'{key}'" for key in listed))


def _shown(metric: str) -> list[str]:
    """Return the numbers that tables and bars show of a run."""
    other = "map" if metric == "accuracy" else "accuracy" if metric == "map" else "auc"
    return [f"final/{metric}", f"final/{other}", HOURS]


def _table(metric: str, tags: Sequence[str] = ("direction", "fold", "seed", STATE)) -> Settings:
    """Return the settings of the table: scores beside whole names, the best first."""
    name, scores = "attributes.`Run Name`", [f"metrics.`{of}`" for of in _shown(metric)]
    columns = [*scores, *(f"tags.`{tag}`" for tag in tags)]
    return {
        "selectedColumns": columns,
        "columnOrder": [name, *columns],
        "columnWidths": dict.fromkeys(columns, 100) | {name: 340, scores[0]: 130} | WIDTHS,
        "orderByKey": scores[0],
        "orderByAsc": False,
        "runsHiddenMode": "FIRST_20_RUNS",
    }


def _grouped(runs: Iterable[str]) -> Settings:
    """Return the settings that show each run's mean over folds and seeds, the groups closed."""
    return {"groupBy": GROUP, "groupsExpanded": {f"tag.run.{run}": False for run in runs}}


def _compared(metric: str, runs: Iterable[str], chosen: str) -> Settings:
    """Return the settings of a comparison: bars of the scores, then the curves of the losses."""
    bars = [_chart("BAR", "scores", name) for name in _shown(metric)]
    lines = [_chart("LINE", "losses", name) for name in (*CURVES, f"val/{metric}")]
    sections = [
        {"uuid": key, "name": name, "display": True, "isReordered": False}
        for key, name in SECTIONS.items()
    ]
    return {
        **_table(metric, ()),
        **_grouped(runs),
        "searchFilter": chosen,
        "compareRunCharts": bars + lines,
        "compareRunSections": sections,
        "isAccordionReordered": True,
    }


def _chart(kind: str, section: str, metric: str) -> Settings:
    """Return the settings of one chart; lines are drawn over epochs."""
    chart = {
        "type": kind,
        "uuid": f"{KEY}{metric}",
        "metricSectionId": section,
        "metricKey": metric,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 20,
    }
    line = {"xAxisKey": "step", "xAxisScaleType": "linear", "scaleType": "linear", "range": {},
            "yAxisKey": "metric", "yAxisExpressions": [], "lineSmoothness": 0,
            "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True}  # fmt: skip
    return chart | line if kind == "LINE" else chart


def _envelope(title: str, state: Settings) -> str:
    """Return a view as its tag holds it."""
    packed = base64.b64encode(zlib.compress(json.dumps(state).encode(), 9)).decode("ascii")
    envelope = {"name": title, "createdAt": WRITTEN, "updatedAt": WRITTEN}
    return json.dumps(envelope | {"state": f"deflate;{packed}"})


def _changed(text: str | None) -> bool:
    """Tell whether a view is no longer as we wrote it."""
    if text is None:
        return False
    try:
        return bool(json.loads(text)["updatedAt"] != WRITTEN)
    except (ValueError, TypeError, KeyError):
        return True
