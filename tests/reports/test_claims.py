"""Claims on made run folders: forms both ways, what was not run, and error rates of the file."""

import csv
import io
import subprocess
import sys

import numpy as np
import pytest
import yaml

from cmkd import files, reports
from cmkd.plan import catalog, suites
from cmkd.reports import claims, claims_figure, claims_text, style
from cmkd.reports.claims_runs import Finder
from cmkd.reports.leaderboard import leaderboard
from cmkd.scoring.influence import RunScore

DEFAULTS = {"delta": {"accuracy": 0.01, "map": 0.005}, "rho": 0.5}
CLAIM = {"text": "It helps.", "source": "abstract", "grade": ["P"], "published_on": ["many"]}
TAUGHT = {"run": "S@T", "over": "S", "where": "cnn_to_transformer"}
BACK = {"run": "S@T", "over": "S", "where": "transformer_to_cnn"}
MODELS = ["cnn_a", "cnn_b", "tr"]


def declare(folder, **entries):
    """Write claims.yaml beside the suite's models."""
    document = {
        "defaults": DEFAULTS,
        "claims": {name: CLAIM | entry for name, entry in entries.items()},
    }
    text = yaml.safe_dump(document, sort_keys=False)
    (folder.root / "config" / "claims.yaml").write_text(text, encoding="utf-8")


def of(folder, **entry):
    """Judge one claim."""
    declare(folder, C1=entry)
    rows = claims.judge(folder.suite)
    assert len(rows) == 1
    return rows[0]


@pytest.fixture
def graded(made):
    """Return a function that finishes every run at a quality by its name."""

    def make(pairs=("alone", "cross", "same"), seeds=(0,), **quality):
        names = {name.replace("_by_", "@"): value for name, value in quality.items()}
        folder = made(models=MODELS, pairs=list(pairs), seeds=list(seeds))
        folder.quality = dict.fromkeys((j.run for j in folder.suite.jobs()), 0.5) | names
        folder.finish()
        return folder

    return make


UP = {"tr": 0.05, "tr_by_cnn_a": 1.0, "tr_by_cnn_b": 1.0}
DOWN = {"tr": 1.0, "tr_by_cnn_a": 0.05, "tr_by_cnn_b": 0.05}
MIXED = {"tr": 0.5, "tr_by_cnn_a": 1.0, "tr_by_cnn_b": 0.05}


@pytest.mark.parametrize(
    ("form", "up", "down", "mixed"),
    [
        ("majority", "supported", "contradicted", "contradicted"),
        ("exists", "supported", "contradicted", "supported"),
        ("all", "supported", "contradicted", "contradicted"),
        ("mean", "supported", "contradicted", "inconclusive"),
        ("no_gain", "contradicted", "contradicted", "inconclusive"),
    ],
)
def test_forms_on_runs(graded, form, up, down, mixed):
    found = {}
    for name, quality in (("up", UP), ("down", DOWN), ("mixed", MIXED)):
        folder = graded(("alone", "tr@cnn_a", "tr@cnn_b"), (0, 1, 2), **quality)
        found[name] = of(folder, form=form, pairs=TAUGHT).verdict.word
    assert found == {"up": up, "down": down, "mixed": mixed}


def test_at_least_takes_a_margin_of_its_own(graded):
    folder = graded(**UP)
    low = of(folder, form="at_least", margin=0.2, pairs=TAUGHT)
    assert low.verdict.word == "supported"
    high = of(folder, form="at_least", margin=0.99, pairs=TAUGHT)
    assert high.verdict.word == "contradicted"  # positive, but too small


