from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from contrastok.data_gen.reservoir import BottomK, keyed_hash, keyed_uniform

OFFERS = st.lists(st.tuples(st.integers(0, 20), st.text(max_size=2)))


def sample(k: int, offers: list[tuple[int, str]]) -> list[str]:
    kept: BottomK[str] = BottomK(k)
    for priority, item in offers:
        kept.offer(priority, item)
    return kept.items()


@given(offers=OFFERS, k=st.integers(0, 6), random=st.randoms())
def test_the_order_does_not_matter(offers: list[tuple[int, str]], k: int, random: object) -> None:
    shuffled = list(offers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert sample(k, offers) == sample(k, shuffled)


@given(offers=OFFERS, k=st.integers(0, 6))
def test_kept_are_the_smallest_hashes_and_of_each_the_smallest_item(offers: list[tuple[int, str]], k: int) -> None:
    smallest = sorted({priority for priority, _ in offers})[:k]
    assert sample(k, offers) == [min(item for p, item in offers if p == priority) for priority in smallest]


@given(offers=OFFERS, k=st.integers(1, 6), cut=st.integers(0, 10))
def test_the_samples_of_two_shards_hold_the_sample_of_both(offers: list[tuple[int, str]], k: int, cut: int) -> None:
    whole = sample(k, offers)
    assert set(whole) <= {*sample(k, offers[:cut]), *sample(k, offers[cut:])}


def test_every_item_has_the_same_chance() -> None:
    drawn: Counter[str] = Counter()
    for seed in range(2000):
        drawn.update(sample(3, [(keyed_hash(seed, str(i)), str(i)) for i in range(10)]))
    assert all(500 < drawn[str(i)] < 700 for i in range(10))  # 600 expected, standard deviation 20


def test_hashes_depend_on_every_part_and_the_seed() -> None:
    assert len({keyed_hash(0, "a", "b"), keyed_hash(1, "a", "b"), keyed_hash(0, "ab"), keyed_hash(0, "b", "a")}) == 4
    assert keyed_hash(0, "a", "b") == 1622366120732445836
    values = [keyed_uniform(0, str(i)) for i in range(1000)]
    assert all(0 <= value < 1 for value in values) and 0.45 < sum(values) / 1000 < 0.55
