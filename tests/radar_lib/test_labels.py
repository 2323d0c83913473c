"""A label is 1, 0 or -1, for whoever takes labels; anything else is named."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from radar_lib.data.schema import features
from radar_lib.data.schema import labels as label_matrix
from radar_lib.errors import RadarError
from radar_lib.evidence import Evidence
from radar_lib.labels import LONGEST_NAME, check_categories, valid_mask
from radar_lib.losses import masked_bce, radar_loss, unmasked_bce
from radar_lib.metrics import score_table
from radar_lib.partial_losses import OBJECTIVES, SideInformation
from radar_lib.training.loop import TrainingSet

WRONG = (-100, 2, 255, 0.5, math.inf)
SIDE = SideInformation(torch.full((2,), 0.1), torch.full((3, 2), 0.5), torch.zeros(3, 2))


def matrix(wrong):
    """Labels with one that is none, as an array."""
    return np.array([[1, 0], [-1, wrong], [0, 1]])


@pytest.mark.parametrize("wrong", WRONG)
def test_no_loss_takes_another_label(wrong):
    targets, logits = torch.tensor(matrix(wrong)), torch.zeros(3, 2)
    losses = [lambda: radar_loss(logits, targets, logits, lam=0.5), lambda: unmasked_bce(logits, targets)]
    losses += [lambda name=name: OBJECTIVES[name](logits, targets, SIDE) for name in OBJECTIVES]
    for loss in losses:
        with pytest.raises(ValueError, match=f"labels hold {wrong}"):
            loss()
    if wrong != 0.5:  # a soft target
        with pytest.raises(ValueError, match=str(wrong)):
            masked_bce(logits, targets, targets != -1)


@pytest.mark.parametrize("wrong", WRONG)
def test_no_table_takes_another_label(wrong):
    truth, logits = matrix(wrong), np.arange(6.0).reshape(3, 2)
    for take in (lambda: score_table(truth, logits, "ab"), lambda: Evidence(truth, {"r": [logits]}, "ab", seed=1)):
        with pytest.raises(ValueError, match=f"b: labels hold {wrong}"):
            take()
    with pytest.raises(ValueError, match=str(wrong)):
        TrainingSet([], truth, ["x", "y", "z"])


@pytest.mark.parametrize("wrong", [None, "1", 1, pd.NA, pd.Timestamp("2025-01-01")])
def test_labels_that_are_objects_are_one_clear_error(wrong):
    truth, logits = np.array([[1, 0], [-1, wrong], [0, 1]], dtype=object), np.arange(6.0).reshape(3, 2)
    for take in (lambda: valid_mask(truth), lambda: valid_mask(truth[:, 1]), lambda: score_table(truth, logits, "ab"),
                 lambda: Evidence(truth, {"r": [logits]}, "ab", seed=1)):  # fmt: skip
        with pytest.raises(ValueError, match="labels are object"):
            take()
    with pytest.raises(ValueError, match="labels are <U2"):
        valid_mask(np.array(["1", "-1"]))


@pytest.mark.parametrize("wrong", [*WRONG, math.nan, None, "1"])
def test_no_label_of_a_post_is_changed_into_another(wrong):
    posts = pd.DataFrame({"label_a": [1, 0], "label_b": pd.Series([1, wrong], dtype=object)})
    for frame in (posts, posts.assign(label_b=posts["label_b"].infer_objects())):
        with pytest.raises(RadarError, match="label_b is .* in row 1"):
            label_matrix(frame, ["a", "b"])
    assert label_matrix(posts.assign(label_b=[1.0, -1.0]), ["a", "b"]).tolist() == [[1, 1], [0, -1]]


def test_bytes_are_read_as_the_numbers_they_are():
    for wrap in (torch.tensor, np.array):
        values = wrap(np.array([[0, 255]], dtype=np.uint8))
        with pytest.raises(ValueError, match="255"):
            valid_mask(values)
    for kind in (torch.bool, torch.uint8, torch.float16, torch.int64):
        assert valid_mask(torch.tensor([[1, 0]], dtype=kind)).all()


@pytest.mark.parametrize(
    "names",
    [["Average"], ["AVG"], ["A-b", "A_b"], ["LQC", "lqc"], ["LQC", "LQC"], ["A_", "A"], ["Ａ", "a"], ["nan"], [""],
     ["![f](/etc/hostname)"], ["<b>x"], ["a b"], ["a|b"], ["$x$"], ["a/b"], [".."], ["-a"], ["_a"], ["7"],
     ["x" * (LONGEST_NAME + 1)], ["Ab", "A_b"], ["N-A"]],
)  # fmt: skip
def test_no_two_risks_and_no_column_share_a_name(names):
    truth = np.tile([[1], [0]], len(names))
    for take in (check_categories, features, lambda names: score_table(truth, truth + 0.5, names)):
        with pytest.raises((ValueError, RadarError), match="A risk's name is of letters") as error:
            take(names)
        assert repr(names[-1]) in str(error.value)


@pytest.mark.parametrize("unseen", ["\u3164", "\u034f", "\uffa0", "\ufe0f", "\u200b"])
def test_no_letter_of_a_risk_is_invisible(unseen):
    with pytest.raises(ValueError, match=r"cannot be called 'A\\[ux]"):
        check_categories(["A", "A" + unseen])


def test_letters_of_every_script_name_a_risk():
    names = ["LQC", "fake_engagement", "Übergriff", "仇恨", "हिंसा", "تحرش", "c-7"]
    assert check_categories(names) == tuple(names) and features(names)
