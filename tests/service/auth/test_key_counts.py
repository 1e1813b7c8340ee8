"""What keys are counted by: rows of several processes, and no more names than there is room for."""

import multiprocessing

from service.auth.key_counts import MOST_NAMES, OTHERS, KeyCounts


def counted(counts: KeyCounts) -> dict[tuple[str, str], float]:
    """Everything that is exported."""
    return {
        (sample.labels["key"], sample.labels["decision"]): sample.value
        for family in counts.collect()
        for sample in family.samples
    }


def test_processes_count_into_rows_of_their_own_and_any_sees_the_sum() -> None:
    counts = KeyCounts(2)
    counts.add_names(["alice", "alice", "bob"])

    def ask() -> None:
        counts.attach(1)
        counts.count("alice", "admitted")
        counts.count("", "unknown")

    child = multiprocessing.get_context("fork").Process(target=ask)
    child.start()
    child.join()
    counts.attach(0)
    counts.count("alice", "admitted")
    counts.count("bob", "forbidden")
    assert counted(counts) == {("alice", "admitted"): 2, ("bob", "forbidden"): 1, ("", "unknown"): 1}


def test_a_name_keeps_its_count_when_others_come_and_go() -> None:
    counts = KeyCounts(1)
    counts.add_names(["alice"])
    counts.count("alice", "admitted")
    counts.add_names(["bob", "alice"])
    counts.count("bob", "admitted")
    assert counted(counts) == {("alice", "admitted"): 1, ("bob", "admitted"): 1}


def test_names_beyond_the_bound_share_one_series() -> None:
    counts = KeyCounts(1)
    names = [f"name-{i}" for i in range(2 * MOST_NAMES)]
    counts.add_names(names)
    for name in names:
        counts.count(name, "admitted")
    sums = counted(counts)
    assert len(sums) == MOST_NAMES - 1  # all but that of requests without a key
    assert sums[OTHERS, "admitted"] == len(names) - (MOST_NAMES - 2)
    assert sum(sums.values()) == len(names)
