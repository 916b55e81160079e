"""Threads side by side: order kept, a failure stops what has not begun, nothing is shared while in use."""

import threading

import pytest

from fdp_core.retrieval import workers


@pytest.mark.parametrize("count", [1, 3, 20])
def test_results_come_in_order(count):
    assert list(workers.in_order(lambda n: n * n, range(50), count)) == [n * n for n in range(50)]


def test_nothing_of_nothing():
    assert list(workers.in_order(lambda n: n, [], 2)) == []


@pytest.mark.parametrize("stopped_by", ["function", "reader"])
def test_a_failure_leaves_the_rest_alone(stopped_by):
    begun, gate = [], threading.Event()

    def work(n):
        begun.append(n)
        if n == 0 and stopped_by == "function":
            raise ValueError("broken")
        if n > 0:
            gate.wait(5)
        return n

    with pytest.raises(ValueError, match="broken"):
        for _ in workers.in_order(work, range(100), 1):
            gate.set()
            raise ValueError("broken")
    gate.set()
    assert len(begun) < 100


def test_what_is_lent_belongs_to_one_thread():
    made = []
    spare = workers.Spare(lambda: made.append(object()) or made[-1])
    with spare.lend() as one, spare.lend() as other:
        assert one is not other
    with spare.lend() as again:
        assert again in made and len(made) == 2, "what came back is lent again"


def test_what_failed_does_not_come_back():
    first = object()
    spare = workers.Spare(object, [first])
    with pytest.raises(ValueError), spare.lend() as thing:
        assert thing is first
        raise ValueError
    with spare.lend() as thing:
        assert thing is not first


def test_a_folder_has_one_owner(tmp_path):
    with workers.only_owner(tmp_path / "run"), workers.only_owner(None):
        with pytest.raises(workers.FolderInUse, match="Another process is working in .*run. Wait"):
            with workers.only_owner(tmp_path / "run"):
                pass
    with workers.only_owner(tmp_path / "run"):
        pass
