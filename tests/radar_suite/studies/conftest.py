"""A finished chain for studies to work on."""

import pytest

from radar_lib.models.backbones import BACKBONES as REGISTRY
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_suite.report.experiments import EXPERT_BACKBONE, LAMBDA_STUDY_BACKBONE, Settings
from radar_suite.report.workspace import Workspace
from radar_suite.studies import scale
from radar_suite.studies.stage import Stage, StudiesWorkspace
from radar_suite.world.build import CorpusConfig, build_corpus
from radar_suite.world.standins.checkpoint import write_random_standin
from radar_suite.world.standins.geometry import GEOMETRIES, tiny

BACKBONES = ("Qwen3-VL-2B", LAMBDA_STUDY_BACKBONE, EXPERT_BACKBONE)
PARAMETERS = {
    "seed": 1, "train_posts": 60, "validation_posts": 0, "test_posts": 300, "own_test_posts": 600,
    "unlabelled_posts": 0, "audit_posts": 0, "calibration_posts": 0, "intake_beta": 1.5, "stream_focus": 0.5,
    "queue_overlap": 1.0,
    "min_frames": 2, "max_frames": 2, "frame_px": 48,
}  # fmt: skip


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    """A finished chain of 60 built-in training posts with random checkpoints."""
    root = tmp_path_factory.mktemp("chain")
    for name in BACKBONES:
        folder = REGISTRY[name].folder
        write_random_standin(root / "checkpoints" / folder, folder, ["a post of few words"] * 9,
                             geometry=tiny(GEOMETRIES[folder]), vocabulary=300)  # fmt: skip
    ws = StudiesWorkspace.of(Workspace.open("studies", {"runs_dir": str(root / "runs"), "profile": "p", "seed": 1}))
    ws.about = "a test"
    given = {"batch_size": 16, "learning_rate": 1e-3, "lora_rank": 2, "lora_alpha": 4, "seed": 1}
    parameters = {"01_data_audit": PARAMETERS, "03_expert_training": {"expert_epochs": 1, **given},
                  "05_router_training": {"text_tokens": 0, "lambda_tables": 0.5},
                  "08_when_masking_matters": {"phase_backbone": "Qwen3-VL-2B"}}  # fmt: skip
    settings = Settings(epochs=1, **given)
    posts = build_corpus(CorpusConfig(**PARAMETERS), root / "runs/cache/corpus/own", workers=1)
    lab = Lab(posts, Cache(root / "runs/cache"), checkpoints=str(root / "checkpoints"), device="cpu",
              score_splits=("test", "test_own"))  # fmt: skip
    stage = Stage(ws, lab, settings, None, 1, 1, parameters)
    return Stage(ws, lab, settings, scale.teach(stage, lab, "own"), 1, 1, parameters)
