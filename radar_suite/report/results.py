"""The generated parts of docs/results.md, README.md and the data card: what a recorded run found, between markers.

    <!-- generated: table1 --> ... <!-- end -->
    the mask changes average PR-AUC by <!--=mask-->+3.3 [+1.1, +5.5]<!--/--> points

`radar results` rewrites what stands between the markers from `figures/<profile>/`: blocks, and numbers in sentences.
Both are computed; the prose around them is a person's, and is true whatever the numbers are.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from radar_lib.errors import RadarError
from radar_lib.evidence import AREA, AVERAGE
from radar_lib.files import atomic_write_text, read_json
from radar_suite.report import cards, claims, tables
from radar_suite.report.manifest import read_entry, read_manifest
from radar_suite.report.references import PROBE, WORDS
from radar_suite.report.row_scores import name_of
from radar_suite.report.stated import INTERVALS, RELEASED_BY

BLOCK = re.compile(r"(?P<open><!-- generated: (?P<name>[\w-]+) -->\n)(?P<text>.*?)(?P<close><!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"(?P<open><!--=(?P<name>[^>]*?)-->)(?P<text>.*?)(?P<close><!--/-->)")
POINTS = "{:+.1f} [{:+.1f}, {:+.1f}]"
CLAIMS = {
    "mask": "Masking",
    "size": "A larger",
    "distil": "Distillation",
    "experts": "The distilled",
    "half": "Lambda of",
    "any": "Any lambda",
}  # name of a claim's numbers, and how its sentence starts
Blocks = Mapping[str, Callable[[Path], str]]


def caption(record: Path, name: str) -> str:
    """Caption of an entry of the manifest, as text that makes no link, image or tag of itself; it says where the entry
    was made on other posts than the tables, as a study that was not run again."""
    entry, own = read_entry(record, name), read_entry(record, "table1")["inputs"].get("posts")
    other = " Made on other posts than this record's tables." * (entry["inputs"].get("posts", own) != own)
    return re.sub(r"<|\](?=\()", r"\\\g<0>", entry["caption"]) + other


def read_table(record: Path, file: str, number: int) -> pd.DataFrame:
    """Table 1 or 2 as it is printed in a CSV file: percent by (loss, method) and (category, metric)."""
    flat = pd.read_csv(record / file, index_col=["loss", "method"])
    categories = pd.read_csv(record / INTERVALS)["category"].unique()
    columns = pd.MultiIndex.from_product([categories, tables.TABLES[number]])
    short = ["avg" if category == AVERAGE else tables.slug(category) for category in categories]
    names = [f"{category}_{tables.slug(metric)}" for category in short for metric in tables.TABLES[number]]
    return flat[names].set_axis(columns, axis=1)


def markdown(texts: pd.DataFrame) -> str:
    """Texts by (loss, method) as Markdown."""
    flat = texts.set_axis([" ".join(column) for column in texts.columns], axis=1).reset_index()
    return tables.to_markdown(flat.rename(columns={"loss": "Loss", "method": "Method"}))


def table(record: Path, number: int) -> str:
    """Table 1 or 2, best of a column in bold, second underlined, the paper's beside; reference rows below."""
    own, frame = read_table(record, f"table{number}.csv", number), pd.read_csv(record / INTERVALS)
    marks, texts = tables.marks(own), own.map(tables.in_percent)
    texts = texts.mask(marks == "best", "**" + texts + "**").mask(marks == "second", "<u>" + texts + "</u>")
    if "sd" in frame:
        texts += tables.wide(frame, number, "sd").reindex_like(own).map(lambda sd: f" ± {sd:.2f}")
    paper = tables.wide(tables.paper_results(), number).reindex_like(own)
    texts += paper.map(lambda value: "" if np.isnan(value) else f" ({value:.2f})")
    beside = read_table(record, "references.csv", number).map(tables.in_percent)
    return (f"**Table {number}.** {caption(record, f'table{number}')}\n\n{markdown(texts)}\n"
            f"{caption(record, 'references')}\n\n{markdown(beside)}")  # fmt: skip


def intervals(record: Path) -> str:
    """Both tables with their intervals, folded."""
    frame = pd.read_csv(record / INTERVALS)
    return "\n".join(
        f"<details><summary>Table {number} with 95 % intervals (%)</summary>\n\n"
        f"{tables.to_markdown(tables.interval_table(frame, number))}\n</details>\n"
        for number in tables.TABLES
    )