def test_a_bar_is_a_published_figure(graded):
    folder = graded(cnn_a=0.9)
    bar = {"dataset": "tiny", "system": "x", "metric": "accuracy", "value": 0.4, "grade": "C",
           "source": "y"}  # fmt: skip
    (folder.root / "config" / "paper.yaml").write_text(yaml.safe_dump({"best": bar}))
    entry = {"form": "at_least", "pairs": {"run": "cnn_a"}, "bar": {"tiny": "best"}}
    row = of(folder, **entry)
    assert row.verdict.word == "supported"
    value = leaderboard(folder.suite).set_index("run").loc["cnn_a", "value"]
    assert row.found.value == pytest.approx(value - 0.4)
    (folder.root / "config" / "paper.yaml").write_text(yaml.safe_dump({"best": bar | {"value": 1}}))
    assert of(folder, **entry).verdict.word == "contradicted"


CROSS = {"run": "S@T", "over": "S", "where": "cross"}
SAME = {"run": "S@T", "over": "S", "where": "same"}


def test_classes_are_compared_within_each_student(graded):
    entry = {"form": "comparison", "each": "S", "pairs": CROSS, "than": SAME}
    better = {"cnn_a_by_tr": 1.0, "cnn_b_by_tr": 1.0, "cnn_a_by_cnn_b": 0.1, "cnn_b_by_cnn_a": 0.1}
    row = of(graded(**better), **entry)
    assert row.verdict.word == "supported"
    assert (row.pairs_named, row.runs, row.planned) == (2, 12, 12)  # alone cancels
    turned = {name: 1.1 - value for name, value in better.items()}
    assert of(graded(**turned), **entry).verdict.word == "contradicted"
    assert of(graded(), **entry).verdict.word == "inconclusive"


def test_much_less_than_the_reference(graded):
    entry = {"form": "less_than_reference", "each": "S", "pairs": SAME, "than": CROSS}
    alone = {"cnn_a": 0.1, "cnn_b": 0.1}
    less = alone | {"cnn_a_by_tr": 1.0, "cnn_b_by_tr": 1.0}
    same = {"cnn_a_by_cnn_b": 0.1, "cnn_b_by_cnn_a": 0.1}
    assert of(graded(**less, **same), **entry).verdict.word == "supported"
    same = {"cnn_a_by_cnn_b": 1.0, "cnn_b_by_cnn_a": 1.0}
    assert of(graded(**less, **same), **entry).verdict.word == "contradicted"
    flat = of(graded(**dict.fromkeys(less, 0.5)), **entry)
    assert flat.verdict.reason == "the reference gain itself is not proven"


def test_a_weaker_teacher_must_be_proven_weaker(graded):
    entry = {"form": "exists", "pairs": BACK | {"given": {"run": "S", "over": "T"}}}
    helped = {"tr": 0.05, "cnn_a": 0.5, "cnn_a_by_tr": 1.0}
    assert of(graded(**helped), **entry).verdict.word == "supported"
    stronger = helped | {"tr": 1.0}
    row = of(graded(**stronger), **entry)
    assert row.verdict.word == "inconclusive"
    assert row.verdict.reason == "the premise is not proven for any pair"


def test_what_is_missing_blocks(graded):
    folder = graded(**UP)
    for job in folder.jobs("tr@cnn_b"):
        (folder.suite.folder(job) / "metrics.json").unlink()
    assert of(folder, form="all", pairs=TAUGHT).verdict.word == "not run"
    assert of(folder, form="exists", pairs=TAUGHT).verdict.word == "supported"
    mean = of(folder, form="mean", pairs=TAUGHT)
    assert mean.verdict.word == "not run"
    assert (mean.verdict.reason, mean.runs, mean.planned) == ("6 of 9 runs are done", 6, 9)
    assert (mean.pairs_run, mean.pairs_named) == (1, 2)


def test_runs_of_another_suite_are_found_by_name(made):
    """The suite lists neither variant nor taught run; another one left them in the same tree."""
    whole = made(pairs=["alone", "tr@cnn_a", "tr+tau2@cnn_a"], name="whole", seeds=[0])
    whole.quality = {"tr@cnn_a": 1.0, "tr+tau2@cnn_a": 0.05}
    whole.finish()
    small = made(pairs=["alone"], seeds=[0])
    entry = {"form": "mean", "pairs": {"run": "S@T", "over": "S+tau2@T", "where": "cross"}}
    declare(small, C1=entry | {"pairs": {**entry["pairs"], "where": "cnn_to_transformer"}})
    assert claims.judge(small.suite)[0].verdict.word == "supported"


