"""Batches, their shares and their weights: however a batch is cut, its gradient is the same."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radar_lib.losses import radar_loss, unmasked_bce
from radar_lib.training.batches import ahead, epoch_batches, micro_batches


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_an_epoch_sees_each_post_once(n, batch_size, seed, epoch):
    lengths = np.random.default_rng(n).integers(1, 80, n)
    batches = epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches).tolist()) == list(range(n))
    assert max(map(len, batches)) <= batch_size
    again = epoch_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))


def test_batches_hold_posts_of_similar_length_and_epochs_differ():
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    batches = epoch_batches(lengths, batch_size=16, seed=1, epoch=0)
    padding = sum(lengths[b].max() * len(b) - lengths[b].sum() for b in batches) / lengths.sum()
    assert padding < 0.1
    assert not np.array_equal(batches[0], epoch_batches(lengths, batch_size=16, seed=1, epoch=1)[0])


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 23), st.integers(1, 4), st.integers(1, 5), st.sampled_from(["masked", "distilled", "unmasked"]),
    st.integers(0, 99),
)  # fmt: skip
def test_micro_batches_and_processes_give_the_gradient_of_the_whole_batch(n, processes, accumulate, objective, seed):
    random = np.random.default_rng(seed)
    x = torch.from_numpy(random.normal(size=(n, 4)))
    labels = torch.from_numpy(random.integers(-1, 2, (n, 3)))  # rows with no, one or three verified cells
    guide = torch.from_numpy(random.normal(size=(n, 3)))
    start = torch.from_numpy(random.normal(size=(4, 3)))

    def gradient(cut):
        weights = start.clone().requires_grad_(True)
        total = 0.0
        for posts, weight in cut:
            logits = x[posts] @ weights
            if objective == "unmasked":
                loss = weight * unmasked_bce(logits, labels[posts])
            else:
                loss = weight * radar_loss(logits, labels[posts], guide[posts], lam=0.5 * (objective == "distilled"))
            loss.backward()
            total += loss.item()
        return weights.grad, total

    whole, loss = gradient([(np.arange(n), 1.0)])
    shares = [micro_batches(np.arange(n), process=p, processes=processes, accumulate=accumulate)
              for p in range(processes)]  # fmt: skip
    found = [gradient(share) for share in shares]
    assert torch.allclose(torch.stack([g for g, _ in found]).mean(0), whole, rtol=0, atol=1e-12)
    assert np.mean([value for _, value in found]) == pytest.approx(loss, abs=1e-12)
    read = [post for share in shares for posts, weight in share if weight for post in posts.tolist()]
    assert sorted(read) == list(range(n)) and all(len(share) <= -(-accumulate // processes) for share in shares)


def test_items_are_made_ahead_in_order_by_another_thread():
    made, threads = [], set()

    def source():
        for i in range(5):
            made.append(i)
            threads.add(threading.get_ident())
            yield i

    assert list(ahead(source())) == [0, 1, 2, 3, 4]
    assert threading.get_ident() not in threads
    assert next(ahead(iter([7, 8]))) == 7


def test_what_fails_in_the_thread_fails_here():
    def source():
        yield 1
        raise ValueError("a broken frame")

    with pytest.raises(ValueError, match="a broken frame"):
        list(ahead(source()))