def csv_table(record: Path, name: str) -> str:
    """A CSV file as a table with its caption."""
    frame = pd.read_csv(record / f"{name}.csv", dtype=str, keep_default_na=False)
    return f"**{caption(record, name)}**\n\n{tables.to_markdown(frame)}"


def auto_pass(record: Path) -> str:
    """What rows release for all risks at once, in percent."""
    frame = pd.read_csv(record / "auto_pass.csv")
    texts = [f"{value:.1f} [{low:.1f}, {high:.1f}]" for value, low, high in
             (100 * frame[["value", "low", "high"]]).itertuples(index=False)]  # fmt: skip
    columns = "recall " + (100 * frame["recall"]).map("{:.0f} %".format)
    wide = frame.assign(text=texts, column=columns).pivot(index=["loss", "method"], columns="column", values="text")
    wide = wide.reindex(pd.MultiIndex.from_frame(frame[["loss", "method"]].drop_duplicates())).rename_axis(columns=None)
    return f"**{caption(record, 'auto_pass')} (%)**\n\n{tables.to_markdown(wide.reset_index())}"


def _thresholds(record: Path) -> pd.DataFrame:
    """By risk and by how a threshold was read off the calibration posts: where it lands on test posts, how often it
    fails with others."""
    keys = ["risk", "threshold"]
    names = ("operating_points", "failures")
    points, failures = (pd.read_csv(record / f"{name}.csv").set_index(keys) for name in names)
    return failures[["n", "failed"]].join(points)


def thresholds(record: Path) -> str:
    """Certified thresholds beside naive ones, in percent."""
    frame = _thresholds(record)
    texts = {"violating calibration posts": frame["n"],
             "recall missed, of redrawn calibrations": (100 * frame["failed"]).map("{:.1f}".format),
             "recall on test posts": (100 * frame["recall"]).map("{:.1f}".format),
             "released": (100 * frame["APR"]).map("{:.1f}".format)}  # fmt: skip
    return f"**{caption(record, 'failures')} (%)**\n\n{tables.to_markdown(pd.DataFrame(texts).reset_index())}"


def figure(record: Path, name: str, alternative: str) -> str:
    """An image with its caption, for a document one folder below the project."""
    return f"![{alternative}](../figures/{record.name}/{name}.png)\n\n*{caption(record, name)}*\n"


def found(record: Path) -> str:
    """Each claim's endpoint in points, the paper's beside it, and what is counted of its cells."""
    parts = [pd.read_csv(path) for name in ("claims", "lambda_claims") if (path := record / f"{name}.csv").is_file()]
    return tables.to_markdown(claims.findings(pd.concat(parts, ignore_index=True)))


def differences(record: Path, name: str) -> str:
    """Differences of two rows in average PR-AUC, in points."""
    frame = pd.read_csv(record / f"{name}.csv")
    frame = _average_area(record / f"{name}.csv") if "metric" in frame else frame
    texts = {"points of average PR-AUC": in_points(frame, "ours", "low", "high", scale=1)}
    return tables.to_markdown(frame[["row", "against"]].assign(**texts))


