"""What a group of processes shows together, how its files are read and written, and what a fork inherits."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.semconv._incubating.metrics import process_metrics

from amm_exporter.errors import AMMError
from amm_exporter.export.exposition import Buckets, Family
from amm_exporter.export.family import FamilyMember
from amm_exporter.export.family_directory import FamilyError, family_directory, locked
from amm_exporter.export.forks import begin_anew, observables, remake_locks
from amm_exporter.export.group import Baseline, Worker, add_to, counts_anything, plus, together
from amm_exporter.export.loop import Loop
from amm_exporter.export.names import METRICS
from amm_exporter.export.reader import AMMMetricReader
from amm_exporter.export.snapshot import Book, Snapshot, dump_book, dump_snapshot, load_book, load_snapshot
from amm_exporter.export.translate import prometheus_name


def counter(name: str, value: float, **labels: str) -> Family:
    return Family(name, "counter", "help", "", {tuple(sorted(labels.items())): value})


def gauge(name: str, value: float) -> Family:
    return Family(name, "gauge", "help", "", {(): value})


def shown(families: list[Family]) -> dict[str, dict]:
    return {family.name: family.series for family in families}


def pair(*families_of_each: list[Family], exited: dict | None = None, labelled: bool = True) -> dict[str, dict]:
    workers = [Worker(pid=pid, families=tuple(families)) for pid, families in enumerate(families_of_each, start=1)]
    return shown(together(workers, exited or {}, 0, labelled=labelled))


def test_an_application_counter_is_one_series_over_all_workers():
    assert pair([counter("hits", 3, path="/")], [counter("hits", 4, path="/")])["hits"] == {(("path", "/"),): 7}


def test_a_gauge_is_shown_for_each_worker():
    assert pair([gauge("queue", 3)], [gauge("queue", 4)])["queue"] == {
        (("process_pid", "1"),): 3,
        (("process_pid", "2"),): 4,
    }


def test_a_counter_of_the_process_is_shown_for_each_worker_and_summed_under_another_name():
    series = pair([counter("cpython_gc_collections", 3)], [counter("cpython_gc_collections", 4)])
    assert series["cpython_gc_collections"] == {(("process_pid", "1"),): 3, (("process_pid", "2"),): 4}
    assert series["amm_group_cpython_gc_collections"] == {(): 7}


@pytest.mark.parametrize("name", ["process_payments", "process_orders_done"])
def test_what_an_application_processes_is_its_own_counter(name):
    """Not the process's: it outlives its workers, and a forked child has inherited what its parent counted."""
    assert pair([counter(name, 3)], [counter(name, 4)])[name] == {(): 7}
    assert Baseline([counter(name, 50)], [name]).take_off([counter(name, 51)])[0].series == {(): 1}


def test_every_counter_of_a_process_by_the_conventions_is_shown_for_each_worker():
    names = [value for name, value in vars(process_metrics).items() if name.startswith("PROCESS_")]
    assert len(names) > 10
    for name in (*names, *METRICS):
        translated = prometheus_name(name)
        assert pair([counter(translated, 1)])[translated] == {(("process_pid", "1"),): 1}


def test_what_describes_the_machine_is_not_summed():
    series = pair([counter("amm_memory_pressure_stall_seconds", 3)], [counter("amm_memory_pressure_stall_seconds", 3)])
    assert not [name for name in series if name.startswith("amm_group") and "stall" in name]


def test_no_metric_has_both_a_sum_and_its_parts_under_one_name():
    names = ("hits", "cpython_gc_collections", "amm_cache_requests", "process_paging_faults")
    for series in pair(*[[counter(name, 1) for name in names]] * 2).values():
        labelled = [any(key == "process_pid" for key, _ in labels) for labels in series]
        assert all(labelled) or not any(labelled)


def test_the_dead_stay_in_the_sums():
    exited: dict = {}
    add_to(exited, [counter("hits", 5), gauge("queue", 9)])
    assert pair([counter("hits", 1)], exited=exited)["hits"] == {(): 6}
    assert "queue" not in exited


