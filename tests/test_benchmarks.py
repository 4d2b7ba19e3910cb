"""Benchmarks that take no minutes where there is little to do."""

import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import distance_transform_edt, label
from tiny_export import SIZE, export_tiny_model
from warm_process import WarmProcess, WarmSubprocess

from benchmarks import (
    disturbed,
    full_disks,
    fuzz,
    fuzz_inputs,
    fuzz_targets,
    kills,
    large_pictures,
    one_stage,
    resolution,
    scale,
    serving,
    soak,
    stages,
    startup,
    training,
)
from benchmarks.kills import Kill, Trials
from benchmarks.repeated_pets import PICTURE, repeat_pets
from benchmarks.thin_structures import draw_picture, draw_thin_structures
from components.dataset.contracts import LABELS_FILE
from components.dataset.features import SPLITS
from components.image_mask_example_gen.config import DatasetConfig
from components.image_mask_example_gen.plan import plan_ingestion
from components.image_mask_example_gen.splits import SplitConfig
from components.imaging.reading import InputSize
from components.report.run_summary import RunSummary
from components.serving.config import ServingLimits
from components.serving.server.options import ServerOptions
from components.serving.server.server import ModelServer


def test_an_ingestions_pairs_are_counted_and_neither_pictures_nor_names_are_sent(tmp_path: Path) -> None:
    scale.draw_pairs(tmp_path / "pairs", 140)
    one, two = (scale.ingest(tmp_path / "pairs", tmp_path / str(workers), workers) for workers in (1, 2))
    assert one.pairs_by_worker == [140]
    assert len(two.pairs_by_worker) == 2 and sum(two.pairs_by_worker) == 140
    pictures = sum(file.stat().st_size for file in (tmp_path / "pairs/images").iterdir())
    assert one.written_bytes > pictures and 140 * len("photograph_0000000") > one.shuffled_bytes > 0


def test_training_on_windows_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = (
        *("model.filters=2", "model.depth=2", "transform.height=16", "transform.width=16"),
        *("augmentation.rotate=20", "training.batch_size=2", "transform.resize=native"),
    )
    changes = [part for change in tiny for part in ("--set", change)]
    training.main(["shapes", "--steps", "2", "--rounds", "1", *changes])
    header, line = capsys.readouterr().out.splitlines()
    measured = dict(zip(header.split(), line.split(), strict=True))
    assert (measured["recipe"], measured["numbers"]) == ("shapes", "float32")
    assert all(float(measured[name]) > 0 for name in ("tensors", "trainer", "ratio", "work", "input"))
    assert float(measured["augm."].removesuffix("%")) >= 0


def test_thin_structures_are_thin_faint_and_fork() -> None:
    image, mask = draw_picture(np.random.default_rng(0), 600)
    curves = mask == 255
    assert np.array_equal(np.unique(mask), [0, 255]) and 0.02 < curves.mean() < 0.1
    # Half the width, up to half a pixel; where curves meet they are wider.
    assert np.quantile(distance_transform_edt(curves)[curves], 0.95) <= 2
    # The thinnest break where they lie between two rows of pixels, but most hang together.
    pieces, _ = label(curves, np.ones((3, 3)))
    assert np.bincount(pieces.ravel())[1:].max() > 0.5 * curves.sum()
    beside = (distance_transform_edt(~curves) > 2) & (distance_transform_edt(~curves) < 6)
    difference = image[beside].mean() - image[curves].mean()
    assert 5 < difference < image.std()


def test_thin_structures_are_drawn_alike_again(tmp_path: Path) -> None:
    for name in ("once", "again"):
        draw_thin_structures(tmp_path / name, train=2, test=1, side=64)
    once, again = (
        {str(file.relative_to(tmp_path / name)): np.asarray(Image.open(file)) for file in files}
        for name in ("once", "again")
        for files in [sorted((tmp_path / name).rglob("*.png"))]
    )
    assert list(once) == [
        *("test/images/002.png", "test/masks/002.png"),
        *(f"train/{kind}/00{number}.png" for kind in ("images", "masks") for number in (0, 1)),
    ]
    assert all(np.array_equal(once[name], again[name]) for name in once)
    assert not np.array_equal(once["train/images/000.png"], once["train/images/001.png"])


