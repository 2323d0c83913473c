"""Other teachers: a shuffle keeps every column, hard labels are 0 and 1, and no expert judges a post that it saw."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from radar_lib.errors import RadarError
from radar_lib.losses import bernoulli_kl
from radar_lib.training.batches import part_of
from radar_lib.training.cache import Cache
from radar_lib.training.lab import Lab, RunSpec
from radar_lib.training.loop import Recipe, no_bar
from radar_lib.training.teachers import soft_labels
from radar_suite.studies.other_teachers import cross_fit, harden, keep_teacher, shuffle

RECIPE = Recipe(epochs=2, batch_size=8, learning_rate=5e-3)


def table(logits) -> pd.DataFrame:
    logits = np.asarray(logits, dtype=np.float32)
    frame = pd.DataFrame({"post_id": [f"post-{i}" for i in range(len(logits))], "split": "train"})
    return frame.assign(**{f"logit_{'ABCDEFG'[k]}": column for k, column in enumerate(logits.T)})


def logits_of(frame: pd.DataFrame) -> np.ndarray:
    return frame.filter(like="logit_").to_numpy()


sizes = given(st.integers(1, 40), st.sampled_from([1, 3, 7]), st.integers(0, 2**32 - 1))


@sizes
def test_a_shuffle_keeps_each_columns_values_and_nothing_else(posts, categories, seed):
    before = table(np.random.default_rng(seed).normal(size=(posts, categories)))
    after = shuffle(before, seed=seed)
    pd.testing.assert_frame_equal(after[["post_id", "split"]], before[["post_id", "split"]])
    assert np.array_equal(np.sort(logits_of(after), axis=0), np.sort(logits_of(before), axis=0))
    assert (after.dtypes == before.dtypes).all()
    pd.testing.assert_frame_equal(shuffle(before, seed=seed), after)


def test_a_shuffle_takes_the_information_out_of_each_category_by_itself():
    signal = np.linspace(-3, 3, 2000)
    after = logits_of(shuffle(table(np.stack([signal, signal, signal], axis=1)), seed=1))
    correlations = np.corrcoef(np.column_stack([signal, after]), rowvar=False)
    assert np.abs(correlations[~np.eye(4, dtype=bool)]).max() < 0.1


@sizes
def test_hard_labels_are_0_and_1_where_the_probability_says_so(posts, categories, seed):
    before = table(np.random.default_rng(seed).normal(size=(posts, categories)))
    t = torch.sigmoid(torch.tensor(logits_of(harden(before))))
    expected = torch.sigmoid(torch.tensor(logits_of(before))) > 0.5
    assert torch.equal(t, expected.float())


def test_hard_labels_teach_as_labels_do_and_survive_the_file(tmp_path):
    hard = keep_teacher(harden(table([[2.0, -2.0], [-0.1, 0.1]])), tmp_path / "hard.parquet")
    read = torch.tensor(hard.logits(["post-1", "post-0"], ["A", "B"]))
    assert torch.equal(torch.sigmoid(read), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    student = torch.tensor([[0.3, -1.2], [2.0, 0.5]], requires_grad=True)
    loss = bernoulli_kl(read, student).sum()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(student, (read > 0).float(), reduction="sum")
    torch.testing.assert_close(loss, expected)
    loss.backward()
    torch.testing.assert_close(student.grad, torch.sigmoid(student.detach()) - (read > 0).float())


@sizes
def test_no_cell_is_judged_by_an_expert_that_was_trained_on_it(posts, categories, seed):
    """Expert i's logits are about `100 i`, so every cell tells whose they are."""
    generator = np.random.default_rng(seed)
    own, fold = generator.random((posts, categories)) < 0.4, generator.integers(0, 2, posts)
    halves = [table(generator.normal(100 * i, 0.1, size=(posts, categories))) for i in range(2)]
    found = logits_of(cross_fit(halves, own=own, fold=fold))
    judge = np.round(found / 100, 1)
    assert np.array_equal(judge[own], np.broadcast_to(1 - fold[:, None], own.shape)[own])
    assert (judge[~own] == 0.5).all()


@pytest.mark.parametrize("other", [table(np.zeros((3, 2))).iloc[::-1], table(np.zeros((3, 3)))])
def test_halves_about_other_posts_or_categories_are_refused(other):
    with pytest.raises(RadarError, match="same posts"):
        cross_fit([table(np.zeros((3, 2))), other], own=np.ones((3, 2), bool), fold=np.zeros(3, int))


def test_equal_teachers_are_one_file_and_nan_is_none(tmp_path):
    one = table([[1.0, -1.0]])
    assert keep_teacher(one, tmp_path / "a.parquet").digest == keep_teacher(one, tmp_path / "b.parquet").digest
    with pytest.raises(RadarError, match="NaN"):
        keep_teacher(table([[np.nan, 1.0]]), tmp_path / "c.parquet")
    assert not (tmp_path / "c.parquet").exists()


def test_experts_of_two_folds_train_on_their_half_and_judge_the_other(posts, checkpoints, tmp_path):
    lab = Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(checkpoints), bar=no_bar)
    specs = [{c: RunSpec("Qwen3-VL-8B", (c,), RECIPE, 4, 8, fold=(i, 2)) for c in posts.categories} for i in range(2)]
    halves = [soft_labels(lab, {c: lab.train(spec) for c, spec in half.items()}, splits=["train"],
                          path=tmp_path / f"{i}.parquet") for i, half in enumerate(specs)]  # fmt: skip
    ids, own = halves[0]["post_id"].tolist(), lab.labels("train", posts.categories) >= 0
    fold = part_of(ids, 2)
    half = own[:, 2] & (fold == 0)  # of FE
    assert 0 < half.sum() < own[:, 2].sum() and lab.steps(specs[0]["FE"]) == 2 * -(-half.sum() // 8)
    teacher = keep_teacher(cross_fit(halves, own=own, fold=fold), tmp_path / "crossed.parquet")
    post = ids[np.flatnonzero(half)[0]]
    judged, other = (one.set_index("post_id").loc[post, "logit_FE"] for one in halves)
    assert teacher.logits([post], ["FE"])[0, 0] == other != judged
    assert RunSpec.from_json(lab.train(specs[1]["FE"]).record["inputs"]["spec"]) == specs[1]["FE"]

def test_a_student_learns_from_hard_labels_and_a_router_can_be_the_teacher(posts, checkpoints, tmp_path):
    lab = Lab(posts, Cache(tmp_path / "cache"), checkpoints=str(checkpoints), bar=no_bar)
    spec = RunSpec("SigLIP2", posts.categories, RECIPE, 4, 8)
    router = lab.train(spec)
    said = soft_labels(lab, dict.fromkeys(posts.categories, router), splits=["train"], path=tmp_path / "self.parquet")
    scores = soft_labels(lab, dict.fromkeys(posts.categories, router), splits=["test"], path=tmp_path / "test.parquet")
    pd.testing.assert_frame_equal(scores, router.scores().query("split == 'test'").reset_index(drop=True))
    hard = keep_teacher(harden(said), tmp_path / "hard.parquet")
    history = lab.train(spec.with_recipe(lam=1.0, epochs=6), teacher=hard).history
    assert history.steps[-1]["loss"] < history.steps[0]["loss"]


@pytest.mark.parametrize("fold", [(2, 2), (-1, 2), (0, 0)])
def test_a_fold_that_is_none_is_refused(fold):
    with pytest.raises(RadarError, match="fold"):
        RunSpec("SigLIP2", ("A",), RECIPE, fold=fold)