def numbers(record: Path) -> dict[str, str]:
    """The numbers that stand in sentences, by name: cost of the chain, endpoints of claims, gains, release."""
    ran = pd.DataFrame(read_manifest(record)["notebooks"]).T
    texts = {"minutes": f"{ran['minutes'].sum():.0f}", "memory": f"{ran['peak_memory_gib'].max():.1f}"}
    lines = pd.concat([pd.read_csv(record / f"{name}.csv") for name in ("claims", "lambda_claims")])
    for name, start in CLAIMS.items():
        (line,) = lines[lines["claim"].str.startswith(start)].to_dict("records")
        texts |= {
            name: claims.points_text(line["ours"], line["low"], line["high"]),
            f"{name}_paper": f"{line['paper']:+.1f}",
        }
        texts |= {f"{name}_lies": str(line["paper lies"]), f"{name}_verdict": line["verdict"]}
        texts |= {f"{name}_{side.split()[0]}": str(line[side]) for side in ("cells", claims.ABOVE, claims.BELOW)}
        texts[f"{name}_excluded"] = str(line["paper above"] + line["paper below"])
    gains = pd.read_csv(record / "gains.csv").set_index(["row", "against"])
    for name, other in {"probe": PROBE, "words": WORDS}.items():
        texts[name] = POINTS.format(*gains.loc[(name_of(RELEASED_BY), other), ["ours", "low", "high"]])
    grid = _average_area(record / "lambda_study.csv").set_index("lambda")
    texts["lambda_last"] = f"{grid.index.max():g}"
    texts["lambda_gain"] = POINTS.format(*100 * grid.loc[grid.index.max(), ["difference", "low", "high"]])
    passed = pd.read_csv(record / "auto_pass.csv").set_index(["loss", "method", "recall"])
    ends = 100 * passed.loc[(*RELEASED_BY, 0.95), ["value", "low", "high"]]
    points = _thresholds(record).loc["all together"]
    texts |= {f"{name}_{what}": f"{100 * points.loc[name, what]:.0f} %" for name in points.index
              for what in ("failed", "APR")}  # fmt: skip
    kept = read_json(record.parents[1] / "benchmarks" / "records" / "diagnosis.json")["reached"]
    texts |= {f"diagnosis_{one['measure']}_{one['knowledge']}": "{:.0f} % [{:.0f}, {:.0f}]".format(
        *(100 * one[end] for end in ("share", "low", "high"))) for one in kept}  # fmt: skip
    for one in read_json(record.parents[1] / "benchmarks" / "records" / "pilot.json")["scaled"]:
        (line,) = (line for line in one["lines"] if (line["category"], line["metric"]) == (AVERAGE, AREA))
        texts[f"pilot_{one['times']}"] = POINTS.format(*(100 * line[name] for name in ("gain", "low", "high")))
    history = read_json(record.parents[1] / "benchmarks" / "records" / "diagnosis.json")["history"].values()
    texts["diagnosis_history"] = f"{sum(bug['right'] == bug['BLC'] for bug in history)} of {len(history)}"
    return texts | studied(record) | {"auto_pass": "{:.0f} % [{:.0f}, {:.0f}]".format(*ends)}


def studied(record: Path) -> dict[str, str]:
    """Numbers of the studies that stand in sentences: the mask's gain on the pipelines' own streams at the chain's own
    dials and the map's fewest and most posts; the smallest prior of a risk. A dash where a study is not recorded."""
    texts = dict.fromkeys(("own_fewest", "own_most", "fewest", "most", "least_prior"), "-")
    if (path := record / "studies" / "phase.csv").is_file():
        cells = _average_area(path).query("own and population == 'own stream'").sort_values("training_posts")
        for which, line in zip(("fewest", "most"), cells.iloc[[0, -1]].to_dict("records"), strict=True):
            texts[which] = f"{line['training_posts']:,}"
            texts[f"own_{which}"] = POINTS.format(*(100 * line[name] for name in ("gain", "low", "high")))
    if (path := record / "studies" / "losses_side.csv").is_file():
        texts["least_prior"] = f"{pd.read_csv(path)['prior, estimated'].min():.0%}".replace("%", " %")
    return texts


def facts(record: Path) -> str:
    """What was run, and where."""
    entry = read_entry(record, "table1")
    about = {"profile": entry["profile"], "seed": entry["seed"], "device": entry["device"],
             "posts": f"`{entry['inputs']['posts']}`", **entry["versions"]}  # fmt: skip
    return tables.to_markdown(pd.DataFrame(about.items(), columns=["", "recorded run"]).astype(str))


def notebooks(record: Path) -> str:
    """Minutes and peak memory of each notebook."""
    ran = pd.DataFrame(read_manifest(record)["notebooks"]).T.rename_axis("notebook").reset_index()
    ran = ran.rename(columns={"peak_memory_gib": "peak memory, GiB"})
    return tables.to_markdown(ran.assign(minutes=ran["minutes"].map("{:.1f}".format)))


def recipes(record: Path) -> str:
    """Recipes on halves of the training posts that a run did not see, against the tables' own."""
    kept = read_json(record.parents[1] / "benchmarks" / "records" / "recipes.json")
    frame = pd.DataFrame(kept["lines"])
    cells = {
        "recipe": frame["recipe"].where(frame["recipe"] != kept["used"], frame["recipe"] + " (used)"),
        "average PR-AUC": frame["average"],
        "difference": in_points(frame, "difference", "low", "high", scale=1),
    }
    return tables.to_markdown(pd.DataFrame(cells))  # fmt: skip


