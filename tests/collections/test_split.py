"""The paper's counts, exactly, or an error."""

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mrlift.collections.index import read_collection
from mrlift.collections.selection import select
from mrlift.collections.split import TEST, TRAIN, By, Candidate, Counts, paper_split
from mrlift.errors import InputError

GOLDEN = ("1.2.0.0", "1.2.0.2", "1.2.0.3", "1.2.10.0", "1.2.10.3", "1.2.10.5")


def collection(seed=0, patients=20, each=6):
    """Series of 18 to 27 slices: 8,798 images in 383 series are 23 on average."""
    rng = random.Random(seed)
    return [
        Candidate(f"1.2.{p}.{s}", f"PGBM-{p:03d}", rng.randint(18, 27))
        for p in range(patients)
        for s in range(each)
    ]


def counts(candidates, uids):
    chosen = [c for c in candidates if c.uid in uids]
    assert len(set(uids)) == len(uids)
    return Counts(len(chosen), sum(c.slices for c in chosen))


@pytest.mark.parametrize("by", By)
@given(st.integers(0, 2**31), st.integers(0, 2**31))
def test_counts_are_those_of_the_paper(by, seed, data):
    candidates = collection(data)
    split = paper_split(candidates, by, seed)
    assert counts(candidates, split.train) == TRAIN == Counts(24, 548)
    assert counts(candidates, split.test) == TEST == Counts(28, 646)
    assert not set(split.train) & set(split.test)
    patients = [
        {c.patient for c in candidates if c.uid in part} for part in (split.train, split.test)
    ]
    if by is By.patient:
        assert not patients[0] & patients[1]


def test_by_series_patients_are_on_both_sides():
    candidates = collection()
    split = paper_split(candidates, By.series)
    train, test = ({c.patient for c in candidates if c.uid in p} for p in (split.train, split.test))
    assert train & test


@pytest.mark.parametrize("by", By)
def test_the_seed_decides_and_the_order_does_not(by):
    candidates = collection()
    shuffled = random.Random(1).sample(candidates, len(candidates))
    assert paper_split(shuffled, by, 5) == paper_split(candidates, by, 5)
    assert len({paper_split(candidates, by, seed) for seed in range(10)}) == 10


def test_a_golden_choice():
    """What a seed chooses must not change between versions."""
    split = paper_split(collection(), By.patient, 0)
    assert split.train[:3] + split.test[:3] == GOLDEN


@given(
    st.lists(st.integers(1, 12), min_size=4, max_size=9),
    st.integers(1, 3),
    st.integers(1, 3),
    st.data(),
)
def test_what_is_found_is_right_and_what_cannot_be_is_an_error(sizes, first, second, data):
    """Against brute force on small collections, for each part alone."""
    from itertools import combinations

    candidates = [Candidate(f"1.{i}", f"P{i}", n) for i, n in enumerate(sizes)]
    assume(first + second <= len(sizes))
    train = Counts(first, data.draw(st.integers(first, 30)))
    test = Counts(second, data.draw(st.integers(second, 30)))

    def sums(k):
        return {sum(c.slices for c in chosen) for chosen in combinations(candidates, k)}

    if train.slices not in sums(first) or test.slices not in sums(second):
        with pytest.raises(InputError, match="no choice from"):
            paper_split(candidates, By.series, 0, train, test)
        return
    message = ""
    try:
        split = paper_split(candidates, By.series, 0, train, test)
    except InputError as error:
        message = str(error)
    if message:
        assert message.startswith("No split by series")
    else:
        assert counts(candidates, split.train) == train
        assert counts(candidates, split.test) == test


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ([], "no choice from 0 series"),
        (collection(patients=3), "Take more patients"),
        ([Candidate(f"1.{i}", f"P{i}", 23) for i in range(100)], "24 series with 548 slices"),
        ([Candidate(f"1.{i}", f"P{i}", 176) for i in range(100)], "have 4224 slices"),
    ],
)
def test_counts_that_cannot_be_reached(candidates, words):
    with pytest.raises(InputError, match=words):
        paper_split(candidates)


def test_one_patient_cannot_be_on_both_sides():
    candidates = [Candidate(c.uid, "P", c.slices) for c in collection()]
    with pytest.raises(InputError, match=r"No split by patient.*1 patients"):
        paper_split(candidates, By.patient)
    assert paper_split(candidates, By.series)


def test_a_real_collection_of_thin_series_reaches_the_counts():
    pytest.importorskip("idc_index_data", reason="needs the collections extra")
    chosen = select(read_collection("icdc_glioma")).series
    candidates = [Candidate(s.uid, s.patient, s.images) for s in chosen]
    split = paper_split(candidates)
    assert (counts(candidates, split.train), counts(candidates, split.test)) == (TRAIN, TEST)