def test_a_process_left_alone_keeps_its_series_without_label():
    assert pair([gauge("queue", 3)], labelled=False)["queue"] == {(): 3}


def test_memory_is_what_proc_says_whatever_the_worker_said():
    worker = Worker(pid=7, families=(gauge("process_memory_usage_bytes", 1),), rss_bytes=500)
    series = shown(together([worker], {}, 0, labelled=True))
    assert series["process_memory_usage_bytes"] == {(("process_pid", "7"),): 500}
    assert series["amm_group_memory_usage_bytes"] == {(): 500}


def test_a_family_of_another_kind_under_the_same_name_does_not_mix():
    assert pair([counter("x", 1)], [gauge("x", 100)])["x"] in ({(): 1}, {(("process_pid", "2"),): 100})


def test_histograms_add_bucket_by_bucket():
    left, right = Buckets((1.0, 2.0), (1, 2, 3), 4.0), Buckets((1.0, 2.0), (10, 20, 30), 40.0)
    assert plus(left, right) == Buckets((1.0, 2.0), (11, 22, 33), 44.0)


def test_histograms_with_other_bounds_lose_no_observation():
    merged = plus(Buckets((1.0, 4.0), (1, 2, 3), 4.0), Buckets((2.0,), (10, 20), 40.0))
    assert merged == Buckets((1.0, 2.0, 4.0), (1, 10, 2, 23), 44.0)


def test_what_was_inherited_is_taken_off():
    baseline = Baseline([counter("cpython_gc_collections", 50)], ["cpython_gc_collections"])
    assert shown(baseline.take_off([counter("cpython_gc_collections", 53)]))["cpython_gc_collections"] == {(): 3}


def test_a_count_that_was_reset_is_the_childs_own():
    baseline = Baseline([counter("app", 50)], ["app"])
    values = [shown(baseline.take_off([counter("app", value)]))["app"][()] for value in (2, 60)]
    assert values == [2, 60]


def test_only_application_counters_make_a_short_life_worth_keeping():
    assert not counts_anything([counter("cpython_gc_collections", 5), gauge("queue", 3), counter("hits", 0)])
    assert counts_anything([counter("hits", 1)])


FAMILIES = (
    counter("hits", 3, path='"\n'),
    gauge("x", float("inf")),
    Family("h", "histogram", series={(): Buckets((1.0,), (1, 2), 3.5)}),
)


def test_a_snapshot_reads_as_it_was_written():
    snapshot = Snapshot(unix_seconds=1.5, families=FAMILIES)
    assert load_snapshot(dump_snapshot(snapshot)) == snapshot


def test_a_book_reads_as_it_was_written():
    book = Book(totals={family.name: family for family in FAMILIES}, exited_count=3, folded=["1-a"], labelled=True)
    assert load_book(dump_book(book)) == book


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"version":1}',
    b'{"version":2,"at":1,"families":[]}',
    b"\xff",
    b'{"version":1,"at":1,"families":[["x"]]}',
    b'{"version":1,"at":1,"families":[["x","counter","","",[[[],"y"]]]]}',
    b'{"version":1,"at":[],"families":[]}',
]


@pytest.mark.parametrize("data", DAMAGED)
def test_damaged_files_are_refused_in_one_way(data):
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        load_snapshot(data)
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        load_book(data)


# -- the directory


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "family"


def member(directory, clock=time.monotonic) -> FamilyMember:
    made = FamilyMember(directory, clock=clock)
    made.join()
    return made


def impatient(directory) -> FamilyMember:
    """Each look at its clock costs 0.15 s: it waits a quarter of the usual time for an answer that will not come."""
    return member(directory, itertools.count(step=0.15).__next__)


