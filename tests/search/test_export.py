"""`export`: a trained network leaves its study whole, and runs where there is torch alone."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import safetensors.torch
import torch

import search
import spaces
import trainers
from search.cli import main
from search.report import export as exporting
from search.study.study import Study, seed_of
from search.trial import Ending
from trainers import checkpoint, portable
from trainers.batches import open_batches
from trainers.build import drawn

Synthetic = Callable[..., Study]
SPACE = """\
name: tiny
dataset: {name: digits, subset: 200, val: 0.2}
backbone: {name: resnet, depth: 8, width: 0.25}
attention: {choice: [{name: eca}, {name: none}]}
training: {epochs: 2, batch_size: 50, optimizer: {name: sgd, lr: 0.1}, ema: 0.5}
search:
  trials: 2
  seed: 3
  replicates: 2
  executor: inprocess
  checkpoints: {of: all}
  sampler: {name: RandomSampler}
  baselines: [{attention: {name: eca}}, {attention: {name: none}}]
"""
FILES = {"weights.safetensors", "model.pt2", "config.yaml", "README.md"}

TORCH = ("torch", "torchgen", "functorch", "typing_extensions.py", "sympy", "mpmath", "networkx")
TORCH += ("filelock", "jinja2", "markupsafe", "fsspec", "nvidia", "cuda", "triton")
"""Torch and what it depends on, as they lie in a site-packages."""

TORCH_ALONE = """\
import sys

sys.path.append(sys.argv[1])
import torch

images = torch.load(f"{sys.argv[2]}/images.pt", weights_only=True)
for name in sys.argv[3:]:
    net = torch.export.load(f"{sys.argv[2]}/{name}.pt2").module()
    torch.save([net(batch) for batch in images], f"{sys.argv[2]}/{name}.logits")
