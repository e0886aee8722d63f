"""Data sets by index, the order of the training stream, and the loader."""

import dataclasses
import hashlib
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from autoguide_jax import contracts, schema
from autoguide_jax.data import batches, indices, open_dataset, table
from autoguide_jax.data.order import in_turns, permutation


def test_digits_are_the_known_images():
    """1797 digits; the first is a zero whose grey levels are sklearn's, times 255/16, rounded."""
    digits = open_dataset('digits')
    assert isinstance(digits, contracts.Dataset)
    assert (digits.num_images, digits.resolution, digits.channels) == (1797, 8, 1)
    assert digits.num_classes == 10 and digits.labels.dtype == np.int32
    assert digits.labels[:10].tolist() == list(range(10))
    first = digits.images([0])
    assert first.shape == (1, 8, 8, 1) and first.dtype == np.uint8
    assert first[0, 0, :, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert digits.images(np.arange(1797)).max() == 255


def test_labels_false_hides_them():
    hidden = open_dataset('digits', labels=False)
    assert hidden.labels is None and hidden.num_classes == 0
    images, labels = hidden.examples([5, 3])
    assert labels.tolist() == [-1, -1]
    np.testing.assert_array_equal(images, open_dataset('digits').images([5, 3]))
    assert hidden.fingerprint != open_dataset('digits').fingerprint


def test_max_images_is_a_fixed_nested_subset():
    """The first 50 of a subset of 100 are the subset of 50; labels follow their images."""
    full = open_dataset('digits')
    small, large = (open_dataset('digits', max_images=n) for n in (50, 100))
    assert (small.num_images, len(small.labels)) == (50, 50)
    np.testing.assert_array_equal(small.images(range(50)), large.images(range(50)))
    key = {full.images([i]).tobytes(): full.labels[i] for i in range(full.num_images)}
    found = [key[image.tobytes()] for image in large.images(range(100))]
    assert found == large.labels.tolist() and len(set(found)) == 10
    prints = [d.fingerprint for d in (full, small, large)]
    assert len(set(prints)) == 3 and prints[1] == open_dataset('digits', max_images=50).fingerprint


def test_settings_survive_pickle_and_replace():
    hidden = open_dataset('digits', labels=False, max_images=7)
    for copy in (pickle.loads(pickle.dumps(hidden)), dataclasses.replace(hidden)):
        assert (copy.num_images, copy.labels, copy.fingerprint) == (7, None, hidden.fingerprint)
    shown = dataclasses.replace(hidden, labels=True)
    assert len(shown.labels) == 7
    assert len(pickle.loads(pickle.dumps(shown)).labels) == 7


@pytest.mark.parametrize(
    ('name', 'settings', 'message'),
    [
        ('digit', {}, "data: unknown name 'digit'. Did you mean 'digits'?"),
        ('digits', {'label': 1}, "data.label: unknown setting of digits. Did you mean 'labels'?"),
        ('folder', {}, 'data.path: required by folder'),
        ('digits', {'max_images': 1798}, r'max_images \(1798\) must be in 0…1797'),
        ('digits', {'max_images': -1}, r'max_images \(-1\) must be in 0…1797'),
    ],
)
def test_wrong_settings_are_named(name, settings, message):
    with pytest.raises(ValueError, match=message):
        open_dataset(name, **settings)


@pytest.mark.parametrize('wrong', [[1797], [-1], [0, 5000]])
def test_indices_out_of_range_are_refused(wrong):
    with pytest.raises(IndexError, match='0…1796'):
        open_dataset('digits').images(wrong)


def test_every_data_set_explains_its_settings():
    """Each field has a type for the command line and a meaning in the docstrings."""
    for name in table.names():
        known = schema.component_fields(table.get(name))
        assert known.keys() <= schema.meanings(table.get(name)).keys()
        assert {f.kind for f in known.values()} <= {bool, int, str}
        assert name == 'toy' or known['labels'].default is True


def test_order_is_this_order_for_ever():
    """Frozen values: a run started today and resumed in years sees the same images."""
    assert indices(0, 0, 10, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    far = indices(7, 2**31 + 5, 60_000, 50_000)
    assert hashlib.sha256(far.tobytes()).hexdigest()[:16] == 'cbde32a35397ee34'


def test_every_epoch_shows_each_image_once_in_a_new_order():
    stream = indices(3, 0, 4 * 97, 97).reshape(4, 97)
    assert stream.dtype == np.int64
    for epoch in stream:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(97))
    orders = {tuple(epoch) for epoch in stream} | {tuple(indices(4, 0, 97, 97))}
    assert len(orders) == 5


def test_classes_take_turns_as_long_as_they_last():
    labels = np.random.default_rng(0).choice(4, 100, p=[0.1, 0.2, 0.3, 0.4])
    order = permutation(3, 0, 100)
    found = in_turns(order, labels)
    assert sorted(found) == list(range(100))
    counts = np.bincount(labels)
    for taken in (1, 7, 4 * counts.min(), 60, 100):
        seen = np.bincount(labels[found[:taken]], minlength=4)
        most = seen.max()
        # Every class has as many as the one with most, or one less, or all that there are.
        assert ((seen >= most - 1) | (seen == counts)).all()
    for label in range(4):
        mine = lambda chosen, label=label: [i for i in chosen if labels[i] == label]
        assert mine(found) == mine(order)


@pytest.mark.parametrize('start', [0, 90, 2**31 - 13, 2**40 + 3])
def test_order_does_not_depend_on_how_it_is_asked_for(start):
    """One range equals any split of it, across epochs and beyond 2³¹ images."""
    whole = indices(5, start, 250, 97)
    for size in (1, 7, 125):
        parts = [indices(5, start + i, size, 97) for i in range(0, 250 - size + 1, size)]
        joined = np.concatenate(parts)
        np.testing.assert_array_equal(joined, whole[: len(joined)])


def test_places_in_the_epoch_are_uniform():
    """An image stands in each tenth of an epoch as often as chance has it (χ², 9 d.o.f.)."""
    places = [int(np.flatnonzero(indices(0, e * 100, 100, 100) == 17)[0]) for e in range(2000)]
    counts = np.bincount(np.array(places) // 10, minlength=10)
    assert ((counts - 200) ** 2 / 200).sum() < 27.9


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        ((0, 0, 1, 0), 'num_images'),
        ((0, -1, 1, 5), r'nimg \(-1\)'),
        ((-3, 0, 1, 5), r'seed \(-3\)'),
        ((2**64, 0, 1, 5), 'seed'),
    ],
)
def test_order_refuses_nonsense(args, message):
    with pytest.raises(ValueError, match=message):
        indices(*args)