class Answering:
    """A member that answers from a thread, as a sibling process would."""

    def __init__(self, directory, families: list[Family]) -> None:
        self.member = member(directory)
        self.families = families
        self.member.socket.setblocking(True)
        self._sock = self.member.socket
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                message, asker = self._sock.recvfrom(64)
            except OSError:
                return
            if message == b"stop":
                return
            self.member.publish(self.families)
            self._sock.sendto(self.member.name.encode(), asker)

    def die(self) -> None:
        """Close as the kernel does for a killed process: the files stay."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"stop", self._sock.getsockname())
        self._thread.join()
        self.member.abandon()


def test_a_process_alone_is_no_group(directory):
    alone = member(directory)
    assert alone.gather([counter("hits", 1)]) is None
    alone.leave([])
    assert not directory.exists()


def test_a_sibling_is_asked_at_the_scrape(directory):
    serving, sibling = member(directory), Answering(directory, [counter("hits", 1)])
    sibling.families = [counter("hits", 5)]
    assert shown(serving.gather([counter("hits", 2)]))["hits"] == {(): 7}
    sibling.die()
    serving.leave([])


def test_a_sibling_that_does_not_answer_is_shown_as_it_last_was(directory):
    serving, stuck = impatient(directory), member(directory)
    stuck.publish([counter("hits", 5)])
    assert shown(serving.gather([counter("hits", 2)]))["hits"] == {(): 7}
    stuck.abandon()
    serving.leave([])


def test_the_sum_stands_when_a_sibling_is_killed_and_its_files_go(directory):
    serving, sibling = member(directory), Answering(directory, [counter("hits", 5)])
    serving.gather([counter("hits", 2)])
    sibling.die()
    after = shown(serving.gather([counter("hits", 2)]))
    assert after["hits"] == {(): 7}
    assert after["amm_group_exits"] == {(): 1}
    assert not list(directory.glob(f"{sibling.member.name}*"))
    serving.leave([])


def test_the_sum_stands_when_the_one_that_serves_is_killed(directory):
    first, second = member(directory), Answering(directory, [counter("hits", 5)])
    before = shown(first.gather([counter("hits", 2)]))["hits"]
    first.abandon()
    after = shown(second.member.gather([counter("hits", 5)]))["hits"]
    assert before == after == {(): 7}
    second.die()


def test_who_leaves_in_order_hands_over_what_it_counted(directory):
    serving, sibling = member(directory), member(directory)
    sibling.leave([counter("hits", 4)])
    assert shown(serving.gather([counter("hits", 1)]))["hits"] == {(): 5}
    serving.leave([])


def test_a_scrape_while_somebody_leaves_counts_nobody_twice(directory):
    serving = impatient(directory)
    due = []

    def clock() -> float:  # asked just before the lock is taken
        if due:
            due.pop()()
        return time.monotonic()

    sibling = FamilyMember(directory, clock=clock)
    sibling.join()
    sibling.publish([counter("hits", 4)])
    due.append(lambda: serving.gather([counter("hits", 1)]))
    sibling.leave([counter("hits", 4)])
    after = shown(serving.gather([counter("hits", 1)]))
    assert (due, after["hits"], after["amm_group_exits"]) == ([], {(): 5}, {(): 1})
    serving.leave([])


def test_a_crash_between_the_book_and_the_files_counts_nobody_twice(directory):
    serving, sibling = member(directory), Answering(directory, [counter("hits", 5)])
    serving.gather([counter("hits", 2)])
    sibling.die()
    kept = {path: path.read_bytes() for path in directory.glob(f"{sibling.member.name}.snap")}
    serving.gather([counter("hits", 2)])
    for path, data in kept.items():
        path.write_bytes(data)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(directory / f"{sibling.member.name}.sock"))
    assert shown(serving.gather([counter("hits", 2)]))["hits"] == {(): 7}
    serving.leave([])


def test_a_new_family_does_not_inherit_the_sums_of_a_killed_one(directory):
    first, second = member(directory), Answering(directory, [counter("hits", 5)])
    first.gather([counter("hits", 2)])
    first.abandon()
    second.die()
    fresh = member(directory)
    assert fresh.gather([counter("hits", 1)]) is None
    fresh.leave([])


def test_a_damaged_snapshot_costs_only_itself(directory, caplog):
    serving, sibling = impatient(directory), member(directory)
    (directory / f"{sibling.name}.snap").write_bytes(b"{")
    assert shown(serving.gather([counter("hits", 1)]))["hits"] == {(): 1}
    assert sibling.name in caplog.text
    sibling.leave([])
    serving.leave([])


def test_a_first_member_clears_away_families_that_were_killed(tmp_path):
    killed = member(tmp_path / "a")
    killed.abandon()
    living = member(tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b"]
    again = member(tmp_path / "c")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
    living.leave([])
    again.leave([])


def test_a_lock_that_is_never_released_is_an_error_and_no_hang(directory):
    ticks = iter(range(100))
    with locked(directory), pytest.raises(FamilyError, match="held"), locked(directory, clock=lambda: next(ticks)):
        pass


def test_the_directory_is_private_and_named_by_the_address(tmp_path):
    path = family_directory("::1", 9464, {"XDG_RUNTIME_DIR": str(tmp_path)}, proc=tmp_path)
    assert path == tmp_path / "amm-exporter" / "__1-9464"
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("other", ["pid", "net"])
def test_containers_that_share_a_directory_but_not_their_pids_or_ports_are_no_family(tmp_path, other):
    folder = tmp_path / "self" / "ns"
    folder.mkdir(parents=True)
    for kind in ("pid", "net", "of another container"):
        (folder / kind).touch()

    def found():
        return family_directory("localhost", 9464, proc=tmp_path)

    first = found()
    assert found() == first
    (folder / "of another container").replace(folder / other)
    second = found()
    assert second != first
    first.rmdir()
    second.rmdir()


def test_a_directory_that_others_can_enter_is_not_used(tmp_path):
    (tmp_path / "amm-exporter").mkdir(mode=0o755)
    (tmp_path / "amm-exporter").chmod(0o755)
    assert tmp_path not in family_directory("localhost", 9464, {"XDG_RUNTIME_DIR": str(tmp_path)}).parents


def test_a_directory_behind_a_link_is_not_used(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "amm-exporter").symlink_to(tmp_path / "elsewhere")
    assert tmp_path not in family_directory("localhost", 9464, {"XDG_RUNTIME_DIR": str(tmp_path)}).parents


# -- the SDK in a forked child


@pytest.fixture
def forked():
    reader = AMMMetricReader(serve=False)
    provider = MeterProvider(metric_readers=[reader])
    yield reader, provider
    provider.shutdown()


def test_counters_begin_at_zero_and_go_on_counting(forked):
    reader, provider = forked
    counting = provider.get_meter("tests").create_counter("hits")
    counting.add(50)
    reader.render()
    begin_anew(reader._collect.__self__, reader)
    counting.add(2)
    assert "hits_total 2\n" in reader.render()[1].decode()


def test_locks_that_were_held_at_the_fork_are_free(forked):
    reader, provider = forked
    counting = provider.get_meter("tests").create_counter("hits")
    counting.add(1)
    consumer = reader._collect.__self__
    storage = consumer._reader_storages[reader]
    matches = [match for found in storage._instrument_view_instrument_matches.values() for match in found]
    held = [consumer, storage, *matches, *[one for match in matches for one in match._attributes_aggregation.values()]]
    for owner in held:
        owner._lock.acquire()
    remake_locks(consumer)
    counting.add(1)
    reader.render()
    assert len(held) >= 4
    assert all(owner._lock.acquire(blocking=False) for owner in held)


def test_observables_are_told_apart(forked):
    reader, provider = forked
    provider.get_meter("tests").create_observable_counter("seen", unit="By", callbacks=[lambda _options: []])
    provider.get_meter("tests").create_counter("hits")
    assert observables(reader._collect.__self__) == [("seen", "By")]


def test_a_stranger_on_the_port_is_told_apart_from_a_sibling(caplog):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        reader = AMMMetricReader("127.0.0.1", stranger.getsockname()[1])
        assert reader.address is None
    assert "in use by another program" in caplog.text


WITHOUT_DESCRIPTORS = """
import os, resource
from amm_exporter.export.reader import AMMMetricReader
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(6):
    reader = AMMMetricReader("127.0.0.1", 0)
    reader.shutdown()
    os.close(held.pop())