others = {"spaces", "trainers", "search", "safetensors", "pydantic", "numpy"} & set(sys.modules)
sys.exit(" ".join(others) or 0)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two real networks, two seeds each, that keep an average of their weights."""
    where = tmp_path_factory.mktemp("export")
    (where / "tiny.yaml").write_text(SPACE)
    return search.run(where / "tiny.yaml", out=where / "runs").folder


@pytest.fixture(scope="module")
def exported(trained: Path) -> Path:
    """What `export STUDY 0` wrote, where it goes unless told."""
    assert main(["export", str(trained), "0"]) == 0
    return trained / "exports" / "000-r0"


def test_the_files_are_told(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json says where they are, how large, and their sha256; another replicate by its number."""
    out = tmp_path / "best"
    assert main(["export", str(trained), "#001", "--replicate=1", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["study"], told["trial"], told["replicate"]) == (1, "tiny", 1, 1)
    assert (told["epoch"], told["folder"]) == (2, str(out))
    assert set(told["files"]) == FILES == {path.name for path in out.iterdir()}
    for name, file in told["files"].items():
        data = (out / name).read_bytes()
        assert file == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def torch_alone(folder: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the programs NAME.pt2 of a folder on its images.pt, where there is torch and no more."""
    packages = folder / "packages"
    packages.mkdir()
    for name in TORCH:
        packages.joinpath(name).symlink_to(Path(torch.__file__).parents[1] / name)
    return subprocess.run(  # -I and -S: no PYTHONPATH, no working folder, no site-packages
        [sys.executable, "-I", "-S", "-c", TORCH_ALONE, packages, folder, *names],
        capture_output=True,
        text=True,
        # sums by another number of threads differ in their last digits, and these networks make
        # much of them; what ran before in this process may have chosen one
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )


def test_a_process_with_torch_alone(exported: Path, trained: Path, tmp_path: Path) -> None:
    """The program gives the validation logits of the trained network, bit for bit, elsewhere."""
    trial = search.load(trained).trials[0]
    config = spaces.Config.model_validate(trial.config)
    batches = list(open_batches(config, torch.device("cpu"))[1].ordered())
    torch.save([images for images, _ in batches], tmp_path / "images.pt")
    shutil.copy(exported / "model.pt2", tmp_path)
    done = torch_alone(tmp_path, ["model"])
    assert done.returncode == 0, done.stderr
    logits = torch.load(tmp_path / "model.logits", weights_only=True)
    network = trainers.build(config).eval()
    network.load_state_dict(safetensors.torch.load_file(exported / "weights.safetensors"))
    with torch.inference_mode():
        for (images, _), told in zip(batches, logits, strict=True):
            torch.testing.assert_close(told, network(images))
    right = sum(
        int((told.argmax(1) == labels).sum())
        for (_, labels), told in zip(batches, logits, strict=True)
    )
    count = sum(len(labels) for _, labels in batches)
    # of the averaged weights: the last ones' accuracy is another
    assert right / count == pytest.approx(trial.replicates[0].curve[-1]["val_accuracy"])


NETWORKS = {
    "resnet none": ("resnet", {"name": "none"}),
    "resnet se": ("resnet", {"name": "se", "reduction": 4}),
    "resnet eca log2": ("resnet", {"name": "eca"}),
    "resnet eca linear": (
        "resnet",
        {"name": "eca", "position": "mid", "mapping": {"name": "linear", "gamma": 8}},
    ),
    "resnet eca per stage": (
        "resnet",
        {"name": "eca", "mapping": {"name": "per_stage", "kernel_sizes": [3, 5, 7]}},
    ),
    "mobilenetv2 none": ("mobilenetv2", {"name": "none"}),
    "mobilenetv2 se": ("mobilenetv2", {"name": "se", "position": "mid"}),
    "mobilenetv2 eca linear": (
        "mobilenetv2",
        {"name": "eca", "mapping": {"name": "linear", "gamma": 32}},
    ),
    "mobilenetv2 eca per stage": (
        "mobilenetv2",
        {"name": "eca", "mapping": {"name": "per_stage", "kernel_sizes": [1, 1, 1, 1, 3, 3, 3]}},
    ),
}
"""Backbone and attention of networks that are written as programs."""


def test_every_kind_of_network_runs_with_torch_alone(tmp_path: Path) -> None:
    """Equal logits for batches of one and of five, whatever attends, and from whatever mapping."""
    torch.manual_seed(0)
    images = [torch.randn(count, 1, 8, 8) for count in (1, 5)]
    torch.save(images, tmp_path / "images.pt")
    wanted = {}
    for number, (backbone, attention) in enumerate(NETWORKS.values()):
        size = {"depth": 8} if backbone == "resnet" else {}
        config = spaces.Config.model_validate(
            {
                "name": "any",
                "dataset": {"name": "digits"},
                "backbone": {"name": backbone, "width": 0.25, **size},
                "attention": attention,
                "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
            }
        )
        network = drawn(config, seed=number).eval()
        torch.manual_seed(number)
        for name, moved in network.named_buffers():  # as training leaves them: not 0 and 1
            if name.endswith("running_mean"):
                moved.uniform_(-0.2, 0.2)
            if name.endswith("running_var"):
                moved.uniform_(0.01, 0.1)
        (tmp_path / f"{number}.pt2").write_bytes(portable.program(network, config))
        with torch.inference_mode():
            wanted[number] = [network(batch) for batch in images]
    names = [str(number) for number in wanted]
    done = torch_alone(tmp_path, names)
    assert done.returncode == 0, done.stderr
    for number, logits in wanted.items():
        found = torch.load(tmp_path / f"{number}.logits", weights_only=True)
        for told, own in zip(found, logits, strict=True):
            assert len(own) == 1 or own.std(0).mean() > 0.1  # it says what each image is
            # the same operations in the same order: what differs is rounding, if anything
            torch.testing.assert_close(told, own, rtol=1e-4, atol=1e-5)


def test_the_weights_are_the_average(exported: Path, trained: Path) -> None:
    """Where the recipe keeps an average its weights are exported, which are not the last ones."""
    study = search.load(trained)
    state = checkpoint.newest(f"{study.checkpoints}/{study.trials[0].key_of(0)}")
    assert state is not None
    weights = safetensors.torch.load_file(exported / "weights.safetensors")
    assert set(weights) == set(state["network"])
    for name, tensor in weights.items():
        assert torch.equal(tensor, state["average"][f"module.{name}"])
    assert not torch.equal(weights["fc.weight"], state["network"]["fc.weight"])


def test_the_config_is_one_trial(exported: Path, trained: Path) -> None:
    """config.yaml is a space without holes that means this network and trains it to the same."""
    trial = search.load(trained).trials[0]
    space = spaces.load(exported / "config.yaml")
    assert space.parameters == ()
    assert space.search.trials == 1
    assert space.at({}).model_dump(mode="json") == trial.config
    *_, last = trainers.train(space.at({}), seed=seed_of(space.search.seed, 0))
    assert last["val_accuracy"] == trial.replicates[0].curve[-1]["val_accuracy"]


def test_the_card(exported: Path, trained: Path) -> None:
    """It tells the network, what it costs by which convention, what it is worth, and of whom."""
    study = search.load(trained)
    trial = study.trials[0]
    said = (exported / "README.md").read_text()
    for site, size in trial.kernels.items():
        assert f"| {site} | {size} |" in said
    assert f"parameters: {trial.costs['params']:,.0f}" in said
    assert f"MACs: {trial.costs['macs']:,.0f}" in said
    assert "1 MAC = 2 FLOPs" in said
    mean, sd = (trial.objectives or {})["val_accuracy"], trial.spread["val_accuracy"]
    assert f"val_accuracy over seeds: {mean:.4f} (n = 2, sd {sd:.4f})" in said
    own = trial.replicates[0].curve[-1]["val_accuracy"]
    assert f"their validation accuracy: {own:.4f}" in said
    assert "no figure here is of one" in said  # of the test set
    assert study.uuid in said
    assert hashlib.sha256((exported / "weights.safetensors").read_bytes()).hexdigest() in said
    assert str(Path.home()) not in said


def test_an_export_is_never_written_over(
    exported: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 and nothing changed; --force writes the same bytes and leaves other files alone."""
    (exported / "notes.txt").write_text("mine")
    before = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert main(["export", str(trained), "0"]) == 2
    said = capsys.readouterr().err
    assert "--force" in said
    assert len(said.splitlines()) <= 6
    assert {path.name: path.read_bytes() for path in exported.iterdir()} == before
    (exported / "weights.safetensors").write_bytes(b"damaged")
    assert main(["export", str(trained), "0", "--force"]) == 0
    after = {path.name: path.read_bytes() for path in exported.iterdir()}
    for name in ("weights.safetensors", "config.yaml", "notes.txt"):
        assert after[name] == before[name]


@pytest.mark.parametrize("where", ["file", "file/below", "link"])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_a_file_in_the_way(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    where: str,
    force: list[str],
) -> None:
    """A file, or a link to nowhere, where the folder should be is exit 2 and stays as it is."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert main(["export", str(trained), "0", "--out", str(tmp_path / where), *force]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 6
    assert (tmp_path / "file").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


def test_checkpoints_behind_a_uri(trained: Path, tmp_path: Path) -> None:
    """Weights are fetched from wherever fsspec reaches."""
    study = search.load(trained)
    local = Path(study.checkpoints)
    uri = study.space.search.checkpoints.model_copy(update={"uri": f"memory://{tmp_path.name}"})
    settings = study.space.search.model_copy(update={"checkpoints": uri})
    study.space = dataclasses.replace(study.space, search=settings)
    assert study.checkpoints.startswith("memory://")
    with pytest.raises(search.errors.ExportError, match="no whole checkpoint"):
        exporting.export(study, study.trials[0], out=tmp_path / "none")
    fsspec.filesystem("memory").put(str(local), study.checkpoints, recursive=True)
    done = exporting.export(study, study.trials[0], out=tmp_path / "out")
    weights = safetensors.torch.load_file(done.folder / "weights.safetensors")
    state = checkpoint.newest(local / study.trials[0].key_of(0))
    assert state is not None
    for name, tensor in weights.items():
        assert torch.equal(tensor, state["average"][f"module.{name}"])


def test_a_damaged_last_checkpoint(trained: Path, tmp_path: Path) -> None:
    """The one before is exported, which is said, also on the card."""
    study = search.load(shutil.copytree(trained, tmp_path / "tiny"))
    last = max(Path(study.checkpoints, study.trials[1].key_of(0)).iterdir())
    last.write_bytes(last.read_bytes()[:-100])
    said: list[str] = []
    done = exporting.export(study, study.trials[1], out=tmp_path / "out", say=said.append)
    assert done.epoch == 1
    assert any("is damaged" in line for line in said)
    assert any("epoch 1 of 2" in line for line in said)
    assert "epoch 1 of 2" in (tmp_path / "out" / "README.md").read_text()


def test_checkpoints_that_are_gone(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `gc` of a trial off the front: exit 2, the likely reason, and nothing created."""
    folder = shutil.copytree(trained, tmp_path / "tiny", ignore=shutil.ignore_patterns("exports"))
    shutil.rmtree(folder / "checkpoints")
    assert main(["export", str(folder), "1"]) == 2
    said = capsys.readouterr().err
    assert "eca-search gc" in said
    assert "search.checkpoints.of: all" in said
    assert "eca-search show" in said
    assert len(said.splitlines()) <= 6
    assert not (folder / "exports").exists()


def test_another_network_s_checkpoint(trained: Path, tmp_path: Path) -> None:
    """Weights of a network that is not the trial's are refused."""
    study = search.load(shutil.copytree(trained, tmp_path / "tiny"))
    one, other = (Path(study.checkpoints, trial.key_of(0)) for trial in study.trials)
    shutil.rmtree(one)
    shutil.copytree(other, one)
    with pytest.raises(search.errors.ExportError, match="another run's"):
        exporting.export(study, study.trials[0], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", ["2", "-1", "x", "0x1", ""])
def test_no_such_trial(trained: Path, capsys: pytest.CaptureFixture[str], number: str) -> None:
    """Numbers alone name trials: what is none, or no trial's, is exit 2 with those there are."""
    assert main(["export", str(trained), "--", number]) == 2
    said = capsys.readouterr().err
    assert "#000 to #001" in said
    assert len(said.splitlines()) <= 6


def test_the_beginning_of_an_identity_is_no_name(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A prefix, which may be several networks', names none."""
    identity = f"a{search.load(trained).trials[0].identity}"  # never a number
    assert main(["export", str(trained), identity[:5]]) == 2
    assert "no trial" in capsys.readouterr().err


@pytest.mark.parametrize("outcome", ["pruned", "diverged", "crashed"])
def test_a_trial_without_a_result(
    synthetic: Synthetic, capsys: pytest.CaptureFixture[str], outcome: str
) -> None:
    """One that was pruned or has failed is exit 2 and says how it ended; so is one that runs."""
    study = synthetic(failures={"crashed": 0})
    for ending in (Ending(outcome, "for a reason"), None):
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "virtual:1")
        if ending:
            study.end(assignment.trial, assignment.replicate, ending)
    study.commit()
    before = sorted(study.folder.rglob("*"))
    for number, word in enumerate([f"ended as {outcome} (for a reason)", "has not ended yet"]):
        assert main(["export", str(study.folder), str(number)]) == 2
        said = capsys.readouterr().err
        assert word in said
        assert "only finished trials" in said
        assert len(said.splitlines()) <= 6
    assert sorted(study.folder.rglob("*")) == before


def test_no_such_replicate(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which have finished."""
    assert main(["export", str(trained), "0", "--replicate", "7"]) == 2
    assert "(there are: 0, 1)" in capsys.readouterr().err


BRANCHING = """\
from torch import nn


class Gate(nn.Module):
    def forward(self, x):
        return x if x.is_meta or x.sum() > 0 else -x


def attention(channels: int) -> nn.Module:
    \"\"\"A network that no graph can say.\"\"\"
    return Gate()
"""


def test_a_network_that_no_program_can_say(tmp_path: Path) -> None:
    """Of one's own attention that branches on its numbers all but the program is exported."""
    (tmp_path / "branching.py").write_text(BRANCHING)
    space = SPACE.replace("{choice: [{name: eca}, {name: none}]}", "{name: branching}")
    space = space[: space.index("  trials")] + "  executor: inprocess\n"
    (tmp_path / "tiny.yaml").write_text(space)
    study = search.run(tmp_path / "tiny.yaml", out=tmp_path, plugins=[tmp_path / "branching.py"])
    said: list[str] = []
    done = exporting.export(study, study.trials[0], say=said.append)
    assert {path.name for path in done.folder.iterdir()} == FILES - {"model.pt2"}
    assert any("no model.pt2" in line for line in said)
    card = (done.folder / "README.md").read_text()
    assert "There is no `model.pt2`" in card
    assert "the attention is a plugin: sha256" in card