def test_a_form_that_fails_says_why_and_leaves_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert resolution.main(["--pictures", "4", "--side", "64", "--set", "transform.height=33"]) == 1
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == ["resized", "proposed"]
    assert all("not measured: " in line and "transform.height is 33" in line for line in lines)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", fuzz_targets.TARGETS)
def test_readers_of_other_peoples_bytes_read_or_refuse_them(name: str) -> None:
    target = fuzz_targets.TARGETS[name]
    for data in fuzz_inputs.inputs(target.seeds(), count=60, seed=1):
        target.run(data)


def test_a_checksum_that_a_mutation_broke_is_mended() -> None:
    good = fuzz_targets.TARGETS["mask"].seeds()[0]
    assert fuzz_inputs.with_checksums(good[:29] + bytes(4) + good[33:]) == good


def test_no_input_is_longer_than_is_said() -> None:
    longest = fuzz_inputs.LONGEST
    assert max(len(fuzz_inputs.mutated(bytes(longest), random.Random(seed))) for seed in range(20)) == longest


@pytest.mark.parametrize("found", [False, True])
def test_a_temporary_corpus_stays_where_something_was_found_and_is_named(
    found: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", ModuleType("atheris"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fuzz, "_fuzz_apart", lambda name, corpus, args: corpus.mkdir() or found)
    assert fuzz.main(["mask"]) == found
    left = [str(path) for path in tmp_path.iterdir()]
    assert len(left) == found and all(path in capsys.readouterr().out for path in left)
    assert fuzz.main(["mask", "--corpus", str(tmp_path)]) == found and (tmp_path / "mask").is_dir()


def test_fuzzing_without_atheris_or_of_no_target_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    for arguments, said in ((["mask"], "atheris is not installed"), (["cat"], "'cat' is no target")):
        with pytest.raises(SystemExit):
            fuzz.main(arguments)
        assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_init_proposes_for_thin_structures_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "subprocess", WarmSubprocess)
    monkeypatch.setattr(resolution, "time_an_epoch", lambda command: resolution.Epoch(seconds=0.6, steps=2))
    tiny = (
        "model.filters=2",
        "model.depth=2",
        "transform.height=32",
        "transform.width=32",
        "transform.resize=native",
    )
    changes = [part for change in tiny for part in ("--set", change)]
    forms = ["--forms", "proposed"]
    assert resolution.main(["--minutes", "0.01", "--pictures", "4", "--side", "96", *forms, *changes]) == 0
    header, line = capsys.readouterr().out.splitlines()
    measured = re.fullmatch(r"proposed +(native 32 x 32) +(\d+) +([\d.]+)((?: +[01]\.\d{3}){3})", line)
    assert header.startswith("form ") and measured
    ceiling, dice, iou = map(float, measured[4].split())
    assert dice == pytest.approx(2 * iou / (1 + iou), abs=1e-3) and 0 < ceiling <= 1


def test_an_epoch_is_timed_in_a_run_that_is_stopped_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolution, "subprocess", WarmSubprocess)
    monkeypatch.setenv("TOY_TROUBLE", "training")
    toy = str(Path(__file__).with_name("pipeline") / "toy_pipeline.py")
    epoch = resolution.time_an_epoch([sys.executable, toy, "--workdir", str(tmp_path), "--json"])
    # Ten steps of 50 ms.
    assert epoch.steps == 10 and epoch.seconds >= 0.5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_large_picture_takes_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--width", "900", "--height", "700", "--window", "32", "--classes", "3", "--filters", "1")
    large_pictures.main(size)
    measured = re.fullmatch(
        r"900 x 700, 3 classes: ([\d.]+) s, (\d+) MB before, (\d+) MB with the picture\n",
        capsys.readouterr().out,
    )
    assert measured
    seconds, before, answered = map(float, measured.groups())
    assert seconds > 0 and 0 < before <= answered


def test_kills_are_drawn_for_every_stage_and_on_the_way_to_it() -> None:
    stages = ["Trainer", "ServingCheck", "Pusher"]
    planned = kills.plan(stages, 40, seed=1)
    places = {(kill.place, kill.before) for kill in planned}
    assert places == {*((stage, before) for stage in stages for before in (True, False)), ("the end", False)}
    assert {kill.place for kill in planned if kill.victim == "child"} == {"ServingCheck"}
    assert planned == kills.plan(stages, 40, seed=1) != kills.plan(stages, 40, seed=2)