print("started")
"""


def test_a_program_starts_however_few_descriptors_are_left():
    found = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT_DESCRIPTORS], capture_output=True, text=True)
    assert found.stdout == "started\n"
    assert "metrics are not served" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_second_reader_on_the_address_is_a_sibling(caplog):
    first = AMMMetricReader("127.0.0.1", 0)
    second = AMMMetricReader(*first.address)
    assert second.address == first.address
    assert not caplog.records
    second.shutdown()
    first.shutdown()


def test_the_sum_stands_when_nothing_can_be_written_any_more(directory, caplog):
    serving, sibling = member(directory), Answering(directory, [counter("hits", 5)])
    other = Answering(directory, [counter("hits", 1)])
    assert shown(serving.gather([counter("hits", 2)]))["hits"] == {(): 8}
    in_the_way = [directory / f"{name}.tmp" for name in (serving.name, "book")]
    for path in in_the_way:
        path.mkdir()
    assert shown(serving.gather([counter("hits", 3)]))["hits"] == {(): 9}
    sibling.die()
    for _ in range(2):
        after = shown(serving.gather([counter("hits", 4)]))
        assert (after["hits"], after["amm_group_exits"]) == ({(): 10}, {(): 1})
    assert len(caplog.records) == 1
    for path in in_the_way:
        path.rmdir()
    other.die()
    serving.leave([])


def test_where_nothing_can_be_written_it_is_told_once_and_each_scrape_shows_what_it_can(caplog):
    first = AMMMetricReader("127.0.0.1", 0)
    second = AMMMetricReader(*first.address)
    directory = family_directory(*first.address)
    for entry in directory.glob("*.sock"):
        entry.with_suffix(".tmp").mkdir()  # in the way of what is to be written
    answers = [first.render() for _ in range(10)]
    assert all(b"\namm_group_processes 2\n" in text for _, text in answers)
    assert "Traceback" not in caplog.text
    assert 2 <= caplog.text.count("cannot write") <= 4  # of each its numbers, and of who serves the sums
    for entry in directory.glob("*.tmp"):
        entry.rmdir()
    second.shutdown()
    first.shutdown()


def test_a_thread_that_ends_under_another_number_ends_in_silence(monkeypatch):
    """As where gevent patches threading after it has started."""
    loop = Loop()
    loop.start()
    loop.call(lambda: monkeypatch.setattr(threading, "get_ident", lambda: -1))
    loop.close()
    monkeypatch.undo()
    assert not loop._thread.is_alive()
    del threading._active[loop._thread.ident]  # else it counts as alive for the tests that follow


def test_shutting_down_leaves_no_thread_descriptor_or_file():
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    readers = [AMMMetricReader("127.0.0.1", 0)]
    directory = family_directory(*readers[0].address)
    readers.append(AMMMetricReader(*readers[0].address))
    for reader in readers:
        reader.shutdown()
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
    assert not directory.exists()


def test_a_directory_left_by_who_was_killed_before_it_could_lock_it_goes_too(tmp_path):
    for name in ("localhost-9464", "evidence"):
        (tmp_path / name).mkdir()
    first = member(tmp_path / "localhost-9465")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evidence", "localhost-9465"]
    first.leave([])


def test_errors_of_a_family_are_errors_of_amm():
    assert issubclass(FamilyError, AMMError)