def diagnosed(record: Path) -> str:
    """What the blind evaluation of the diagnosis reached, beside its bars."""
    kept = read_json(record.parents[1] / "benchmarks" / "records" / "diagnosis.json")
    frame = pd.DataFrame(kept["reached"])
    reached = zip(frame["share"], frame["low"], frame["high"], strict=True)
    frame["reached"] = ["{:.2f} [{:.2f}, {:.2f}]".format(*one) for one in reached]
    frame["met"] = frame["met"].map({True: "yes", False: "no"})
    shown = frame[["measure", "knowledge", "n", "reached", "bar", "met"]]
    bulk = f"**{kept['what']}**\n\n{tables.to_markdown(shown.rename(columns={'n': 'runs'}))}"
    tuned, text = dict(kept["fine_tunes"]), "{share:.2f} [{low:.2f}, {high:.2f}] of {n}".format
    what, measures = tuned.pop("what"), ("detected", "false_alarms", "top1")
    rows = [{"method": method, "knowledge": k} | {name: text(**by[k][name]) for name in measures}
            for method, by in tuned.items() for k in by if k != "BLCR"]  # which changed no verdict
    return f"{bulk}\n\n**{what}**\n\n{tables.to_markdown(pd.DataFrame(rows))}"


def in_points(frame: pd.DataFrame, value: str, low: str, high: str, *, scale: float = 100) -> pd.Series:
    """Differences in points with their intervals, as text; empty where a line is its own reference."""
    numbers = zip(*(scale * frame[name].astype(float) for name in (value, low, high)), strict=True)
    return pd.Series(["" if not x and not a and not b or np.isnan(x) else f"{x:+.1f} [{a:+.1f}, {b:+.1f}]"
                      for x, a, b in numbers], index=frame.index)  # fmt: skip


def by_metric(frame: pd.DataFrame, texts: pd.Series) -> str:
    """Averages over risks as a table: rows of a study down, metrics across."""
    kept = frame.assign(text=texts)[frame["category"] == AVERAGE]
    wide = kept.pivot(index="row", columns="metric", values="text")
    wide = wide.loc[kept["row"].unique(), list(tables.METRICS)].rename_axis(columns=None)
    return tables.to_markdown(wide.reset_index())


def losses(record: Path) -> str:
    """Treatments of unverified cells: percent, and the difference from the mask."""
    frame = pd.read_csv(record / "studies" / "losses.csv")
    gains = in_points(frame, "difference", "low", "high")
    texts = (100 * frame["value"]).map("{:.1f}".format) + gains.map(lambda gain: gain and f" ({gain})")
    return f"**{caption(record, 'studies/losses')}**\n\n{by_metric(frame, texts)}"


def controls(record: Path) -> str:
    """Teachers: percent, and the gain over none; then the contrasts of average PR-AUC."""
    frame = pd.read_csv(record / "studies" / "controls.csv")
    gains = in_points(frame, "gain", "gain low", "gain high", scale=1)
    texts = frame["value"].map("{:.1f}".format) + gains.map(lambda gain: gain and f" ({gain})")
    contrasts = _average_area(record / "studies" / "contrasts.csv")
    columns = {"contrast": contrasts["contrast"], "what": contrasts["meaning"], "p": contrasts["p"],
               "points": in_points(contrasts, "estimate", "low", "high", scale=1)}  # fmt: skip
    return (f"**{caption(record, 'studies/controls')}**\n\n{by_metric(frame, texts)}\n"
            f"**{caption(record, 'studies/contrasts')}**\n\n{tables.to_markdown(pd.DataFrame(columns))}")  # fmt: skip


def gains(record: Path) -> str:
    """The mask's gain in average PR-AUC: on traffic over focus and overlap at the chain's own intake bias."""
    cells = _average_area(record / "studies" / "phase.csv").query("population == 'traffic'")
    cells = cells[(cells["beta"] == cells.loc[cells["own"], "beta"].min())
                  & (cells["training_posts"] == cells["training_posts"].min())]  # fmt: skip
    cells = cells.assign(text=in_points(cells, "gain", "low", "high"),
                         focus="focus " + cells["focus"].map("{:g}".format))  # fmt: skip
    wide = cells.pivot(index="overlap", columns="focus", values="text").rename_axis(columns=None)
    return f"**{caption(record, 'studies/phase')}**\n\n{tables.to_markdown(wide.reset_index().astype(str))}"


def scale(record: Path) -> str:
    """The gaps of mask, size and distillation in average PR-AUC by training size."""
    lines = _average_area(record / "studies" / "scale.csv")
    lines = lines.assign(text=in_points(lines, "gain", "low", "high"))
    wide = lines.pivot(index=["how", "population", "times"], columns="gap", values="text").rename_axis(columns=None)
    wide = wide[list(dict.fromkeys(lines["gap"]))].reset_index().astype(str)
    return f"**{caption(record, 'studies/scale')}**\n\n{tables.to_markdown(wide)}"


