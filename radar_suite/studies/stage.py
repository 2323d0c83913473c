"""What a study works with: the posts, experts, settings and cache that a finished chain left, and where it writes.

A study trains through the cache like any notebook, so a study that was killed goes on where it was, and a run that is a
table row already is not trained again. It leaves figures and tables in `runs/<profile>/studies/figures/` and its
runs in the record (`radar_suite.report.record`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int8

from radar_lib.data.posts import Posts
from radar_lib.errors import RadarError
from radar_lib.files import read_json
from radar_lib.metrics import score_table
from radar_lib.sources import digest_sources
from radar_lib.training.lab import Lab, Run, SoftLabels
from radar_lib.training.scores import logits_for
from radar_suite.report import record
from radar_suite.report.experiments import Settings, by_seed, open_lab, settings_of
from radar_suite.report.row_scores import labelled_test_posts
from radar_suite.report.workspace import MANIFEST, Workspace
from radar_suite.world.standins import checkpoints_named

NAME = "studies"