def test_a_readout_is_chosen_by_name(graded):
    folder = graded(**UP)
    for job in folder.suite.jobs():
        run = folder.suite.folder(job)
        (run / "scores-averaged.npz").write_bytes((run / "scores.npz").read_bytes())
        metrics = files.read_json(run / "metrics.json")
        metrics["readouts"]["averaged"] = metrics["readouts"]["last"]
        files.write_json(run / "metrics.json", metrics)
    pairs = {"run": "tr@cnn_a (averaged)", "over": "tr@cnn_a (last)"}
    row = of(folder, form="mean", pairs=pairs)
    assert (row.found.value, row.found.low, row.found.high) == (0.0, 0.0, 0.0)
    assert of(folder, form="mean", pairs={**pairs, "run": "tr (best)"}).verdict.word == "not run"


def test_each_dataset_has_a_verdict_and_an_overall_one_follows(made):
    folder = made(datasets=["tiny", "many"], seeds=[0, 1, 2])
    folder.quality = {"tr": 0.05, "tr@cnn_a": 1.0}
    folder.finish()
    declare(folder, C1={"form": "mean", "pairs": TAUGHT}, C2={"form": "probe", "needs": "a probe"},
            C3={"form": "mean", "pairs": TAUGHT, "datasets": ["many"]})  # fmt: skip
    rows = claims.judge(folder.suite)
    found = [(row.claim.id, row.dataset, row.verdict.word) for row in rows]
    assert found == [
        ("C1", "tiny", "supported"),
        ("C1", "many", "supported"),
        ("C1", "overall", "supported"),
        ("C2", "tiny", "not run"),
        ("C2", "many", "not run"),
        ("C2", "overall", "not run"),
        ("C3", "many", "supported"),
    ]
    assert [row.survives for row in rows] == [True, True, False, False, False, False, True]


def test_a_verdict_covers_the_pairs_run_until_new_models_agree(made):
    cnns = ["cnn_a", "cnn_b", "cnn_c"]
    folder = made(seeds=[0])
    models = folder.root / "config" / "models.yaml"
    entries = yaml.safe_load(models.read_text())
    entries |= {"cnn_c": entries["cnn_a"], "tr_b": entries["tr"], "tr_c": entries["tr"]}
    models.write_text(yaml.safe_dump(entries))
    for names, general in (([*cnns, "tr", "tr_b"], False), ([*cnns, "tr", "tr_b", "tr_c"], True)):
        folder = made_again(folder, names)
        row = of(folder, form="mean", pairs=TAUGHT)
        assert row.verdict.word == "supported"
        assert row.word == ("supported" if general else "supported (pairs run)")
        assert (row.general is not None) == general


def test_one_pair_of_every_is_said_to_be_one(graded):
    folder = graded(("alone", "tr@cnn_a"), (0, 1, 2), **UP)
    folder = made_again(folder, ["cnn_a", "tr"])
    for form in ("mean", "majority", "all"):
        row = of(folder, form=form, pairs=TAUGHT)
        assert (row.word, row.pairs_named) == ("supported (pairs run)", 1)
    named = of(folder, form="mean", pairs={"run": "tr@cnn_a", "over": "tr"})
    assert named.word == "supported"


def test_pairs_above_a_margin_below_zero_are_not_called_better(graded):
    folder = graded(("alone", "tr@cnn_a", "tr@cnn_b"), (0, 1, 2), **UP)
    row = of(folder, form="all", margin="-delta", pairs=TAUGHT)
    text = claims_text.markdown([row], folder.suite)
    assert "proven above \N{MINUS SIGN}1.0 points" in text
    assert "proven better" not in text