def test_killed_runs_are_held_to_an_undisturbed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disturbed, "subprocess", WarmSubprocess)
    monkeypatch.setenv("TOY_TROUBLE", "training")
    toy = str(Path(__file__).with_name("pipeline") / "toy_pipeline.py")
    workdir, scratch = tmp_path / "work", tmp_path / "scratch"
    scratch.mkdir()

    def result() -> dict[str, object]:
        [count] = workdir.glob("artifacts/Worker/model/*/count")
        return {"the count": count.read_text()}

    def promises() -> Iterator[str]:
        if not list(workdir.glob("artifacts/Numbers/numbers/*/count")):
            yield "Numbers is not done"

    trials = Trials(
        [sys.executable, toy, "--workdir", str(workdir), "--json"], workdir, scratch, result, promises
    )
    early, late = Kill("Numbers", True, 0, "run"), Kill("Worker", False, 0.5, "all")
    first, second, finished = trials.chain([late, early])
    assert (first.kill, first.where, first.broken) == (
        early,
        "before the first stage",
        ("Numbers is not done",),
    )
    assert (second.kill, second.where, second.broken) == (late, "in Worker", ())
    assert (finished.kill, finished.where, finished.broken) == (None, "ended, pushed", ())

    assert first.hit and second.hit and len(list(kills._table((first, second, finished), ["Worker"]))) == 4

    # On a machine that is busy everything takes longer.
    late = Kill("the end", False, 10 + 2 / trials.undisturbed.seconds["the end", False], "run")
    childless = Kill("Worker", False, 0, "child")
    rows = trials.chain([childless, late])
    missed = [next(rows), next(rows)]
    assert [(row.hit, row.where, row.broken) for row in missed] == 2 * [(False, "ended, pushed", ())]
    assert len(list(kills._table(missed, ["Worker"]))) == 2

    with monkeypatch.context() as patch:
        patch.setattr(disturbed, "RUN_SECONDS", 3)
        patch.setenv("TOY_TROUBLE", "hang")
        [hung] = trials.chain([])
    assert hung.broken == ("it hung, and was killed", "left alone it ended with status -9: ")

    trials.undisturbed.result = {"the count": "another"}
    trials.undisturbed.files["serving/shapes/7/saved_model.pb"] += 1
    [unlike] = trials.chain([])
    assert unlike.broken == ("another result: the count", "missing: serving/shapes/7/saved_model.pb")


@pytest.mark.parametrize(("hits", "status"), [([], 1), ([False, False], 1), ([False, True], 0)])
def test_kills_of_which_none_hit_anything_are_no_success(
    hits: list[bool], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = Kill("Trainer", False, 0.5, "run")
    rows = [kills.Row(kill, "in Trainer", hit, 0.1, ()) for hit in hits]
    trials = SimpleNamespace(
        undisturbed=SimpleNamespace(stages=["Trainer"]),
        chain=lambda planned: [*rows, kills.Row(None, "", False, 1, ())],
    )
    monkeypatch.setattr(kills, "_pictures", list)
    monkeypatch.setattr(kills, "served_run", lambda prefix: nullcontext((Path(), Path(), [])))
    monkeypatch.setattr(kills, "Served", lambda *_: nullcontext(SimpleNamespace(promises=None)))
    monkeypatch.setattr(kills, "Trials", lambda *_: trials)
    assert kills.main(["--kills", str(len(hits))]) == status


class MountingSubprocess(WarmSubprocess):
    """Begins with TFX imported unless the command has mounts of its own."""

    @staticmethod
    def Popen(command: list[str], **options: Any) -> Any:  # type: ignore[override]
        start = subprocess.Popen if command[0] == "unshare" else WarmSubprocess.Popen
        return start(command, **options)


@pytest.mark.skipif(bool(full_disks.obstacle()), reason=full_disks.obstacle())
def test_runs_on_disks_that_cannot_be_written_are_held_to_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disturbed, "subprocess", MountingSubprocess)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    toy = str(Path(__file__).with_name("pipeline") / "toy_pipeline.py")
    workdir, scratch = tmp_path / "work", tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, toy, "--workdir", str(workdir), "--json"]
    assert WarmProcess(command[1:]).wait() == 0
    trials = full_disks.Trials([*command, "--set=training.epochs=7"], workdir, scratch, dict)
    there = {place.name: place for place in full_disks.places(workdir, trials.temporary, ["Numbers"])}

    row = trials.meet(there["metadata.sqlite"], "read-only", last=True)
    assert (row.status, row.broken) == (2, ())
    assert row.said.startswith(f"cannot work with {workdir}/metadata.sqlite: Read-only file system")
    assert list(full_disks._table([row]))[2:] == ["| metadata.sqlite | 2 | not measured | not measured |"]

    trials.undisturbed.files["serving/shapes/7/saved_model.pb"] += 1
    unlike = trials.meet(there["logs"], "read-only", last=True)
    assert unlike.broken == ("missing: serving/shapes/7/saved_model.pb",)


