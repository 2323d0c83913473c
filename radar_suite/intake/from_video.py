"""A folder of videos becomes a corpus: every file is read once, copies are grouped, sidecars say the rest.

What is known of a video besides itself stands in a sidecar: `clip.json` (an object) or `clip.csv` (one row) beside
`clip.mp4`, or one table of the folder whose column `file` names the videos. Its columns are those of the data contract;
`frames` and, unless the sidecar has them, `ocr_text` and `asr_text` come from the video.

    <out>/data, corpus.json      the corpus, as `radar posts import` writes it
    <out>/videos.jsonl           a line per video that was read: seconds, times of the frames, PDQ hashes
    <out>/set_aside.jsonl        a line per file (or row) that was not, with its cause
    <out>/videos.partial/        while it is at work: a folder per file that was read, so that a killed run goes on
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from radar_lib.data.posts import Posts
from radar_lib.data.schema import FRAMES, LABEL_PREFIX, TEXT_COLUMNS, categories_of
from radar_lib.errors import RadarError
from radar_lib.files import atomic_write_text, write_json
from radar_suite.intake.duplicates import duplicate_groups, frame_distance, near_hashes
from radar_suite.intake.importer import import_table, read_rows
from radar_suite.intake.video import SUFFIXES, Reading, keep_video, kept

PARTIAL, VIDEOS, SET_ASIDE = "videos.partial", "videos.jsonl", "set_aside.jsonl"
TABLES = ("posts.csv", "posts.jsonl")  # of a folder, if none is named
SIDECARS = (".json", ".csv")
FILE = "file"  # column of a table that names the video
PDQ_BITS, PDQ_QUALITY = 31, 50  # a match, and what a hash needs to be evidence, as PDQ's authors have it
COPIES = "copies:"  # begins a group that was found, rather than given

Told = dict[str, tuple[dict[str, Any], str]]  # by file: what its sidecar says, and what is wrong with that


def import_videos(
    folder: str | Path, out: str | Path, *, reading: Reading | None = None, table: str | Path | None = None,
    categories: Sequence[str] = (), ignore: Sequence[str] = (), seed: int = 1, name: str | None = None,
    workers: int = 2,
) -> Posts:  # fmt: skip
    """Read every video below `folder` and write the corpus `out`; a killed run goes on where it was.

    Args:
        reading: frames, size, OCR, speech and limits; None: the defaults.
        table: names, labels and texts by column `file`; if None, `posts.csv` or `posts.jsonl` of the folder, if any.
        categories: risks, where no sidecar has a column `label_<category>`; nothing is verified then.
        ignore: columns of sidecars to leave out.
        seed: draws the splits of videos whose sidecar has none; without any verified label all are `unlabelled`.
        workers: processes.

    Returns:
        The corpus. Its `group` is shared by near-duplicate videos, and by those of one given group or stream. Files
        that cannot be read and sidecars that are wrong are set aside, rows of wrong values quarantined.

    Raises:
        RadarError: a package is missing, no such folder, no video that can be read, `out` is taken, or columns of the
            sidecars that `radar posts import` refuses.
    """
    folder, out, reading = Path(folder), Path(out), reading or Reading()
    reading.check()
    if not folder.is_dir():
        raise RadarError(f"{folder} is no folder. Name the one with the videos.")
    if (out / "corpus.json").exists():
        raise RadarError(f"{out} already holds a corpus. Delete it or choose another folder.")
    files = {_plain(path.relative_to(folder)): path for path in _videos(folder)}
    if not files:
        raise RadarError(f"{folder} holds no video ({', '.join(SUFFIXES)}).")
    told, astray = read_sidecars(folder, files, Path(table) if table else None)
    risks = categories_of(dict.fromkeys(itertools.chain.from_iterable(cells for cells, _ in told.values())))
    if not (risks := risks or tuple(categories)):
        raise RadarError(f"{folder}: no risk is named. Add label_<category> to a sidecar, or name them: --categories.")
    places = _read_all(files, told, out / PARTIAL, reading, workers=workers, root=folder.resolve())
    abouts = {file: {**kept(out / PARTIAL / place), "place": place} for file, place in places.items()}
    causes = {file: about["cause"] for file, about in abouts.items() if "cause" in about}
    causes |= {file: fault for file, (_, fault) in told.items() if fault and file not in causes}
    _write_lines(out / SET_ASIDE, [{"file": file, "cause": cause} for file, cause in sorted(causes.items())] + astray)
    sound = {file: about for file, about in abouts.items() if file not in causes}
    if not sound:
        raise RadarError(f"{folder}: none of {len(files):,} videos can be read; {out / SET_ASIDE} says why.")
    rows = _rows(sound, told, risks)
    _write_lines(out / VIDEOS, [{"post_id": row["post_id"], **{name: value for name, value in about.items()
                                 if name not in ("place", FRAMES, "ocr_text", "asr_text")}}
                                for row, about in zip(rows, sound.values(), strict=True)])  # fmt: skip
    verified = any(str(row[LABEL_PREFIX + risk]).strip() in ("0", "1") for row in rows for risk in risks)
    if not verified and not any("split" in row for row in rows):  # the importer would draw those of a group
        rows = [{**row, "split": "unlabelled"} for row in rows]
    _write_lines(out / PARTIAL / "posts.jsonl", rows)
    posts = import_table(
        out / PARTIAL / "posts.jsonl", out / PARTIAL, out, on_error="quarantine", seed=seed, ignore=ignore,
        name=name or folder.resolve().name or "videos", max_px=reading.size, workers=workers, scored=verified,
        about={"source": "videos", "reading": asdict(reading), "set_aside": len(causes) + len(astray)},
    )  # fmt: skip
    shutil.rmtree(out / PARTIAL)
    return posts


def _videos(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _plain(path: Path) -> str:
    """A path as text, also where its bytes are none."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def read_sidecars(folder: Path, files: Mapping[str, Path], table: Path | None) -> tuple[Told, list[dict[str, str]]]:
    """What is told of each video, and rows of the table that name none of them.

    A video's own sidecar comes before the table's row, column by column.
    """
    told: Told = {file: ({}, "") for file in files}
    astray: list[dict[str, str]] = []
    table = table or next((folder / name for name in TABLES if (folder / name).is_file()), None)
    if table is not None:
        header, rows = read_rows(table)
        if FILE not in header:
            raise RadarError(f"{table.name}, header: no column {FILE!r} among {', '.join(header)[:200]}. "
                             "It names each video, relative to the folder.")  # fmt: skip
        seen: set[str] = set()
        for number, cells, faults in rows:
            file = Path(str(cells.pop(FILE, "") or "")).as_posix()
            fault = f"{table.name}, row {number}: {'; '.join(what for _, what, _ in faults)}" if faults else ""
            fault = fault or (f"{table.name}, row {number}: the file is there twice" if file in seen else "")
            if file in told:
                told[file] = (cells, fault)
            else:
                astray.append({"file": file, "cause": f"{table.name}, row {number}: no such video"})
            seen.add(file)
    for file, path in files.items():
        for own in (path.with_suffix(suffix) for suffix in SIDECARS if path.with_suffix(suffix).is_file()):
            cells, fault = _read_one(own)
            told[file] = ({**told[file][0], **cells}, told[file][1] or fault)
    return told, astray


