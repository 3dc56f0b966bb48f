"""`eca-search compare` and `confirm`, on real trainings of digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import search
from search import cli
from search.comparison import confirming, power
from search.execution import launch
from search.store import default_uri
from search.study import journal
from search.tracking import in_mlflow
from spaces import Config

SPACE = """\
name: rules
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5], default: 0.5}}
attention:
  choice:
    - {name: none}
    - {name: eca, mapping: {name: log2, gamma: {float: [1, 4], step: 0.5, default: 2}, b: 1}}
  default: eca
training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 6, executor: inprocess, pruner: {name: ParetoPruner}}
"""
ARMS = [
    *("--arm", "published="),
    *("--arm", "k3=attention={name: eca, mapping: {name: constant, kernel_size: 3}}"),
    *("--arm", "none=attention=none"),
    *("--block", "backbone.width"),
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where this file's studies lie."""
    folder = tmp_path_factory.mktemp("compare")
    (folder / "rules.yaml").write_text(SPACE)
    return folder


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line there: its exit code, stdout and stderr."""
    monkeypatch.chdir(folder)

    def run(*args: str) -> tuple[int, str, str]:
        code = cli.main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="module")
def _compared(folder: Path) -> None:
    """Three arms at two widths with seven seeds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["compare", "rules.yaml", *ARMS, "--replicates", "7"]) == 0


def test_a_comparison_that_can_prove_nothing_is_refused(run: Run, folder: Path) -> None:
    """Before anything is trained, with the seeds that it needs."""
    code, out, err = run("compare", "rules.yaml", *ARMS, "--replicates", "6", "--out", "refused")
    assert code == 2
    assert not out
    assert "so few seeds (6) cannot tell 3 pairs apart" in err
    assert "--replicates 7 or more" in err
    assert not (folder / "refused").exists()


def test_the_plan_is_said_before_anything_trains(run: Run, folder: Path) -> None:
    """Which arms are one network, what is trained, from how many seeds on it can tell anything."""
    code, out, _ = run("compare", "rules.yaml", *ARMS, "--replicates", "7", "--plan")
    assert code == 0
    assert "3 arms at 2 blocks, 7 seeds: 5 networks, 35 trainings of 1 epoch\n" in out
    assert "k3 is published at backbone.width=0.5: the same network, trained once" in out
    assert "below 7 seeds no difference can be significant" in out
    assert "would be refused" not in out
    few = run("compare", "rules.yaml", *ARMS, "--replicates", "3", "--plan")[1]
    assert "so 3 seeds can prove nothing, and would be refused, unless --anyway is given" in few
    one = run("compare", "rules.yaml", "--arm", "a=", "--arm", "b=attention=none", "--plan")[1]
    assert "2 arms, 1 seed: 2 networks, 2 trainings of 1 epoch\n" in one
    assert "  so 1 seed can prove nothing" in one
    code, out, _ = run("compare", "rules.yaml", *ARMS, "--replicates", "7", "--plan", "--json")
    told = json.loads(out)["plan"]
    assert (told["trainings"], told["smallest"]) == (35, 7)
    assert told["same"][0]["blocks"] == [{"backbone.width": 0.5}]
    assert not (folder / "runs").exists()