def test_what_a_run_in_trouble_leaves_in_tmpdir_or_puts_for_the_summary_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workdir, scratch = tmp_path / "work", tmp_path / "scratch"
    for folder in (workdir, scratch):
        folder.mkdir()
    for name in ("summary", "other", "own"):
        RunSummary(run_id=name, recipe="shapes", outcome="failed").save(workdir / f"{name}.json")
    script = """
    case ${TROUBLE-} in
      leaves) mkdir "$TMPDIR/left" ;;
      another) cp "$1/other.json" "$1/summary.json" ;;
      "its own")
        cp "$1/own.json" "$1/summary.json"
        echo '{"event": "finished", "summary": {"run_id": "own"}}' ;;
      *) exit 0 ;;
    esac
    echo no room >&2
    exit 1
    """
    trials = full_disks.Trials(["sh", "-euc", script, "sh", str(workdir)], workdir, scratch, dict)
    monkeypatch.setattr(full_disks, "mounted", lambda place, trouble, disk: ["env", f"TROUBLE={place.name}"])
    broken = [
        trials.meet(full_disks.Place("", Path(name)), "full", last=False).broken
        for name in ("leaves", "its own", "another")
    ]
    assert broken == [
        ("left behind: $TMPDIR/left",),
        (),
        ("summary.json is neither the old one nor that of this run",),
    ]