def _read_one(path: Path) -> tuple[dict[str, Any], str]:
    """The object or the one row of a sidecar, or what is wrong with it."""
    try:
        if path.suffix == ".json":
            value = json.loads(path.read_text(encoding="utf-8-sig"))
            return (value, "") if isinstance(value, dict) else ({}, f"{path.name} is no JSON object")
        rows = list(read_rows(path)[1])
    except (RadarError, OSError, ValueError, RecursionError) as error:
        return {}, f"its sidecar cannot be read ({error!s:.100})"
    if len(rows) != 1 or rows[0][2]:
        return {}, f"{path.name} has {len(rows)} rows, not one sound row"
    return {name: value for name, value in rows[0][1].items() if name != FILE}, ""


def _rows(sound: Mapping[str, dict[str, Any]], told: Told, risks: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the data contract, in the order of the files."""
    rows = []
    for file, about in sound.items():
        cells = {name: value for name, value in told[file][0].items() if name != FRAMES}
        texts = {name: str(cells.get(name) or about.get(name) or "") for name in TEXT_COLUMNS}
        labels = {LABEL_PREFIX + risk: cells.get(LABEL_PREFIX + risk, -1) for risk in risks}
        pictures = [f"{about['place']}/{picture}" for picture in about[FRAMES]]
        post_id = cells.get("post_id") or file
        rows.append({**cells, "post_id": post_id, **texts, **labels, FRAMES: pictures})
    names = copy_groups(rows, list(sound.values()))
    return [{**row, "group": name} for row, name in zip(rows, names, strict=True)]


def copy_groups(rows: Sequence[Mapping[str, Any]], abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Group of each video: near-duplicates share one, as do videos of one given `group` or `stream_id`.

    Two videos are near-duplicates when their bytes are equal, or each frame of the one with fewer lies within
    `PDQ_BITS` of 256 bits, in the mean, of its nearest frame of the other. Every pair of frames is compared.
    """
    hashes, owner = [], []
    for place, about in enumerate(abouts):
        for bits, quality in zip(about["pdq"], about["pdq_quality"], strict=True):
            if quality >= PDQ_QUALITY:
                hashes.append(np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8)).astype(bool))
                owner.append(place)
    whole, of = np.array(hashes).reshape(-1, 256), np.array(owner)
    near = {(owner[i], owner[j]) for i, j in near_hashes(whole, within=PDQ_BITS) if owner[i] != owner[j]}
    pairs = {(a, b) for a, b in near if frame_distance(whole[of == a], whole[of == b]) <= PDQ_BITS}
    keys = [[("bytes", about["digest"]), *((name, str(row[name])) for name in ("group", "stream_id") if row.get(name))]
            for row, about in zip(rows, abouts, strict=True)]  # fmt: skip
    first: dict[tuple[str, str], int] = {}
    pairs |= {(first.setdefault(key, place), place) for place, own in enumerate(keys) for key in own}
    numbers = duplicate_groups(pd.DataFrame(sorted(pairs), columns=["a", "b"]), len(rows))
    members: dict[int, list[int]] = {}
    for place, number in enumerate(numbers.tolist()):
        members.setdefault(number, []).append(place)
    names = [""] * len(rows)
    for places in members.values():
        given = sorted({str(rows[place]["group"]) for place in places if rows[place].get("group")})
        found = COPIES + min(str(rows[place]["post_id"]) for place in places) if len(places) > 1 else ""
        for place in places:
            names[place] = given[0] if given else found
    return names