@pytest.mark.usefixtures("_compared")
def test_what_a_comparison_has_told(run: Run) -> None:
    """Arms and pairs in the JSON that is fixed; a pair goes by the blocks where it differs."""
    code, out, _ = run("compare", "runs/rules-compare", "--json")
    assert code == 0
    told = json.loads(out)
    assert [(arm["name"], arm["n"]) for arm in told["arms"]] == [
        ("published", 14),
        ("k3", 14),
        ("none", 14),
    ]
    assert {"name", "n", "mean", "sd"} <= told["arms"][0].keys()
    pairs = {(pair["a"], pair["b"]): pair for pair in told["pairs"]}
    assert {names: pair["n"] for names, pair in pairs.items()} == {
        ("published", "k3"): 7,
        ("published", "none"): 14,
        ("k3", "none"): 14,
    }
    for pair in pairs.values():
        keys = {"a", "b", "difference", "low", "high", "p", "p_holm", "equivalent", "n"}
        assert keys <= pair.keys()
        assert pair["low"] <= pair["difference"] <= pair["high"]
        assert pair["p"] <= pair["p_holm"] <= 1
    means = {arm["name"]: arm["mean"] for arm in told["arms"]}
    both = pairs["published", "none"]
    # a mean of differences is the difference of means, to the last bits of doubles
    assert both["difference"] == pytest.approx(means["published"] - means["none"])
    assert told["caveats"] == []
    assert len(told["results"]) == 42  # three arms at two widths with seven seeds
    assert {"arm", "block", "seed", "val_accuracy"} == told["results"][0].keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--against", "noen"],
            "--against: no arm named 'noen'; did you mean 'none'? (there are: ",
        ),
        (["--margin", "nan"], "Invalid value for '--margin': 'nan' is not in the range 0<x<=1."),
        (["--alpha", "nan"], "Invalid value for '--alpha': 'nan' is not in the range 0<x<0.5."),
        (
            ["--replicates", "8", "search.replicates=7"],
            "--replicates or search.replicates=..., not both",
        ),
    ],
)
def test_a_wrong_option_is_called_by_its_name(run: Run, options: list[str], said: str) -> None:
    """As it was typed, though it is put into the space as an override is."""
    code, out, err = run("compare", "rules.yaml", *ARMS, *options, "--plan")
    assert (code, out) == (2, "")
    assert said in err
    assert "override" not in err


def test_an_arm_may_be_called_as_yaml_calls_a_no(run: Run) -> None:
    """`--against n` is the arm n."""
    arms = ["--arm", "e=attention=eca", "--arm", "n=attention=none"]
    code, out, err = run("compare", "rules.yaml", *arms, "--against", "n", "--plan", "--json")
    assert code == 0, err
    assert json.loads(out)["plan"]["pairs"] == [["e", "n"]]


@pytest.mark.usefixtures("_compared")
def test_a_comparison_reads_in_plain_words(run: Run, folder: Path) -> None:
    """The table, the aliases and one sentence a pair; another margin is owned up to."""
    code, out, _ = run("compare", "runs/rules-compare", "--margin", "0.5")
    assert code == 0
    assert "k3 is published at backbone.width=0.5" in out
    assert "no difference larger than 50 points" in out or "less than 50" in out
    assert "chosen afterwards, prove less" in out
    code, out, _ = run("compare", "runs/rules-compare", "--against", "none", "--json")
    assert {pair["b"] for pair in json.loads(out)["pairs"]} == {"none"}
    assert "compared with none alone, as was chosen afterwards" in json.loads(out)["caveats"][0]
    code, _, err = run("compare", "runs/rules-compare", "--against", "noen")
    assert code == 2
    assert (
        "--against: no arm named 'noen'; did you mean 'none'? (there are: published, k3, none)"
        in err
    )
    assert "pruner" not in (folder / "runs/rules-compare/space.yaml").read_text()


@pytest.mark.usefixtures("_compared")
def test_the_card_of_an_arm(run: Run, folder: Path) -> None:
    """Of which comparison it is an arm, under all its names, and that no test image was read."""
    number = next(
        trial.number
        for trial in search.load(folder / "runs" / "rules-compare").trials
        if trial.aliases
    )
    assert run("export", "runs/rules-compare", str(number), "--out", "arm")[0] == 0
    said = (folder / "arm" / "README.md").read_text()
    assert "Arms `published`, `k3`, at backbone.width=0.5, of 3 arms of a comparison" in said
    assert "their validation accuracy: " in said
    assert "No test set was read, and no figure here is of one." in said
    assert "of a search" not in said


@pytest.mark.usefixtures("_compared")
def test_more_seeds_are_owned_up_to(run: Run) -> None:
    """A resume with more seeds goes on, and the result says that it looked in between."""
    code, out, err = run("resume", "runs/rules-compare", "search.replicates=8")
    assert code == 0, err
    assert "published - k3" in out
    assert "seeds were added after results were seen" in out