@pytest.mark.skipif(bool(full_disks.obstacle()), reason=full_disks.obstacle())
@pytest.mark.parametrize(("trouble", "written"), [("full", 0), ("some room", 2), ("read-only", 0)])
def test_what_is_in_the_place_of_a_directory_has_as_much_room_as_is_said(
    trouble: full_disks.Trouble, written: int, tmp_path: Path
) -> None:
    place, disk = tmp_path / "place", tmp_path / "disk"
    for folder in (place, disk):
        folder.mkdir()
    (place / "earlier").write_text("earlier")
    pages = 'cat "$1/earlier"; for page in 1 2 3; do head -c 4096 /dev/zero > "$1/$page"; done'
    command = [*full_disks.mounted(place, trouble, disk), "sh", "-c", pages, "sh", str(place)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == "earlier" and ended.returncode
    found = {path.name: path.stat().st_size for path in place.iterdir()}
    assert found.pop("earlier") == 7 and sum(found.values()) == written * 4096
    assert not list(disk.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_is_soaked_and_every_kind_of_request_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [
        export_tiny_model(
            tmp_path / str(side), ServingLimits(max_pixels=10**6), size=InputSize(side, side, "stretch")
        )
        for side in (4, 8)
    ]
    often = ("--minutes", "0.05", "--push-seconds", "1.5", "--rate", "40", "--growth", "1")
    status = soak.main([*often, "--models", *map(str, models)])
    header, *rows, attacks, faults = capsys.readouterr().out.splitlines()
    assert faults == "faults: none" and status == 0
    assert len(header.split("  ")) > 1 and len(rows) == 2
    good, hostile, versions = ([int(row.split()[column]) for row in rows] for column in (1, 2, 5))
    assert min(good) > 0 and sorted(set(versions)) == versions
    assert sum(int(count) for count in re.findall(r"(\d+) (?:grpc|rest|raw)_", attacks)) >= sum(hostile) > 5


@pytest.mark.parametrize(("good", "status", "faults"), [(0, 1, "1 good request"), (3, 0, "none")])
def test_a_server_that_nobody_asked_well_is_not_soaked(
    good: int, status: int, faults: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    row = soak.Row(good, 2, 5.0, 9.0, 1, 300.0, 40, 20, 0.5, 200.0, 30)
    monkeypatch.setattr(soak, "ServerProcess", lambda options: nullcontext())
    monkeypatch.setattr(soak, "Pusher", lambda *_: SimpleNamespace(push=lambda: 1, models={}))
    monkeypatch.setattr(soak, "first_answers", lambda *_: [])
    monkeypatch.setattr(soak, "Client", lambda *_: SimpleNamespace(attacks=Counter()))
    monkeypatch.setattr(soak, "soak", lambda *_: [row])
    assert soak.main(["--models", "one", "other"]) == status
    assert capsys.readouterr().out.splitlines()[-1] == f"faults: {faults}"


def test_what_grows_is_told_from_what_varies() -> None:
    varies = [100 + number % 7 for number in range(60)]
    assert soak.grown(varies, 0.05) == "" == soak.grown([500, *varies], 0.05)
    assert soak.grown([value + number for number, value in enumerate(varies)], 0.05) == "128.5 -> 151"


def test_a_server_that_answers_what_it_should_refuse_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_tiny_model(tmp_path / "pets" / "1", ServingLimits(max_pixels=10**6))
    options = ServerOptions(
        port=0, rest_api_port=0, model_name=soak.MODEL, model_base_path=str(tmp_path / "pets")
    )
    server = ModelServer(options, announce=lambda line: None)
    server.start()
    try:
        address: Any = SimpleNamespace(grpc_port=server.port, rest_port=server.rest_port)
        attacker = soak.Attacker(address, soak.draw(0), random.Random(0))
        attacker.grpc_large_batch()
        monkeypatch.setattr(soak, "BATCH", 1)
        with pytest.raises(soak.NotRefusedError, match="answered"):
            attacker.grpc_large_batch()
    finally:
        assert server.stop(grace=5)


def test_the_copies_of_a_picture_are_in_one_split(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    pictures = "".join(f"red_cat_{number} 1 1 1\n" for number in range(7))
    (tmp_path / "annotations" / "list.txt").write_text("#Image CLASS-ID\n" + pictures)
    root = tmp_path / "pets"
    repeat_pets(tmp_path, root, 40, test=10)
    splits = SplitConfig(group=PICTURE, val=0.4)
    plan = plan_ingestion(DatasetConfig(layout="oxford_iiit_pet", root=str(root), splits=splits), root)
    assert plan.pairs["test"] == 10 and sum(plan.pairs.values()) == 40
    found = {
        (os.readlink(root / entry.image), shard.split) for shard in plan.shards for entry in shard.entries
    }
    assert len(found) == 7 and {split for _, split in found} == set(SPLITS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_each_stage_takes_is_measured(shared_data: Path) -> None:
    program = str(Path(__file__).with_name("stages_in_one_process.py"))
    pets = str(shared_data / "oxford_iiit_pet")
    process = WarmProcess([program, pets, "--sizes", "32", "--cores", "1"], merged=True)
    output, _ = process.communicate()
    assert process.wait() == 0, output
    *rows, input_ratio, evaluator_ratio = re.findall(r"^1 core .*", output, re.MULTILINE)
    pattern = r"1 core   (.+?) +([\d.]+) ms an image, [\d.]+ by the processor, (\d+) MiB \(\+0%\)"
    found = [re.fullmatch(pattern, row) for row in rows]
    assert all(found) and len(rows) == 16
    costs = {match[1]: float(match[2]) for match in found if match}
    assert costs["Trainer"] > 0 and costs["Report"] > 0
    assert float(re.findall(r"([\d.]+) × the bare loop", input_ratio)[0]) > 1
    ratio = costs["Evaluator"] / costs[one_stage.BARE_EVALUATION]
    assert float(evaluator_ratio.split()[3]) == pytest.approx(ratio, rel=0.01)


def test_a_stage_is_measured_in_a_process_of_its_own_on_the_cores_that_are_named(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_stage, "subprocess", WarmSubprocess)
    repeat_pets(shared_data / "oxford_iiit_pet", tmp_path / "pets", 8, test=2)
    recipe = ("pets_unet", str(tmp_path / "pets"), "transform.height=32", "transform.width=32")
    cost = one_stage.measure(one_stage.BARE_INPUT, recipe, tmp_path, [0])
    assert 0 < cost.processor_seconds < 2 * cost.seconds and cost.peak_bytes > 50 * 2**20
    with pytest.raises(one_stage.NotMeasuredError, match="No such file or directory"):
        one_stage.measure(one_stage.TRAINER_INPUT, recipe, tmp_path, [0])


def test_what_was_measured_before_a_stage_failed_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(stage: str, arguments: object, workdir: Path, cores: Sequence[int]) -> one_stage.Cost:
        if stage == "Transform" and len(cores) == 1:
            raise one_stage.NotMeasuredError("no space left")
        _, number, _, images = workdir.name.split("-")
        seconds = len(cores) * int(images) * 2 ** (int(number) - 1)
        return one_stage.Cost(seconds, processor_seconds=seconds / 4, peak_bytes=2**20)

    monkeypatch.setattr(stages, "measure", measure)
    monkeypatch.setattr(stages, "repeat_pets", lambda *_, **__: None)
    assert stages.main([str(tmp_path), "--sizes", "10", "30", "--rounds", "3"]) == 1
    lines = capsys.readouterr().out.splitlines()
    place = lines.index("not measured: no space left")
    assert "ExampleValidator" in lines[place - 1]
    assert "1000.00 ms an image, 250.00 by the processor, 1 → 1 MiB" in lines[place - 1]
    # One after the other would take 1000.00 an image, as one on one core does.
    assert lines[place + 1].startswith("2 cores  bare loop: read, decode, resize, write, one a core")
    assert "500.00 ms an image, 250.00 by the processor" in lines[place + 1]
    assert lines[place + 2] == "2 cores  which is 2.00 × one bare loop"
    assert lines[place + 3].startswith("2 cores  keras") and "2000.00 ms an image" in lines[place + 3]
    assert lines[-1] == "2 cores  Evaluator 1.00 × the bare loop"
    stages.main([str(tmp_path), "--cores", "2", "--to_pixels"])
    last = capsys.readouterr().out.splitlines()[-1]
    # 5 of 250 ms are one thread's, and the sixth of the stages holds one of them.
    assert (
        "to the Trainer's pixels 6000.00 ms an image" in last
        and "; 1375.00 ms did no core wait but for one thread's 1250.00" in last
    )


def test_how_long_one_waits_is_said_in_medians(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run tells of, ``end_to_end/test_real_data.py`` knows."""
    asked: list[tuple[str, ...]] = []

    def run_waits(*arguments: str) -> dict[str, float]:
        asked.append(arguments)
        return {"all is done after": float(len(asked) ** 2)}

    monkeypatch.setattr(startup, "run_waits", run_waits)
    startup.main(["--rounds", "3", "--set", "training.epochs=1"])
    help_line, byte_line, *runs = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"--help: \d+\.\d\d s", help_line)
    assert re.fullmatch(r"pipeline\.predict, first byte on the wire: \d+\.\d\d s", byte_line)
    assert runs == [
        "shapes, first run: all is done after 4.0 s",
        "shapes, nothing has changed: all is done after 25.0 s",
    ]
    assert asked[:3] == asked[3:] and len(set(asked)) == 3
    assert all(arguments[2:] == ("--set", "training.epochs=1") for arguments in asked)


def test_what_the_way_over_grpc_takes_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = export_tiny_model(tmp_path / "model/1", ServingLimits())
    description = json.loads((version / LABELS_FILE).read_text())
    description["recipe"]["transform"] = {"height": SIZE.height, "width": SIZE.width, "resize": SIZE.method}
    (version / LABELS_FILE).write_text(json.dumps(description))
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    tiny = ("--clients", "1", "2", "--requests", "4", "--rounds", "1")
    serving.main([str(tmp_path / "model"), str(tmp_path), *tiny])
    _, _, *rows, network, longer = capsys.readouterr().out.splitlines()
    names = [re.split(r"  +", row)[0] for row in rows]
    batches = [f"{serving.IN_BATCHES}{size}" for size in serving.BATCHES]
    assert names == [serving.NETWORK, serving.ALONE, *batches, "1 client", "2 clients"]
    assert float(network.split()[5]) > 0 and longer.startswith("one client waits ")
