"""How long the chain of a profile takes from nothing, as a record that README shows.

    rm -rf runs && make reproduce && python benchmarks/chain_record.py --profile cpu --note "nothing else was running"

Takes the minutes and peak memory that `radar reproduce` noted in `figures/<profile>/manifest.json`. A notebook that
finds its training in the cache is quick, so the run must begin without a `runs/` folder: only the caller knows that.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import RECORDS, provenance

from radar_lib.files import read_json, write_json

FIGURES = Path(__file__).parents[1] / "figures"


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser("chain_record", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--profile", default="cpu", help="a profile that was run from nothing")
    parser.add_argument("--note", required=True, help="what else the machine did meanwhile")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the records")
    args = parser.parse_args()
    manifest = read_json(FIGURES / args.profile / "manifest.json")
    notebooks = [{"name": name, "seconds": round(60 * ran["minutes"], 1),
                  "peak_memory_mb": round(1024 * ran["peak_memory_gib"])}
                 for name, ran in manifest["notebooks"].items()]  # fmt: skip
    run = {"seconds": round(sum(notebook["seconds"] for notebook in notebooks), 1), "notebooks": notebooks}
    device = manifest["entries"]["table1"]["device"]
    about = provenance("cpu") | {"device": device, "profile": args.profile, "what": args.note}
    del about["load_average_at_start"]  # of now, not of the run
    write_json(args.out / f"chain-{args.profile}.json", about | run)
    print(f"{args.out / f'chain-{args.profile}.json'}: {run['seconds'] / 60:.1f} minutes")


if __name__ == "__main__":
    main()