def test_arms_that_are_one_network_go_by_the_first(run: Run) -> None:
    """Also where the one to compare with is the third of them."""
    same = ["--arm", "a=", "--arm", "b=", "--arm", "c=", "--arm", "d=attention=none"]
    code, out, err = run("compare", "rules.yaml", *same, "--against", "c", "--plan", "--json")
    assert code == 0, err
    plan = json.loads(out)["plan"]
    assert plan["pairs"] == [["d", "a"]]
    assert [(one["arm"], one["of"]) for one in plan["same"]] == [("b", "a"), ("c", "a")]


def test_so_many_pairs_that_no_seeds_are_enough_are_refused(run: Run) -> None:
    """Where the least p of the test is above alpha it is said what would help."""
    options = [*ARMS, "--replicates", "100", "--alpha", "0.00001", "--out", "never"]
    said = (
        "3 pairs: no difference can be significant with any number of seeds (sign-flip test, "
        "Holm's correction): fewer pairs, as with --against, or a larger --alpha"
    )
    code, out, err = run("compare", "rules.yaml", *options)
    assert (code, out) == (2, "")
    assert f"Error: {said} (or --anyway)" in err
    code, out, _ = run("compare", "rules.yaml", *options, "--plan")
    assert code == 0
    assert said in out


@pytest.mark.usefixtures("_compared")
def test_a_plan_says_what_its_seeds_would_see(run: Run) -> None:
    """Once a study here knows the noise of a training: the effect at 80 % power, in points."""
    code, out, err = run("compare", "rules.yaml", *ARMS, "--replicates", "8", "--plan", "--json")
    assert code == 0, err
    plan = json.loads(out)["plan"]
    # at one of two widths published and k3 are one network: 8 blocks, three pairs
    expected = power.detectable(8, plan["noise"]["sd"], comparisons=3)
    assert plan["sees"] == expected
    assert expected is not None
    out = run("compare", "rules.yaml", *ARMS, "--replicates", "8", "--plan")[1]
    said = f"  8 seeds would see a difference of {100 * expected:.2g} points at 80 % power"
    assert said in out.splitlines()
    assert plan["sees_in_sd"] == pytest.approx(expected / plan["noise"]["sd"], rel=0.01)
    # the name is taken, and of the study itself nothing is planned
    err = run("compare", "rules.yaml", *ARMS, "--replicates", "8", "--plan")[2]
    assert "runs/rules-compare is a study already: give this one another name=NAME" in err
    assert run("compare", "runs/rules-compare", "--plan")[0] == 2


def test_a_plan_without_known_noise_speaks_in_its_unit(run: Run) -> None:
    """How many standard deviations of one training the seeds would see."""
    options = [*ARMS, "--replicates", "8", "--plan", "--out", "nothing-yet"]
    code, out, err = run("compare", "rules.yaml", *options)
    assert code == 0, err
    expected = power.detectable(8, 1.0, comparisons=3)
    assert f"8 seeds would see a difference of {expected:.2g} times that sd at 80 % power" in out


@pytest.mark.usefixtures("_compared")
def test_what_a_comparison_says_of_itself(run: Run, folder: Path) -> None:
    """Status has its sentences, the end the ways on; another space is refused without --fork."""
    code, out, err = run("status", "runs/rules-compare")
    assert code == 0, err
    assert "rules-compare: finished, 5 of 5 trials: 5 finished; 1 duplicate" in out
    results = [line for line in out.splitlines() if line.startswith("  result   ")]
    assert len(results) == 3
    assert "hypervolume" not in out
    seeds = launch.load(folder / "runs/rules-compare").space.search.replicates
    options = [*ARMS, "--replicates", str(seeds)]
    code, out, err = run("compare", "rules.yaml", *options, "--resume")
    assert code == 0, err
    assert out.endswith(
        "study    runs/rules-compare\nlook     eca-search ui runs/rules-compare\n"
        "report   eca-search report runs/rules-compare\n"
    )
    code, out, err = run("compare", "rules.yaml", *options, "training.epochs=2", "--resume")
    assert code == 2
    assert "training.epochs: 1 -> 2" in err
    assert "or start another: give it another `name`, as name=NAME, or another --out" in err
    assert "--fork" not in err


