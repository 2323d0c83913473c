"""One video file: the pictures are those of full decoding, upright; what cannot be read has a cause."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from radar_lib.errors import RadarError
from radar_suite.chain import cli, exits
from radar_suite.intake import one_video, recognition, video
from radar_suite.intake.one_video import Reading
from radar_suite.intake.recognition import hears, read_text, voiced
from radar_suite.intake.video import Unreadable, check_file, read_pictures, read_sound

X264 = {"b frames": "keyint=20:bframes=5:b-pyramid=2:scenecut=0", "open gop": "open-gop=1:keyint=20:bframes=3",
        "intra refresh": "intra-refresh=1:keyint=15", "one key": "keyint=infinite", "slices": "slices=4"}  # fmt: skip


def decoded(path):
    """(time, picture) of every picture, decoded one after the other: the oracle."""
    import av

    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_image(), frame.duration) for frame in container.decode(video=0)]


def on_screen(path, count):
    """What is shown in the middle of each of `count` parts, by full decoding."""
    every = decoded(path)
    start, last = every[0][0], every[-1][0]
    gap = last - every[-2][0] if len(every) > 1 else 1
    middles = [start + (last + gap - start) * (2 * i + 1) / (2 * count) for i in range(count)]
    places = sorted({max(i for i, (time, *_) in enumerate(every) if time <= middle) for middle in middles})
    return [every[i][1].tobytes() for i in places]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
@pytest.mark.parametrize("x264", X264.values(), ids=X264)
def test_seeking_gives_the_pictures_of_full_decoding(films, tmp_path, suffix, x264):
    path = films.film(tmp_path / f"a.{suffix}", n=70, options={"x264-params": x264})
    about, pictures = read_pictures(path, count=5, max_seconds=60)
    assert about["pictures"] == 70 and len(pictures) == 5
    assert [picture.tobytes() for picture in pictures] == on_screen(path, 5)


@pytest.mark.parametrize("codec, suffix", [("libvpx-vp9", "webm"), ("libx265", "mov"), ("mpeg4", "mp4")])
def test_other_codecs(films, tmp_path, codec, suffix):
    options = {"x265-params": "log-level=none:keyint=15"} if codec == "libx265" else {}
    path = films.film(tmp_path / f"a.{suffix}", n=40, codec=codec, options=options)
    _, pictures = read_pictures(path, count=4, max_seconds=60)
    assert [picture.tobytes() for picture in pictures] == on_screen(path, 4)


def test_frames_of_a_variable_rate_are_spread_over_time_not_over_pictures(films, tmp_path):
    times = [*range(0, 400, 10), 2000, 4000, 6000, 8000]  # forty pictures at once, then four slow ones
    path = films.film(tmp_path / "a.mp4", n=44, times=times)
    about, pictures = read_pictures(path, count=5, max_seconds=60)
    assert about["times"] == [0.39, 2, 4, 6, 8]  # parts of 2 s up to 10 s: the last picture is taken to last as its gap
    assert [picture.tobytes() for picture in pictures] == on_screen(path, 5)


def test_a_video_of_fewer_pictures_than_asked_gives_each_once(films, tmp_path):
    path = films.film(tmp_path / "a.mp4", n=3)
    assert len(read_pictures(path, count=8, max_seconds=60)[1]) == 3


TURNS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", TURNS)
def test_pictures_are_upright(films, tmp_path, matrix):
    quarters = np.zeros((64, 64, 3), np.uint8)
    quarters[:32, 32:], quarters[32:, :32], quarters[32:, 32:] = 80, 160, 240
    path = films.film(tmp_path / "a.mp4", n=3, pictures=[quarters] * 3)
    (picture,) = read_pictures(films.with_matrix(path, *matrix), count=1, max_seconds=60)[1]
    a, b, c, d = matrix
    for x in (-1, 1):  # quarters around the middle: the matrix says where each goes
        for y in (-1, 1):
            at = (32 + 16 * (a * x + c * y), 32 + 16 * (b * x + d * y))
            expected = quarters[32 + 16 * y, 32 + 16 * x, 0]
            assert abs(int(picture.getpixel(at)[0]) - int(expected)) < 20


def test_pixels_that_are_not_square_become_square(films, tmp_path):
    options = {"x264-params": "sar=2/1"}
    path = films.film(tmp_path / "a.mp4", options=options)
    assert read_pictures(path, count=1, max_seconds=60)[1][0].size == (128, 64)


def test_large_pictures_are_scaled_down_as_an_area_filter_does(films, tmp_path):
    path = films.film(tmp_path / "a.mp4", n=3, side=128)
    (whole,), (small,) = (read_pictures(path, count=1, max_seconds=60, size=size)[1] for size in (128, 64))
    oracle = whole.resize((64, 64), Image.Resampling.BOX)
    luma, wanted = (np.asarray(picture.convert("L"), int) for picture in (small, oracle))
    assert small.size == (64, 64) and np.abs(luma - wanted).mean() < 2


def test_limits(films, tmp_path, monkeypatch):
    path = films.film(tmp_path / "a.mp4", n=30, rate=10)
    with pytest.raises(Unreadable):
        read_pictures(path, count=1, max_seconds=2)
    for name, limit in (("MOST_PIXELS", 64 * 63), ("MOST_STREAMS", 0), ("MOST_PICTURES", 0.1)):
        with monkeypatch.context() as patch, pytest.raises(Unreadable):
            patch.setattr(video, name, limit)
            read_pictures(path, count=1, max_seconds=60)
    monkeypatch.setattr(video, "MOST_BYTES", 10)
    with pytest.raises(Unreadable):
        check_file(path)


def test_a_cut_file_is_told_from_a_whole_one_at_any_place(films, tmp_path):
    for suffix, codec, container in (("mp4", "libx264", films.FAST), ("webm", "libvpx-vp9", None)):
        path = films.film(tmp_path / f"a.{suffix}", n=60, codec=codec, container=container)
        whole = path.read_bytes()
        assert len(read_pictures(path, count=2, max_seconds=60)[1]) == 2
        for share in (0.1, 0.3, 0.5, 0.75):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(Unreadable):
                read_pictures(path, count=2, max_seconds=60)


def test_sound_comes_as_it_was_and_silence_is_no_speech(films, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32_000) / 16_000)
    path = films.film(tmp_path / "a.mp4", n=20, sound=tone.astype(np.float32))
    sound = read_sound(path)
    assert abs(len(sound) / 16_000 - 2) < 0.1
    spectrum = np.abs(np.fft.rfft(sound[8_000:24_000]))
    assert spectrum.argmax() == 440 and abs(np.abs(sound).max() - 0.5) < 0.1
    assert len(read_sound(films.film(tmp_path / "b.mp4"))) == 0
    pytest.importorskip("silero_vad", reason="the extra `video` is not installed")
    assert voiced(np.zeros(32_000, np.float32)) == [] == voiced(np.empty(0, np.float32))


def test_an_engine_of_one_language_leaves_others_unheard():
    languages = ("en-GB", "und", "pt-BR")
    assert [hears("pocketsphinx", language) for language in languages] == [True, True, False]
    assert all(hears("whisper:folder", language) and not hears("none", language) for language in languages)


def test_whisper_is_loaded_from_a_folder_and_hears_every_stretch(tmp_path, monkeypatch):
    tokenizer = WhisperTokenizer(vocab={"a": 0, "<|startoftranscript|>": 1, "<|endoftext|>": 2}, merges=[])
    shape = dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 16)
    shape |= {f"{part}_{of}": 1 for part in ("encoder", "decoder") for of in ("layers", "attention_heads")}
    tokens = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 2)
    model = WhisperForConditionalGeneration(WhisperConfig(**shape, **tokens, vocab_size=3, decoder_start_token_id=1))
    last = model.model.decoder.layer_norm
    with torch.no_grad():  # whatever is said, it hears the first token
        last.weight.zero_(), last.bias.fill_(1), model.proj_out.weight.copy_(torch.eye(3)[:, :1].expand(3, 16))
    model.generation_config.update(max_length=5)
    model.save_pretrained(tmp_path)
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    monkeypatch.setattr(recognition, "voiced", lambda sound: [sound, sound[:8000]])
    recognition.check_engine(f"whisper:{tmp_path}")
    assert recognition.read_speech(np.zeros(16_000, np.float32), f"whisper:{tmp_path}") == "aaaaa aaaaa"


def test_text_in_frames_is_read_once():
    pytest.importorskip("rapidocr", reason="the extra `video` is not installed")
    from radar_suite.world.script import banner

    picture = Image.new("RGB", (512, 200), (90, 120, 90))
    picture.paste(banner("Win a FREE phone today", 480, 60, (0, 0, 0), (255, 255, 255)), (16, 70))
    assert read_text([picture, picture]) == "Win a FREE phone today"


@pytest.mark.parametrize("speech", ["loud", "pocketsphinx:model", "whisper:/no/such/folder"])
def test_an_engine_that_is_not_there_is_refused_before_work_starts(speech, monkeypatch):
    monkeypatch.setattr(one_video, "find_spec", lambda name: True)
    with pytest.raises(RadarError):
        Reading(speech=speech).check()


@pytest.mark.parametrize("command", ["from-video videos", "roundtrip"])
def test_without_the_extra_the_command_says_how_to_get_it(command, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(one_video, "find_spec", lambda name: None)
    code = cli.main(["posts", *command.split(), "--out", str(tmp_path / "out")])
    assert code == exits.ENVIRONMENT and "pip install 'radar-notebooks[video]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
