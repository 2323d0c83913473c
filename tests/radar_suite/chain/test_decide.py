"""From a saved router to decisions in the shell: one small router, calibrated, routed and replayed for real."""

import pyarrow.parquet as pq
import pytest
import torch

from radar_lib.data.posts import write_corpus
from radar_lib.models.backbones import load_backbone
from radar_lib.models.router import RadarRouter, RouterConfig
from radar_suite.chain import cli, exits
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

WORDS = ["cheap loans", "a calm walk", "follow to win", "cooking rice"]


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder with a router, 160 labelled posts, and a bundle made of them."""
    place = tmp_path_factory.mktemp("decide")
    checkpoint = place / "qwen3-vl-2b"
    write_random_standin(checkpoint, checkpoint.name, WORDS * 30, geometry=tiny(GEOMETRIES[checkpoint.name]),
                         vocabulary=380)  # fmt: skip
    router = RadarRouter(load_backbone(checkpoint), RouterConfig(("A",), lora_rank=2))
    with torch.no_grad():
        for parameter in router.trainable_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    router.save_pretrained(place / "router")
    rows = [{"post_id": f"p{i}", "split": "calibration", "title": f"{WORDS[i % 4]} {i}", "label_A": int(i % 4 == 0)}
            for i in range(160)]  # fmt: skip
    write_corpus(place / "posts", rows, name="toy", kind="imported", categories=["A"])
    line = ["calibrate", str(place / "router"), str(place / "posts"), "--device", "cpu"]
    assert cli.main([*line, "--out", str(place / "bundle")]) == exits.OK
    return place


def radar(places, line: str) -> int:
    return cli.main([str(places / word[1:]) if word.startswith("@") else word for word in line.split()])


def test_route_and_replay(places, capsys):
    capsys.readouterr()
    assert radar(places, "route @bundle @posts --out @log.parquet --device cpu") == exits.OK
    log = pq.read_table(places / "log.parquet")
    released = sum(not modules for modules in log["modules"].to_pylist())
    assert len(log) == 160 and f"released {released:,} (" in capsys.readouterr().out
    assert radar(places, "replay @log.parquet") == exits.OK
    assert radar(places, "replay @log.parquet --bundle @bundle --posts @posts --split calibration") == exits.OK


def test_a_log_that_does_not_replay_fails(places):
    radar(places, "route @bundle @posts --out @other.parquet")
    log = pq.read_table(places / "other.parquet")
    at = log.schema.get_field_index("dispatch_A")
    flipped = [[not flag for flag in log["dispatch_A"].to_pylist()]]
    pq.write_table(log.set_column(at, log.schema.field(at), flipped), places / "other.parquet")
    assert radar(places, "replay @other.parquet") == exits.FAILURE


def test_preview_shows_and_writes_nothing(places, capsys):
    before = sorted(places.iterdir())
    capsys.readouterr()
    assert radar(places, "route @bundle @posts --preview 3") == exits.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["p0", "p1", "p2"] and sorted(places.iterdir()) == before


@pytest.mark.parametrize(
    "line",
    [
        "calibrate @router @posts --out @bundle",
        "calibrate @router @posts --out @new --recall 0.99",
        "calibrate @router @posts --out @new --inclusion @absent.csv",
        "calibrate @posts @posts --out @new",
        "route @router @posts --out @new",
        "route @bundle @nowhere --out @new",
        "route @bundle @posts --out @new --seconds 0",
        "replay @nowhere",
    ],
)
def test_bad_usage_has_its_code_and_leaves_nothing(places, line, capsys):
    assert radar(places, line) == exits.USAGE
    assert capsys.readouterr().err.startswith("radar: ") and not (places / "new").exists()


def test_chances_of_inclusion_are_read(places):
    table = "post_id,inclusion\n" + "".join(f"p{i},0.5\n" for i in range(160))
    (places / "chances.csv").write_text(table)
    assert radar(places, "calibrate @router @posts --out @even --inclusion @chances.csv") == exits.OK