@pytest.mark.usefixtures("_compared")
def test_a_folder_without_a_study_is_no_space(run: Run) -> None:
    """It is said with the studies that there are beside it."""
    code, out, err = run("compare", "runs/nope")
    assert (code, out) == (2, "")
    assert "Error: runs/nope: no study here, nor a space file (allowed: a space file, " in err
    assert "studies in runs: " in err
    assert "rules-compare" in err
    assert "Error: runs: no study here" in run("compare", "runs")[2]
    assert "no such file, nor a ready space of that name" in run("compare", "nope")[2]


def test_an_arm_that_cannot_train_takes_no_other_with_it(run: Run, folder: Path) -> None:
    """What it lost is said; the other arms are compared."""
    plugin = str(Path(__file__).parents[1] / "plugins" / "faulty.py")
    broken = "bad=attention={name: faulty, fault: raise, after: 1}"
    said = ["--arm", "a=", "--arm", "d=attention=none", "--arm", broken, "--plugin", plugin]
    few = ["--replicates", "2", "--anyway", "name=lame", "search.failures.max=1"]
    run("compare", "rules.yaml", *said, *few)
    code, out, err = run("compare", "runs/lame", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [(pair["a"], pair["b"]) for pair in told["pairs"]] == [("a", "d")]
    assert told["caveats"] == [
        "left out, as no seed of it has a result: bad; p is corrected for 1 pair, fewer than were "
        "planned"
    ]


def test_a_study_without_arms_compares_nothing(run: Run) -> None:
    """It is said, with what would; and a space without arms is asked for some."""
    code, _, err = run("run", "rules.yaml", "search.trials=2", "name=plain", "--out", "runs")
    assert code == 0, err
    code, _, err = run("compare", "runs/plain")
    assert code == 2
    assert "it has no arms" in err
    code, _, err = run("compare", "rules.yaml")
    assert code == 2
    assert "--arm NAME=" in err


def test_a_study_is_confirmed_by_the_test_images(run: Run, folder: Path) -> None:
    """Fresh seeds, training and validation images, test accuracy, shrinkage, a study of its own."""
    assert run("run", "rules.yaml", "search.trials=4", "name=plain", "--resume")[0] == 0
    code, out, err = run("confirm", "runs/plain", "--trials", "0,1", "--replicates", "2", "--json")
    assert code == 0, err
    told = json.loads(out)
    assert [network["trial"] for network in told["networks"]] == [0, 1]
    assert (told["searched"], told["judged"]) == ("val_accuracy", "test_accuracy")
    assert all(network["n"] == 2 for network in told["networks"])
    shrunk = [network["searched"] - network["mean"] for network in told["networks"]]
    assert told["shrinkage"]["mean"] == pytest.approx(sum(shrunk) / 2)  # a mean of two doubles
    seeds = {
        study: {r["seed"] for r in journal.read(folder / "runs" / study) if r["kind"] == "start"}
        for study in ("plain", "plain-confirm")
    }
    assert seeds["plain"].isdisjoint(seeds["plain-confirm"])
    curves = [r["metrics"] for r in journal.read(folder / "runs/plain-confirm") if "metrics" in r]
    assert all("test_accuracy" in m and "val_accuracy" not in m for m in curves)
    code, out, _ = run("confirm", "runs/plain-confirm")
    assert code == 0
    assert "shrinkage (search minus confirmed)" in out
    code, out, _ = run("resume", "runs/plain-confirm")
    assert code == 0
    assert "shrinkage" in out
    assert run("report", "runs/plain-confirm", "--paper")[0] == 0
    paper = folder / "runs/plain-confirm/report/paper"
    assert "judged by the 355 test images" in (paper / "methods.tex").read_text()
    assert not (paper / "comparison.csv").exists()
    assert run("report", "runs/plain", "--paper")[0] == 0
    assert (folder / "runs/plain/report/paper/confirmed.csv").exists()


def test_a_confirmation_is_an_experiment_of_its_own(run: Run, folder: Path) -> None:
    """The front of the search holds its own trials alone; each confirmed network names its trial.

    Depends on the studies of the test above.
    """
    study, confirmed = (
        search.load(folder / "runs/plain"),
        search.load(folder / "runs/plain-confirm"),
    )
    client = in_mlflow._client(default_uri(folder / "runs"))

    def runs(name: str, query: str) -> list[Any]:
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        return list(client.search_runs([experiment.experiment_id], query))

    front = runs("plain", "tags.`eca.front` = '1'")
    assert {int(run.data.tags["eca.trial"]) for run in front} == {t.number for t in study.pareto()}
    assert {run.data.tags["eca.study"] for run in runs("plain", "")} == {study.uuid}
    assert not any("eca.confirms" in run.data.tags for run in runs("plain", ""))

    found = {
        run.data.tags["eca.confirms"]: run.data.metrics
        for run in runs("plain-confirm", "tags.`eca.trial` != ''")
    }
    for number in (0, 1):
        metrics = found[f"plain #{number:03d}"]
        said = study.trials[number].objectives
        assert said is not None
        assert metrics["searched_val_accuracy"] == said["val_accuracy"]
        assert {"final_test_accuracy", "final_test_accuracy_sd", "n"} <= metrics.keys()
        assert len(metrics) <= 25
    assert len(found) == 2
    assert len(runs("plain-confirm", "tags.`eca.confirms` LIKE 'plain%'")) == 3  # the study's own
    assert confirmed.space.search.tracking.experiment is None

    settings = study.space.search.tracking.model_copy(update={"experiment": "x" * 200})
    settings = study.space.search.model_copy(update={"tracking": settings})
    study.space = replace(study.space, search=settings)
    space = confirming.space(study, study.pareto(), replicates=2)
    assert space.search.tracking.experiment == "x" * 192 + "-confirm"


def test_a_winner_without_a_site_can_be_confirmed_and_written(run: Run, folder: Path) -> None:
    """A subset of which nothing was chosen is the plain network, also as a file of its own."""
    text = SPACE.replace("mapping:", "placement: {name: stages, stages: {subset: [1]}}, mapping:")
    (folder / "bare.yaml").write_text(text.replace("name: rules", "name: bare"))
    nothing = "attention.eca.placement.stages={subset: [1], default: []}"
    first = "search.baselines=[{attention: {name: eca}}]"
    code, _, err = run("run", "bare.yaml", nothing, first, "search.trials=1")
    assert code == 0, err
    code, out, _ = run("show", "runs/bare", "0", "--json")
    config = Config.model_validate(json.loads(out)["config"])
    assert config.attention.name == "eca"
    (folder / "winner.yaml").write_text(config.to_yaml())
    code, _, err = run("validate", "winner.yaml")
    assert code == 0, err
    code, _, err = run("confirm", "runs/bare", "--replicates", "1")
    assert code == 0, err


def test_what_cannot_be_confirmed_is_refused(run: Run) -> None:
    """A trial that there is not, or that has no result, and a key that there is not."""
    code, _, err = run("confirm", "runs/plain", "--trials", "99")
    assert code == 2
    assert "no trial '99'" in err
    code, _, err = run("confirm", "runs/plain", "--trials", "0", "training.epoch=3", "--name", "x")
    assert code == 2
    assert "did you mean 'epochs'" in err


@pytest.mark.usefixtures("_compared")
def test_mlflow_tells_what_was_compared(folder: Path) -> None:
    """The parent run's description has the sentences, its artifacts the report."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("rules-compare")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    said = parent.data.tags["mlflow.note.content"]
    assert "### What it told" in said
    assert "published" in said.partition("### What it told")[2].partition("### Front")[0]
    names = [file.path for file in client.list_artifacts(parent.info.run_id)]
    assert "report.html" in names
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == 5
    assert {run.data.params["arm"] for run in children} == {"published", "k3", "none"}
