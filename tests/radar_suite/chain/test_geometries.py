"""The published geometries build the published models: parameter totals on the meta device, sizes against the class."""

import pytest
import torch

from radar_lib.models.backbones import BACKBONES, quiet_transformers
from radar_suite.chain.geometries import GEOMETRIES, PUBLISHED_BILLIONS, published_config


def test_every_checkpoint_has_its_geometry_and_family():
    assert GEOMETRIES.keys() == BACKBONES.keys() == PUBLISHED_BILLIONS.keys()
    assert all(GEOMETRIES[name]["model_type"] == spec.family for name, spec in BACKBONES.items())


@pytest.mark.parametrize("name", GEOMETRIES)
def test_parameter_totals_are_the_published_ones(name):
    from transformers import AutoModel, AutoModelForImageTextToText

    auto = AutoModel if name == "SigLIP2" else AutoModelForImageTextToText
    with torch.device("meta"), quiet_transformers():
        model = auto.from_config(published_config(name))
    total = sum(p.numel() for p in model.parameters())
    assert total / 1e9 == pytest.approx(PUBLISHED_BILLIONS[name], rel=0.006)
