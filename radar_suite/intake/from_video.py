"""A folder of videos becomes a corpus: every file is read once, copies are grouped, sidecars say the rest.

What is known of a video besides itself stands in a sidecar: `clip.json` (an object) or `clip.csv` (one row) beside
`clip.mp4`, or one table of the folder whose column `file` names the videos. Its columns are those of the data contract;
`frames` and, unless the sidecar has them, `ocr_text` and `asr_text` come from the video.

    <out>/data, corpus.json      the corpus, as `radar posts import` writes it
    <out>/videos.jsonl           a line per video that was read: seconds, times of the frames, PDQ hashes
    <out>/set_aside.jsonl        a line per file (or row) that was not, with its cause
    <out>/videos.partial/        while it is at work: a folder per file that was read, so that a killed run goes on
"""

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
from radar_lib.files import atomic_write_text
from radar_suite.intake.duplicates import duplicate_groups, frame_distance, near_hashes
from radar_suite.intake.importer import import_table, read_rows
from radar_suite.intake.one_video import About, Reading, keep_video
from radar_suite.intake.video import SUFFIXES

PARTIAL, VIDEOS, SET_ASIDE = "videos.partial", "videos.jsonl", "set_aside.jsonl"
TABLES = ("posts.csv", "posts.jsonl")  # of a folder, if none is named
FILE = "file"  # column of a table that names the video
PDQ_BITS, PDQ_QUALITY = 31, 50  # a match, and what a hash needs to be evidence, as PDQ's authors have it
LARGE = 31 << 20  # bytes; glibc's limit is 32 MiB
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
        categories: risks beside those of the sidecars' columns `label_<category>`; nothing is verified for these.
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
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    files = dict(sorted((_plain(path.relative_to(folder)), path) for path in paths))
    if not files:
        raise RadarError(f"{folder} holds no video ({', '.join(SUFFIXES)}).")
    told, astray = read_sidecars(folder, files, Path(table) if table else None)
    columns = dict.fromkeys(itertools.chain.from_iterable(cells for cells, _ in told.values()))
    if not (risks := dict.fromkeys((*categories_of(columns), *categories))):
        raise RadarError(f"{folder}: no risk is named. Add label_<category> to a sidecar, or name them: --categories.")
    abouts = read_all(files, {file: str(cells.get("language") or "und") for file, (cells, _) in told.items()},
                      out / PARTIAL, reading, root=folder, workers=workers)  # fmt: skip
    causes = {file: cause for file in files if (cause := abouts[file].get("cause") or told[file][1])}
    _write_lines(out / SET_ASIDE, [{"file": file, "cause": cause} for file, cause in causes.items()] + astray)
    sound = {file: abouts[file] for file in files if file not in causes}
    if not sound:
        raise RadarError(f"{folder}: none of {len(files):,} videos can be read; {out / SET_ASIDE} says why.")
    rows = _rows(sound, told, list(risks))
    hidden = ("place", FRAMES, "ocr_text", "asr_text")
    _write_lines(out / VIDEOS, [{"post_id": row["post_id"]} | {key: about[key] for key in about if key not in hidden}
                                for row, about in zip(rows, sound.values(), strict=True)])  # fmt: skip
    verified = any(str(row[LABEL_PREFIX + risk]).strip() in ("0", "1") for row in rows for risk in risks)
    if not verified and "split" not in columns:  # the importer would draw those of a group
        rows = [{**row, "split": "unlabelled"} for row in rows]
    _write_lines(out / PARTIAL / "posts.jsonl", rows)
    posts = import_table(
        out / PARTIAL / "posts.jsonl", out / PARTIAL, out, on_error="quarantine", seed=seed, ignore=ignore,
        name=name or folder.resolve().name or "videos", max_px=reading.size, workers=workers, scored=verified,
        about={"source": "videos", "reading": asdict(reading), "set_aside": len(causes) + len(astray)},
    )  # fmt: skip
    shutil.rmtree(out / PARTIAL)
    return posts