def where_recorded(block: Callable[[Path], str], study: str, entry: str) -> Callable[[Path], str]:
    """The same block where the record has this entry; else a line that says what makes it."""
    missing = f"*Not recorded yet: `radar studies --only {study}` makes it, after a finished chain.*\n"
    return lambda record: block(record) if entry in read_manifest(record)["entries"] else missing


def _average_area(path: Path) -> pd.DataFrame:
    frame = pd.read_csv(path)
    return frame[(frame["category"] == AVERAGE) & (frame["metric"] == AREA)]


def of_public(block: Callable[[Path], str]) -> Callable[[Path], str]:
    """The same block from the record of profile `public`."""
    return lambda record: block(record.parent / "public")


BLOCKS: Blocks = {
    "found": found,
    "gained": partial(differences, name="gains"),
    "forest": partial(figure, name="forest", alternative="Each claim's differences with intervals, the paper's beside"),
    "facts": facts,
    "notebooks": notebooks,
    "recipes": recipes,
    "table1": partial(table, number=1),
    "table2": partial(table, number=2),
    "intervals": intervals,
    "auto-pass": auto_pass,
    "diagnosed": diagnosed,
    "thresholds": thresholds,
    "apr-recall": partial(figure, name="apr_recall", alternative="Posts released against recall, with thresholds"),
    "population": partial(figure, name="mask_by_population", alternative="Gain of the mask on two test populations"),
    "stability": partial(csv_table, name="lambda_stability"),
    "rows": partial(figure, name="rows_against_paper", alternative="Our and the paper's averages, row by row"),
    "figure2": partial(figure, name="figure2", alternative="Figure 2: what four metrics gain along lambda"),
    "map": where_recorded(
        partial(
            figure,
            name="studies/phase_summary",
            alternative="Where the mask matters, where it hurts, and what mends it",
        ),
        "phase",
        "studies/phase_summary",
    ),
    "gains": where_recorded(gains, "phase", "studies/phase"),
    "scale": where_recorded(scale, "scale", "studies/scale"),
    "teachers": partial(figure, name="studies/controls_gain", alternative="Gain of nine teachers over none"),
    "controls": controls,
    "losses": losses,
    "public1": of_public(partial(table, number=1)),
    "public2": of_public(partial(table, number=2)),
    "public-pairs": of_public(partial(differences, name="claim_cells")),
}
RESULTS = "docs/results.md"
DOCUMENTS: Mapping[str, Blocks] = {"README.md": {}, RESULTS: BLOCKS, cards.CARD: cards.CARD_PARTS}


def render(text: str, record: Path, blocks: Blocks = BLOCKS) -> str:
    """A document's text with every generated part renewed from the record.

    Raises:
        RadarError: a marker has no end or names nothing that is known, or the record is missing or incomplete.
    """
    if text.count("<!--=") != len(NUMBER.findall(text)):
        raise RadarError("a number in a sentence has no end on its line: write <!--=NAME-->text<!--/-->.")
    try:
        known = numbers(record) if NUMBER.search(text) else {}
        unknown = [match["name"] for pattern, names in ((NUMBER, known), (BLOCK, blocks))
                   for match in pattern.finditer(text) if match["name"] not in names]  # fmt: skip
        if not unknown:
            text = NUMBER.sub(lambda match: f"{match['open']}{known[match['name']]}{match['close']}", text)
            return BLOCK.sub(lambda match: f"{match['open']}{blocks[match['name']](record)}{match['close']}", text)
    except (RadarError, FileNotFoundError, KeyError, TypeError, ValueError) as error:
        raise RadarError(f"{record} is no complete record ({error!r}): run `make reproduce` first.") from error
    raise RadarError(f"there is a generated part {unknown[0]!r}; known are {', '.join([*known, *blocks])}.")


def documents(project: Path, record: Path) -> dict[str, str]:
    """Each document with generated parts, by its path below the project, as the record would have it."""
    texts = {name: render((project / name).read_text("utf-8"), record, blocks) for name, blocks in DOCUMENTS.items()}
    croissant: Any = cards.croissant(record, project / cards.RAI)
    return texts | {cards.CROISSANT: json.dumps(croissant, indent=1, ensure_ascii=False) + "\n"}


def update_project(project: Path, record: Path) -> dict[str, bool]:
    """Renew all documents of a project; returns, by document, whether it changed."""
    return {name: _write(project / name, text) for name, text in documents(project, record).items()}


def _write(path: Path, new: str) -> bool:
    changed = not path.exists() or path.read_text(encoding="utf-8") != new
    if changed:
        atomic_write_text(path, new)
    return changed