def take(count, *args, **settings):
    with batches(open_dataset('digits', max_images=100), *args, **settings) as stream:
        return [next(stream) for _ in range(count)]


def equal(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right):
        np.testing.assert_array_equal(a['image'], b['image'])
        np.testing.assert_array_equal(a['label'], b['label'])


@pytest.mark.parametrize('start', [0, 2**31 - 24])
def test_batches_do_not_depend_on_workers_or_processes(start):
    whole = take(12, 1, start, 24, workers=0)
    assert whole[0]['image'].shape == (24, 8, 8, 1) and whole[0]['label'].dtype == np.int32
    equal(take(12, 1, start, 24, workers=3, prefetch=2), whole)
    for count in (2, 3):
        own = [np.arange(24)[p::count] for p in range(count)]
        for rows in own:
            parts = [{k: v[rows] for k, v in batch.items()} for batch in whole]
            equal(take(12, 1, start, 24, rows=rows), parts)


def test_resuming_in_mid_epoch_continues_the_stream():
    whole = take(10, 2, 0, 24)
    equal(take(4, 2, 6 * 24, 24), whole[6:])


@pytest.mark.parametrize('start', [48, 2**31 - 24])
def test_batches_carry_the_images_of_the_order(start):
    data = open_dataset('digits', max_images=100)
    for k, batch in enumerate(take(6, 9, start, 24)):
        rows = indices(9, start + 24 * k, 24, 100)
        np.testing.assert_array_equal(batch['image'], data.images(rows))
        np.testing.assert_array_equal(batch['label'], data.labels[rows])


def data_threads():
    return [t for t in threading.enumerate() if t.name.startswith('data')]


def test_close_ends_the_threads_and_the_stream():
    stream = batches(open_dataset('digits'), 0, 0, 8, workers=3)
    next(stream)
    assert data_threads()
    stream.close()
    stream.close()
    assert not data_threads() and list(stream) == []


def test_a_stream_that_nobody_asks_starts_no_thread():
    batches(open_dataset('digits'), 0, 0, 8, workers=3)
    assert not data_threads()


def test_a_forgotten_stream_leaves_no_thread():
    stream = batches(open_dataset('digits'), 0, 0, 8, workers=2)
    next(stream)
    threads = data_threads()
    del stream
    for thread in threads:
        thread.join(timeout=30)
    assert threads and not data_threads()


class Broken:
    """A data set whose third batch cannot be read; it counts what was asked of it."""

    num_images = 64

    def __init__(self):
        self.asked = 0

    def examples(self, rows):
        self.asked += 1
        if self.asked == 3:
            raise ValueError('image 17 is damaged')
        return np.zeros((len(rows), 1, 1, 1), np.uint8), np.zeros(len(rows), np.int32)


@pytest.mark.parametrize('workers', [0, 1])
def test_errors_arrive_with_their_batch_and_end_the_threads(workers):
    stream = batches(Broken(), 0, 0, 8, workers=workers)
    next(stream), next(stream)
    with pytest.raises(ValueError, match='image 17 is damaged'):
        next(stream)
    assert not data_threads()
    with pytest.raises(StopIteration):
        next(stream)


def test_reading_ahead_is_bounded():
    data = Broken()
    data.asked = 3
    with batches(data, 0, 0, 8, workers=2, prefetch=5) as stream:
        for _ in range(4):
            next(stream)
    assert 4 <= data.asked - 3 <= 4 + 5


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'batch_size': 0}, r'batch_size \(0\)'),
        ({'batch_size': 8, 'rows': [7, 8]}, r'rows \(\[7 8\]\)'),
        ({'batch_size': 8, 'workers': -1}, r'workers \(-1\)'),
        ({'batch_size': 8, 'nimg': -8}, r'nimg \(-8\)'),
    ],
)
def test_loader_refuses_before_reading(settings, message):
    with pytest.raises(ValueError, match=message):
        batches(open_dataset('digits'), **{'seed': 0, 'nimg': 0, **settings})


def test_the_room_costs_nothing_until_it_is_used():
    """Importing it loads neither TFDS nor scikit-learn; using digits loads no TensorFlow."""
    code = (
        'import sys, autoguide_jax.data as d\n'
        'heavy = {"tensorflow", "torch", "sklearn", "tensorflow_datasets", "PIL"}\n'
        'assert not heavy & set(sys.modules), heavy & set(sys.modules)\n'
        'with d.batches(d.open_dataset("digits"), 0, 0, 8) as b: next(b)\n'
        'assert not {"tensorflow", "torch", "tensorflow_datasets"} & set(sys.modules)\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