def _plain(path: Path) -> str:
    """A path as text, also where its bytes are none."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    atomic_write_text(path, "".join(json.dumps(row, default=str) + "\n" for row in rows))


def read_sidecars(folder: Path, files: Mapping[str, Path], table: Path | None) -> tuple[Told, list[dict[str, str]]]:
    """What is told of each video, and rows of the table that name none of them.

    A video's own sidecar comes before the table's row, column by column.
    """
    told: Told = {file: ({}, "") for file in files}
    astray: list[dict[str, str]] = []
    if table := table or next((folder / name for name in TABLES if (folder / name).is_file()), None):
        header, rows = read_rows(table)
        if FILE not in header:
            raise RadarError(f"{table.name}, header: no column {FILE!r} among {', '.join(header)[:200]}. "
                             "It names each video, relative to the folder.")  # fmt: skip
        seen: set[str] = set()
        for number, cells, faults in rows:
            file = Path(str(cells.pop(FILE, None) or "")).as_posix()
            wrong = "" if file in files else "no such video"
            wrong = wrong or "; ".join(what for _, what, _ in faults) or "the file is there twice" * (file in seen)
            fault = f"{table.name}, row {number}: {wrong}" * bool(wrong)
            if file in files:
                told[file] = (cells, fault)
            else:
                astray.append({"file": file, "cause": fault})
            seen.add(file)
    for file, path in files.items():
        for own in (path.with_suffix(".json"), path.with_suffix(".csv")):
            if own.is_file():
                cells, fault = _read_one(own)
                told[file] = (told[file][0] | cells, told[file][1] or fault)
    return told, astray


def _read_one(path: Path) -> tuple[dict[str, Any], str]:
    """The object or the one row of a sidecar, or what is wrong with it."""
    try:
        rows = ([json.loads(path.read_text(encoding="utf-8-sig"))] if path.suffix == ".json" else
                [None if faults else cells for _, cells, faults in read_rows(path)[1]])  # fmt: skip
    except (RadarError, OSError, ValueError, RecursionError) as error:
        return {}, f"its sidecar cannot be read ({error!s:.100})"
    if len(rows) != 1 or not isinstance(rows[0], dict):
        return {}, f"{path.name} holds no single object or row"
    return {name: value for name, value in rows[0].items() if name != FILE}, ""


def read_all(
    files: Mapping[str, Path], languages: Mapping[str, str], partial: Path, reading: Reading, *, root: Path,
    workers: int = 2,
) -> dict[str, About]:  # fmt: skip
    """What is known of each file (`keep_video`). A file outside `root` is not opened; one that ends the process that
    reads it is found by giving every suspect a process of its own."""
    inside = Path(os.path.realpath(root))
    left = {file: (path, file, partial, reading, languages[file]) for file, path in files.items()
            if Path(os.path.realpath(path)).is_relative_to(inside)}  # fmt: skip
    abouts = {file: {"cause": "it is a link that leaves the folder"} for file in files if file not in left}
    suspects = 0
    with tqdm(total=len(left), desc="reading videos", unit="video", disable=None) as bar:
        while left:
            batch = dict(itertools.islice(left.items(), 1 if suspects else len(left)))
            suspects = max(0, suspects - 1)
            try:
                for file, about in _pooled(batch, workers):
                    abouts[file] = about
                    del left[file]
                    bar.update()
            except BrokenProcessPool:
                if len(batch) > 1:
                    suspects = 2 * workers + 1  # at work, or next to be
                    continue
                (file,) = batch
                abouts[file] = {"cause": "its decoder crashed, or took too much memory"}
                del left[file]
                bar.update()
    return abouts


def _pooled(jobs: Mapping[str, tuple], workers: int) -> Iterator[tuple[str, About]]:
    context = multiprocessing.get_context("spawn")
    # A large block that comes and goes makes glibc keep freed memory, rather than fetch it anew for every picture.
    freed = {"initializer": bytearray, "initargs": (LARGE,)}
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context, **freed) as pool:
        futures = {pool.submit(keep_video, *job): file for file, job in jobs.items()}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _rows(sound: Mapping[str, About], told: Told, risks: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of the data contract, in the order of the files."""
    rows = []
    for file, about in sound.items():
        cells, _ = told[file]
        texts = {name: cells.get(name) or about.get(name) or "" for name in TEXT_COLUMNS}
        labels = {LABEL_PREFIX + risk: cells.get(LABEL_PREFIX + risk, -1) for risk in risks}
        pictures = [f"{about['place']}/{picture}" for picture in about[FRAMES]]
        rows.append({**cells, "post_id": cells.get("post_id") or file, **texts, **labels, FRAMES: pictures})
    names = copy_groups(rows, list(sound.values()))
    return [{**row, "group": name} for row, name in zip(rows, names, strict=True)]


def copy_groups(rows: Sequence[Mapping[str, Any]], abouts: Sequence[About]) -> list[str]:
    """Group of each video: near-duplicates share one, as do videos of one given `group` or `stream_id`.

    Two videos are near-duplicates when their bytes are equal, or each frame of the one with fewer lies within
    `PDQ_BITS` of 256 bits, in the mean, of its nearest frame of the other. Every pair of frames is compared.
    """
    first: dict[tuple[str, str], int] = {}  # to share what shows that videos belong together
    pairs: set[tuple[int, int]] = set()
    for place, (row, about) in enumerate(zip(rows, abouts, strict=True)):
        keys = [("bytes", about["digest"]), *((name, str(row.get(name) or "")) for name in ("group", "stream_id"))]
        pairs |= {(first.setdefault(key, place), place) for key in keys if key[1]}
    hashes = [(place, np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8)).astype(bool))
              for place, about in enumerate(abouts) if first["bytes", about["digest"]] == place
              for bits, quality in zip(about["pdq"], about["pdq_quality"], strict=True)
              if quality >= PDQ_QUALITY]  # fmt: skip
    owner, whole = np.array([place for place, _ in hashes]), np.array([bits for _, bits in hashes]).reshape(-1, 256)
    near = {(owner[i], owner[j]) for i, j in near_hashes(whole, within=PDQ_BITS) if owner[i] != owner[j]}
    pairs |= {(a, b) for a, b in near if frame_distance(whole[owner == a], whole[owner == b]) <= PDQ_BITS}
    numbers = duplicate_groups(pd.DataFrame(sorted(pairs), columns=["a", "b"]), len(rows))
    members = pd.DataFrame({"post_id": [str(row["post_id"]) for row in rows],
                            "given": [str(row.get("group") or "") or None for row in rows]})  # fmt: skip
    names = {}
    for number, own in members.groupby(numbers):
        found = COPIES + own["post_id"].min() if len(own) > 1 else ""
        names[number] = own["given"].min() if own["given"].notna().any() else found
    return [names[number] for number in numbers]