def made_again(folder, models):
    """A suite of other models in the same folder, all finished; teaching helps everyone alike."""
    config = folder.suite.config | {"models": models, "pairs": ["alone", "cross"]}
    suite = suites.make(config, folder.root / "again.yaml")
    again = type(folder)(folder.root, suite)
    again.quality = {job.run: 0.95 if "@" in job.run else 0.3 for job in suite.jobs()}
    again.finish()
    return again


# ----------------------------------------------------------------------------------------- files


EVERY = {
    "C1": {"form": "majority", "pairs": TAUGHT},
    "C2": {"form": "mean", "pairs": BACK, "differs": ["smaller models"]},
    "C3": {"form": "no_gain", "pairs": CROSS},
    "C4": {"form": "mean", "pairs": {"run": "tr+long@cnn_a", "over": "tr@cnn_a"}},
    "C5": {"form": "mean", "pairs": TAUGHT, "datasets": ["many"]},
    "C6": {"form": "probe", "needs": "needs a probe"},
    "C7": {"form": "comparison", "each": "S", "pairs": CROSS, "than": SAME},
}


def test_files_have_the_same_bytes_when_made_again(graded):
    folder = graded(**UP)
    declare(folder, **EVERY)
    first = {path: path.read_bytes() for path in claims.write(folder.suite)}
    assert [path.name for path in first] == [
        "claims.md",
        "claims.csv",
        "claims.png",
        "claims.svg",
    ]
    for path in first:
        path.unlink()
    assert first == {path: path.read_bytes() for path in claims.write(folder.suite)}


def test_the_csv_holds_a_row_for_each_verdict(graded):
    folder = graded(**UP)
    declare(folder, **EVERY)
    rows = claims.judge(folder.suite)
    table = list(csv.DictReader(io.StringIO(claims_text.csv(rows))))
    assert list(table[0])[:11] == [
        *("id", "dataset", "verdict", "estimate", "low", "high", "p", "runs", "planned", "label"),
        "reason",
    ]
    assert [row["id"] for row in table] == list(EVERY)
    one = table[0]
    assert (one["verdict"], one["pairs_run"], one["pairs"], one["label"]) == (
        *("supported", "2", "2", "one run per fold"),
    )
    assert float(one["estimate"]) == pytest.approx(rows[0].found.value)
    assert float(one["provable"]) == pytest.approx(max(abs(float(one[k])) for k in ("low", "high")))
    assert (table[3]["estimate"], table[3]["p"], table[3]["runs"]) == ("", "", "3")


def test_the_page_says_rule_reason_and_what_differs(graded):
    folder = graded(**UP)
    declare(folder, **EVERY)
    text = claims_text.markdown(claims.judge(folder.suite), folder.suite)
    digest = files.sha256_file(folder.root / "config" / "claims.yaml")[:16]
    assert f"sha256 {digest}…" in text
    assert "- Differs from the paper: smaller models." in text
    assert "tiny is not what C1, C2, C3, C4, C6, C7 were published on" in text
    assert "trained from scratch, not from ImageNet weights: cnn_a, cnn_b, tr" in text
    assert "Of 2 pairs: 2 proven better, 0 proven worse, 0 undecided (Holm's rule)." in text
    assert "it is about many, which the suite does not have" in text
    judged = sum(row.verdict.word != "not run" for row in claims.judge(folder.suite))
    assert f"{judged} verdicts were judged, so about {judged / 20:.1f} false ones" in text


def test_the_terminal_fits(graded):
    folder = graded(**UP)
    declare(folder, **EVERY)
    text = claims_text.terminal(claims.judge(folder.suite))
    assert max(map(len, text.splitlines())) <= 110
    assert all(f"\n{name} " in text for name in EVERY)


