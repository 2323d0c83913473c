"""What the blind evaluation of the diagnosis reached, as a record that README, docs/results.md and notebook 10 show.

    make diagnosis-eval SIZE=full
    python -m radar_suite.diagnosis.proof --plan PLAN --folder DIR/full --cache DIR/full/cache     of each test plan
    make diagnosis-eval SIZE=lora
    python benchmarks/diagnosis_record.py --folder DIR/full --fine-tunes DIR/lora
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import RECORDS

from radar_lib.files import read_json, read_sealed, write_json
from radar_suite.diagnosis.evaluate import METHODS, SIZES, judge
from radar_suite.diagnosis.proof import verified_shares

FIXES_BAR = 0.85
MEASURES = ("detection_f1", "false_alarms", "top1", "exact_pairs", "unknown")
WHAT = (
    "Held-out runs, diagnosed blind and scored once: two worlds (facts, LLaVA-OV-0.5B), 870 runs, 500 posts each; "
    "severities, harmless changes and faults outside the taxonomy by an author who had not seen the diagnosis"
)
FINE_TUNED = (
    "LoRA fine-tunes of the smallest stand-in, diagnosed blind and once by what was learned on heads: LLaVA-OV-0.5B, "
    "37 runs of 500 posts; a fault counts where the run is worse than every healthy one"
)


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of the full size, evaluated and with its fixes")
    parser.add_argument("--fine-tunes", type=Path, required=True, help="of the size lora, evaluated")
    parser.add_argument("--out", type=Path, default=RECORDS / "diagnosis.json")
    args = parser.parse_args()
    scores, plans, rows, by_plan = read_json(args.folder / "scores.json"), {}, [], {}
    for plan in SIZES["full"][1]:
        place = args.folder / plan
        answers, found = read_sealed(place / "key" / "key.json")["answers"], read_json(place / "verdicts.json")
        judged = {k: judge(answers, lambda name, k=k, found=found: found[name][k]["posterior"])
                  for k in ("B", "BL", "BLC")}  # fmt: skip
        plans[plan] = {k: {name: one[name] for name in MEASURES} for k, one in judged.items()}
        own = [read_json(path) for path in sorted((place / "fixes").glob("*.json"))]
        by_plan[plan] = {k: v for k, v in verified_shares(own).items() if k not in ("by_cause", "seconds")}
        rows += own
    fixes = verified_shares(rows) | {"by_plan": by_plan}
    reached = {"measure": "verified_fixes", "knowledge": "BLC", "bar": FIXES_BAR, **fixes["verified"]}
    scores["reached"].append(reached | {"met": fixes["verified"]["share"] >= FIXES_BAR})
    found = read_json(args.fine_tunes / "scores.json")
    tuned = {method: {k: {name: one[name] for name in ("detected", "false_alarms", "top1", "by_cause", "latent")}
                      for k, one in found[method].items()} for method in METHODS}  # fmt: skip
    write_json(args.out, {"what": WHAT, **scores, "plans": plans, "fixes": fixes,
                          "fine_tunes": {"what": FINE_TUNED, **tuned}})  # fmt: skip


if __name__ == "__main__":
    main()
