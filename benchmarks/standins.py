"""Do the stand-ins' weights matter? Each backbone against a twin: same geometry and tokenizer, random weights.

    python benchmarks/standins.py --profile cpu            # after `make reproduce`: uses its posts and its cache

Both are fine-tuned alike (the masked row of the tables, all settings of the profile; the expert backbone likewise) and
scored on the same test posts. Writes benchmarks/records/standins.json.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from radar_lib.data.posts import Posts, labels, open_posts
from radar_lib.files import read_json, write_json
from radar_lib.intervals import average_precision_difference
from radar_lib.metrics import average_precision
from radar_lib.models.backbones import BACKBONES, load_backbone
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab
from radar_lib.training.parallel import train_all
from radar_lib.training.scores import logits_for
from radar_suite.chain.profiles import load_profile
from radar_suite.intake.texts import text_limit
from radar_suite.report.experiments import SMALL, TINY, Settings
from radar_suite.world.standins import FOLDER as STANDINS
from radar_suite.world.standins import locate_checkpoints
from radar_suite.world.standins.checkpoint import write_checkpoint
from radar_suite.world.standins.geometry import GEOMETRIES, build_model

PROJECT = Path(__file__).parents[1]
RECORD = PROJECT / "benchmarks" / "records" / "standins.json"


def random_twin(name: str, folder: Path, *, seed: int) -> None:
    """The stand-in `name` with weights drawn anew, and everything else as it is."""
    if not (folder / "config.json").is_file():
        backbone = load_backbone(STANDINS / name)
        model = build_model(GEOMETRIES[name], backbone.tokenizer, seed=seed)
        write_checkpoint(folder, model, backbone.tokenizer, backbone.frame_processor.processor)


def finished(profile: str, runs: Path) -> tuple[Settings, Posts]:
    """Training settings and posts of a profile that was run."""
    values = {key: given.value for key, given in load_profile(profile, PROJECT / "notebooks" / "profiles")[1].items()}
    wanted = ("epochs", "batch_size", "learning_rate", "lora_rank", "lora_alpha", "seed")
    folder = runs / read_json(runs / profile / "01_data_audit" / "corpus.json")["folder"]
    return Settings(**{key: values[key] for key in wanted}), open_posts(folder)


def said_of(settings: Settings) -> dict[str, Any]:
    """Settings as a record states them."""
    return {key: value for key, value in asdict(settings).items() if value is not None}


def compare(profile: str, runs: Path, names: list[str]) -> dict[str, Any]:
    """PR-AUC of stand-in and twin on each risk's verified test posts, in percent, with the paired 95 % interval."""
    settings, posts = finished(profile, runs)
    cache, twins = Cache(runs / "cache"), runs / "cache" / "random-twins"
    for name in names:
        random_twin(BACKBONES[name].folder, twins / BACKBONES[name].folder, seed=settings.seed)
    specs = [settings.spec(name, posts.categories) for name in names]
    trained = {
        kind: train_all(Lab(posts, cache, checkpoints=where, text=text_limit(posts)), specs, titles=names, desc=kind)
        for kind, where in (("standin", locate_checkpoints("standins")), ("random", str(twins)))
    }
    test = posts.table("test")
    truth, ids = labels(test, posts.categories), test["post_id"].to_numpy()
    rows = []
    for k, category in enumerate(posts.categories):
        known = truth[:, k] >= 0
        for name, standin, random in zip(names, trained["standin"], trained["random"], strict=True):
            ours, theirs = (logits_for(run.scores("test"), ids[known], [category])[:, 0] for run in (standin, random))
            y = truth[known, k]
            interval = average_precision_difference(y, ours, theirs)
            found = {
                "standin": average_precision(y, ours), "random": average_precision(y, theirs),
                "prevalence": y.mean(), "low": interval.low, "high": interval.high,
            }  # fmt: skip
            percent = {key: round(100 * float(value), 2) for key, value in found.items()}
            rows.append({"backbone": name, "category": category} | percent)
    mean = {key: round(float(np.mean([row[key] for row in rows])), 2) for key in ("standin", "random", "prevalence")}
    mean["difference"] = round(mean["standin"] - mean["random"], 2)
    about = {"settings": said_of(settings), "posts": posts.digest, "test_posts": len(test)}
    return about | {"average": mean, "rows": rows}


def main() -> None:
    """Command line; see the module's docstring."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser(description="Stand-ins against random twins.")
    parser.add_argument("--profile", default="cpu", help="a profile that was run")
    parser.add_argument("--runs", type=Path, default=PROJECT / "runs", help="where it was run")
    parser.add_argument("--only", nargs="+", default=["Qwen3-VL-8B", *TINY, *SMALL], choices=list(BACKBONES))
    parser.add_argument("--out", type=Path, default=RECORD)
    options = parser.parse_args()
    found = compare(options.profile, options.runs, options.only)
    versions = {package: version(package) for package in ("torch", "transformers", "peft")}
    about = {"date": date.today().isoformat(), "device": "cpu", "versions": versions}
    write_json(options.out, about | {"profile": options.profile} | found)
    print(found["average"])


if __name__ == "__main__":
    main()
