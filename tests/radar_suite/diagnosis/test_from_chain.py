"""A run of the chain as a run folder: the router's own scores, a band of refitted heads, one error where it fails."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from radar_lib.data.posts import open_posts
from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_lib.models.text import TextLimit
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_lib.training.loop import no_bar
from radar_suite.chain.cli import main
from radar_suite.diagnosis.from_chain import CORPUS, ROUTERS, SOFT_LABELS, is_chain_run, read_chain
from radar_suite.diagnosis.signals import SIGNALS, broken_contracts, compute
from radar_suite.world.standins import locate_checkpoints


@pytest.fixture(scope="module")
def chain(smoke_run, tmp_path_factory):
    """What a diagnosis reads of the smoke chain: two routers, the first without the mask, the last distilled."""
    runs = tmp_path_factory.mktemp("chain")
    listed = read_json(smoke_run / ROUTERS)
    for name in (ROUTERS, CORPUS, SOFT_LABELS, SOFT_LABELS.replace("parquet", "json")):
        (runs / "smoke" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(smoke_run / name, runs / "smoke" / name)
    corpus = read_json(smoke_run / CORPUS)["folder"]
    for folder in (corpus, *(f"cache/training/{one['run']}" for one in (listed[0], listed[-1]))):
        shutil.copytree(smoke_run.parent / folder, runs / folder)
    return runs / "smoke"


def test_scores_are_the_routers_own(chain):
    found = read_chain(chain)
    lab = Lab(open_posts(chain.parent / read_json(chain / CORPUS)["folder"]), Cache(chain.parent / "cache"),
              checkpoints=locate_checkpoints("standins"), text=TextLimit(**found.run.entry.inputs["text"]),
              bar=no_bar)  # fmt: skip
    lab.score(replace(found.run, splits=("validation",)))  # the chain reads its scores of test posts only
    run, own = found.run_folder(), found.run.scores("validation").set_index("post_id")
    mine = run.splits["validation"].set_index("post_id").loc[own.index]
    for c in run.categories:
        assert mine[f"logit_{c}"].to_numpy() == pytest.approx(own[f"logit_{c}"].to_numpy(), abs=1e-4)
    assert {"train", "validation", "audit", "serve"} == set(run.splits)
    assert (run.matrix("serve", "label") == -1).all() and (run.matrix("audit", "label") >= 0).all()


def test_what_a_chain_lacks_is_named_and_the_rest_is_there(chain):
    found, absent = compute(read_chain(chain).run_folder(), SIGNALS)
    assert {"served_noise", "loss_end", "relabel_missed", "teacher_auc", "threshold_gap"} <= set(absent)
    assert {"audit_ap", "pipeline_gap", "content_overlap", "month_residual", "frames_effect"} <= set(found)


def test_a_band_is_the_run_with_other_heads_and_most_of_its_posts(chain):
    found = read_chain(chain)
    first, second = found.band(2)
    whole, again = found.run_folder(), found.band(1)[0]
    for split, table in first.splits.items():
        assert set(table["post_id"]) <= set(whole.splits[split]["post_id"])
        assert len(table) >= 0.8 * len(whole.splits[split])
    held = [one.matrix("validation", "logit") for one in (whole, first, second)]
    assert not np.allclose(held[1], held[2]) and not np.allclose(held[0], held[1])
    assert again.matrix("validation", "logit") == pytest.approx(held[1], abs=1e-4)


def test_a_router_without_the_mask_breaks_its_contract(chain):
    listed = read_json(chain / ROUTERS)
    assert "unread_cells" in broken_contracts(read_chain(chain, listed[0]["run"]).run_folder())
    assert "unread_cells" not in broken_contracts(read_chain(chain).run_folder())


def test_the_command_takes_it(chain, capsys):
    assert main(["diagnose", str(chain), "--band", "5"]) == 0
    assert "verdict" in capsys.readouterr().out


def test_soft_labels_are_those_that_were_written(chain, tmp_path):
    shutil.copytree(chain.parent, tmp_path / "runs")
    labels = tmp_path / "runs/smoke" / SOFT_LABELS
    pd.read_parquet(labels).iloc[::-1].to_parquet(labels)
    with pytest.raises(RadarError, match="soft_labels.parquet is not what was written"):
        read_chain(tmp_path / "runs/smoke")


def test_a_router_that_is_not_there_is_named(chain, tmp_path):
    assert is_chain_run(chain) and not is_chain_run(tmp_path)
    with pytest.raises(RadarError, match="no router 'Other'"):
        read_chain(chain, "Other")