def test_published_figures_stand_apart(graded):
    folder = graded()
    entries = {
        f"figure_{dataset}": {"dataset": dataset, "system": f"system on {dataset}",
                              "metric": metric, "value": 0.567, "grade": "C", "source": "a readme"}
        for dataset, metric in (("tiny", "accuracy"), ("many", "map"))
    }  # fmt: skip
    (folder.root / "config" / "paper.yaml").write_text(yaml.safe_dump(entries))
    declare(folder, **EVERY)
    for path in reports.tables(folder.suite):
        if path.suffix not in (".md", ".html", ".csv"):
            continue
        text = path.read_text(encoding="utf-8")
        shown = path.suffix != ".csv"
        assert ("system on tiny" in text) == shown, path
        assert ("56.7 % accuracy" in text) == shown
        assert ("Published (not ours, not comparable unless stated)" in text) == shown
        assert "system on many" not in text


def test_a_catalogue_without_claims_says_so(graded):
    folder = graded()
    paths = claims.write(folder.suite)
    assert "There is no claims.yaml" in paths[0].read_text(encoding="utf-8")
    assert claims_text.terminal([]) == "There is no claims.yaml beside the suite's models."


def test_the_figure_has_a_panel_a_dataset_and_a_line_a_claim(graded):
    folder = graded(**UP)
    declare(folder, **EVERY)
    rows = claims.judge(folder.suite)
    with style.styled():
        figure = claims_figure.draw(rows, "small")
        texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["tiny"]
    assert [text for text in texts if text in EVERY] == ["C1", "C2", "C3", "C4", "C7"]
    assert texts.count("not run") == 1
    colours = [line.get_color() for line in figure.axes[0].lines]
    assert claims_figure.COLOURS["supported"] in colours


def test_claims_need_no_torch(graded):
    folder = graded(**UP)
    declare(folder, **EVERY)
    code = (
        "import sys; from cmkd.cli import main; "
        f"code = main(['claims', {str(folder.root / 'small.yaml')!r}]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "C1   supported" in done.stdout
    assert "results/tables/small/claims.md" in done.stdout


# ------------------------------------------------------------------------------------ simulations


class NullFinder(Finder):
    """Runs that guess: every system is right on any clip with the same chance."""

    def grid(self, arm):
        if arm not in self._grids:
            name = f"{arm} {arm.dataset} {self.table}"
            random = np.random.default_rng(int(files.sha256_text(name)[:12], 16))
            self._grids[arm] = {
                (job.fold, job.seed): guesses(random, f"{job.fold}") for job in self.jobs(arm)
            }
        return self._grids[arm]

    def count(self, arms):
        return 1, 1


def guesses(random, fold, clips=60):
    right = (random.random(clips) < 0.2).astype(float)
    ids = np.array([f"{fold}-{clip:03d}" for clip in range(clips)])
    return RunScore(right.mean(), right - right.mean(), ids, None, "", "")


# On guesses these are true: no temperature, weight or second round matters.
TRUE_OF_GUESSES = {"C10", "C11", "C12"}


def false_verdicts(tables, **config):
    """Return how many of the shipped claims' verdicts are false, and how many were judged."""
    base = {
        "datasets": ["esc10"],
        "models": ["small_cnn", "small_cnn_att", "small_ast"],
        "catalog": str(catalog.find()),
    }
    suite = suites.make(base | config, "null.yaml")
    wrong = judged = 0
    for table in range(tables):
        finder = NullFinder(suite)
        finder.table = table
        for row in claims.judge(suite, finder):
            judged += row.verdict.word != "not run"
            right = ("inconclusive", "not run")
            right += ("supported",) if row.claim.id in TRUE_OF_GUESSES else ()
            wrong += row.verdict.word not in right
    return wrong, judged


def test_the_claims_file_on_guesses_gives_few_verdicts():
    """At most 5 %: of 12 x 22 verdicts 13; claims share runs, so 24 is the bound here."""
    wrong, judged = false_verdicts(12)
    assert judged >= 12 * 20
    assert wrong <= 0.05 * judged + 11


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_claims_file_on_guesses_at_length(seeds):
    wrong, judged = false_verdicts(100, seeds=seeds)
    assert wrong <= 0.05 * judged