def _read_all(
    files: Mapping[str, Path], told: Told, partial: Path, reading: Reading, *, workers: int, root: Path
) -> dict[str, str]:
    """Folder of each file below `partial`. A file that ends its process is set aside, too."""
    left = {file: (path, file, partial, reading, str(told[file][0].get("language") or "und"))
            for file, path in files.items()}  # fmt: skip
    places: dict[str, str] = {}
    for file, path in files.items():
        if not _stays(path, root):
            places[file] = _keep_cause(partial, file, "it is a link that leaves the folder")
            del left[file]
    with tqdm(total=len(files), initial=len(places), desc="reading videos", unit="video", disable=None) as bar:
        while left:
            try:
                for file, place in _pooled(left, workers):
                    places[file] = place
                    bar.update()
            except BrokenProcessPool:  # one of those that were at work: each of them gets a process of its own
                suspects = [file for file in left if file not in places][: 2 * workers + 1]
                for file in suspects:
                    try:
                        places |= dict(_pooled({file: left[file]}, 1))
                    except BrokenProcessPool:
                        places[file] = _keep_cause(partial, file, "its decoder crashed, or took too much memory")
                    bar.update()
            left = {file: job for file, job in left.items() if file not in places}
    return {file: places[file] for file in files}


def _stays(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a loop of links
        return False


def _pooled(jobs: Mapping[str, tuple], workers: int) -> Iterator[tuple[str, str]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        futures = {pool.submit(keep_video, *job): file for file, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _keep_cause(partial: Path, file: str, cause: str) -> str:
    place = f"cause-{os.urandom(8).hex()}"
    write_json(partial / place / "about.json", {"file": file, "cause": cause})
    return place


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    atomic_write_text(path, "".join(json.dumps(row, default=str) + "\n" for row in rows))
