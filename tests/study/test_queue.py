"""The order of blocks, their division among workers, and what follows a failure."""

import pytest
import torch

from study.errors import StoreError
from study.experiments import AUTOENCODER, FEWSHOT
from study.faults import Fault, OtherCode, TrialFailed, failure_message, fault_of
from study.grid import override, plan
from study.packing.share import share_of
from study.queue import LARGEST_BATCH, Queue, Task, missing_tasks, split_evenly
from study.rates import Rates
from study.store import Block, DamagedBlock

DATA = "0123456789abcdef"


def autoencoders(count, replicates=2):
    axes = {"latent_dim": tuple(range(1, count + 1)), "depth": (2,), "batch_size": (64,)}
    return plan([override(AUTOENCODER, axes, {"replicates": replicates})], DATA)[0]


def family(encoders=0, classifiers=2):
    """An autoencoder and the three few-shot cells: `fixed` and `full` build on it."""
    axes = {"latent_dim": (2,), "depth": (2,)}
    fewshot = override(
        FEWSHOT,
        {**axes, "labels": (20,), "freeze": ("fixed", "full", "scratch")},
        {"replicates": classifiers, "encoders": encoders},
    )
    autoencoder = override(AUTOENCODER, {**axes, "batch_size": (64,)}, {"replicates": 2})
    groups = plan([autoencoder, fewshot], DATA)
    return [cell for cells in groups for cell in cells]


def take_one(queue):
    (task,) = queue.take(1)
    return task


# --- missing tasks ---------------------------------------------------------------------------


def test_task_has_all_replicates_that_a_cell_lacks():
    cells = autoencoders(3, replicates=20)
    finished = {cells[0].id: [range(4)], cells[1].id: [range(20)]}
    tasks = missing_tasks(cells, finished)
    assert [(t.cell, t.replicates) for t in tasks] == [
        (cells[0], range(4, 20)),
        (cells[2], range(20)),
    ]
    assert tasks[0].block == Block(cells[0].id, range(4, 20))


def test_begun_block_resumes_unchanged():
    (cell,) = autoencoders(1, replicates=8)
    checkpoints = {cell.id: [range(2, 6)]}
    tasks = missing_tasks([cell], {}, checkpoints)
    assert [task.replicates for task in tasks] == [range(2, 6), range(2), range(6, 8)]
    queue = Queue(tasks)
    assert sorted(len(queue.take(8)[0].replicates) for _ in range(5)) == [1, 1, 1, 1, 4]
    tasks = missing_tasks([cell], {cell.id: [range(3)]}, checkpoints)
    assert [task.replicates for task in tasks] == [range(3, 8)]  # part of it is there by now


def test_parts_are_of_nearly_equal_size():
    assert split_evenly(range(3, 13), 4) == [range(3, 5), range(5, 8), range(8, 10), range(10, 13)]
    assert split_evenly(range(2), 5) == [range(1), range(1, 2)]


# --- order -----------------------------------------------------------------------------------


def test_classifier_is_next_once_its_encoder_is_done():
    cells = [*family(), *autoencoders(9)[2:]]
    queue = Queue(missing_tasks(cells, {}))
    first, second = take_one(queue), take_one(queue)
    assert first.cell is cells[0]
    assert first.cell.experiment.name == "autoencoder"
    queue.finish(first, 100.0)
    following = [take_one(queue) for _ in range(3)]
    assert [task.cell.experiment.name for task in following] == [
        "fewshot",
        "fewshot",
        "autoencoder",
    ]
    assert second.cell.config["freeze"] == "scratch"


def test_classifiers_of_different_encoders_take_turns():
    axes = {"latent_dim": (2, 3), "depth": (2,)}
    fewshot = override(FEWSHOT, {**axes, "labels": (20, 40), "freeze": ("fixed",)}, {})
    autoencoder = override(AUTOENCODER, {**axes, "batch_size": (64,)}, {})
    classifiers = plan([autoencoder, fewshot], DATA)[1]
    queue = Queue(missing_tasks(classifiers, {}))
    found = [take_one(queue).cell.config for _ in range(4)]
    assert [(c["latent_dim"], c["labels"]) for c in found] == [(2, 20), (3, 20), (2, 40), (3, 40)]


def test_nothing_waits_for_a_finished_encoder():
    cells = family()
    queue = Queue(missing_tasks(cells, {cells[0].id: [range(2)]}))
    assert {take_one(queue).cell.config["freeze"] for _ in range(3)} == {"fixed", "full", "scratch"}


def test_block_waits_only_for_the_parent_parts_it_needs():
    """The encoder's four replicates are in two blocks; the first two classifiers' are done."""
    cells = family(classifiers=4)
    finished = {cell.id: [range(2)] for cell in cells[1:]}
    halves = [Task(cells[0], range(2)), Task(cells[0], range(2, 4))]
    queue = Queue(halves + missing_tasks(cells[1:], finished))
    first, second = halves
    assert first.children == []
    assert {task.cell.config["freeze"] for task in second.children} == {"fixed", "full"}
    assert queue.total == 5


def test_shared_encoders_are_few():
    cells = family(encoders=2, classifiers=8)
    assert cells[0].replicates == 2
    tasks = missing_tasks(cells, {})
    assert [len(task.replicates) for task in tasks] == [2, 8, 8, 8]
    Queue(tasks)
    assert [task.waits_for for task in tasks] == [0, 1, 1, 0]


# --- blocks divided among idle workers -------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "replicates", "workers", "blocks"),
    [(1, 8, 4, 4), (1, 2, 4, 2), (2, 8, 4, 4), (3, 8, 4, 6), (4, 8, 4, 4), (1, 8, 1, 1)],
)
def test_blocks_are_divided_for_idle_workers(cells, replicates, workers, blocks):
    queue = Queue(missing_tasks(autoencoders(cells, replicates), {}))
    while queue.take(workers):
        pass
    assert queue.total == len(queue.running) == blocks
    assert sum(len(task.replicates) for task in queue.running) == cells * replicates


@pytest.mark.parametrize(("workers", "blocks"), [(1, 1), (2, 2), (3, 2), (8, 4)])
def test_awaited_blocks_are_divided_among_all_workers(workers, blocks):
    """One encoder cell of four replicates, and 18 cells that build on it or on nothing. Its parts
    are taken first."""
    cells = family(classifiers=4) + autoencoders(18)[2:]
    queue = Queue(missing_tasks(cells, {}))
    taken = [queue.take(workers)[0].cell for _ in range(blocks + 1)]
    assert [cell is cells[0] for cell in taken] == [True] * blocks + [False]
    assert len([task for task in queue.left if task.cell is cells[0]]) == blocks


def two_block_queue(seconds, workers=2, replicates=40):
    """A queue whose last two blocks are `fixed` and `full`, expected to take 1 s and `seconds`."""
    cells = family(classifiers=replicates)[1:3]
    queue = Queue(missing_tasks(cells, {}))
    for cell, expected in zip(cells, (1.0, seconds), strict=True):
        for _ in range(20):
            queue.rates.observe(cell, replicates, expected)
    return queue


def take_all(queue, workers):
    """What idle workers take in turn: `fixed 40`, for a block of 40 replicates of `fixed`."""
    found = []
    while batch := queue.take(workers):
        found += [f"{task.cell.config['freeze']} {len(task.replicates)}" for task in batch]
    return found


def test_long_last_block_is_divided_among_idle_workers():
    """Seen: 310 replicates of `full` on one core of two."""
    queue = two_block_queue(400.0)
    assert take_all(queue, 2) == ["fixed 40", "full 20", "full 20"]
    assert queue.total == len(queue.left) == 3
    assert take_all(two_block_queue(400.0), 1) == ["fixed 40", "full 40"]
    assert take_all(two_block_queue(400.0), 4) == ["fixed 40", *["full 10"] * 4]


@pytest.mark.parametrize("known", ["nothing", "the encoder"])
def test_block_of_unknown_duration_is_divided_by_work(known):
    """Seen: 100 replicates of `full` on one core of two, in a study's first minutes."""
    cells = family(classifiers=40)
    queue = Queue(missing_tasks(cells[1:3], {}), rates=Rates(images=3600))
    if known == "the encoder":
        queue.rates.observe(cells[0], 40, 400.0)
    found = take_all(queue, 2)
    assert found[0] == "fixed 40"
    assert [name.split()[0] for name in found[1:]] == ["full"] * 2


def test_parts_of_a_block_are_not_too_short():
    assert take_all(two_block_queue(12.0), 4) == ["fixed 40", "full 40"]
    assert take_all(two_block_queue(32.0), 4) == ["fixed 40", "full 13", "full 13", "full 14"]


def test_equal_blocks_stay_whole():
    queue = Queue(missing_tasks(autoencoders(4, replicates=8), {}))
    queue.rates.observe(queue.left.copy().popitem()[0].cell, 8, 100.0)
    assert [len(queue.take(2)[0].replicates) for _ in range(4)] == [8] * 4


@pytest.mark.parametrize("replicates", [1, 2, 3])
def test_few_replicates_are_split_among_many_workers(replicates):
    queue = Queue(missing_tasks(autoencoders(1, replicates), {}))
    found = [len(batch[0].replicates) for batch in iter(lambda: queue.take(500), [])]
    assert found == [1] * replicates


def test_taking_a_task_is_not_linear_in_tasks(monkeypatch):
    """Counts how often seconds are asked for, with 1,000 tasks on 250 workers."""
    queue, count = Queue(missing_tasks(autoencoders(1000, replicates=8), {})), 0
    queue.rates.observe(next(iter(queue.left)).cell, 8, 100.0)
    expected = queue._expected

    def counting(task):
        nonlocal count
        count += 1
        return expected(task)

    monkeypatch.setattr(queue, "_expected", counting)
    while batch := queue.take(250):
        for task in batch:
            queue.finish(task)
    assert count < 60 * queue.total


def test_only_block_of_unknown_kind_is_divided():
    queue = Queue(missing_tasks(family(classifiers=8)[:2], {}))
    encoder = take_one(queue)
    assert encoder.replicates == range(8)
    queue.finish(encoder, 5.0)
    assert take_all(queue, 2) == ["fixed 4", "fixed 4"]


def test_newly_ready_blocks_are_counted_at_once():
    """30 classifiers of one encoder on ten workers: nobody is idle when it is done."""
    axes = {"latent_dim": (2,), "depth": (2,)}
    arms = {**axes, "labels": tuple(range(10, 310, 10)), "freeze": ("full",)}
    fewshot = override(FEWSHOT, arms, {"replicates": 8, "encoders": 1})
    autoencoder = override(AUTOENCODER, {**axes, "batch_size": (64,)}, {"replicates": 1})
    groups = plan([autoencoder, fewshot], DATA)
    cells = [cell for cells in (*groups, autoencoders(1, 8)) for cell in cells]
    queue = Queue(missing_tasks(cells, {}))
    for cell in cells:
        queue.rates.observe(cell, 8, 25.0 if cell is cells[-1] else 100.0)
    encoder, _ = take_one(queue), queue.take(10)
    queue.finish(encoder, 12.0)
    assert len(queue.take(10)[0].replicates) == 8


@pytest.mark.parametrize("why", [{"resumable": True}, {"losses": 1}])
def test_last_block_that_cannot_be_divided_stays_whole(why):
    queue = two_block_queue(400.0)
    for task in queue.left:
        vars(task).update(why)
    assert sorted(take_all(queue, 2)) == ["fixed 40", "full 40"]


@pytest.mark.parametrize(("gpus", "each", "parts"), [(1, 1, 1), (2, 1, 2), (1, 0.5, 2), (8, 1, 4)])
def test_block_on_gpus_is_divided_among_them(gpus, each, parts):
    """Not among the cores of their host, here four: replicates are cheapest together."""
    tasks = missing_tasks(autoencoders(1, replicates=40), {})
    tasks[0].gpus = each
    queue = Queue(tasks, gpus=gpus)
    while queue.take(4):
        pass
    assert queue.total == parts


def test_child_waits_for_all_parts_of_a_divided_block():
    cells = family(classifiers=8)[:2]
    queue = Queue(missing_tasks(cells, {}))
    queue.rates.observe(cells[0], 8, 100.0)
    first, second = queue.take(2)[0], queue.take(2)[0]
    assert [first.replicates, second.replicates] == [range(4), range(4, 8)]
    queue.finish(second, 50.0)
    assert queue.take(2) == []
    queue.finish(first, 50.0)
    assert queue.take(2)[0].cell is cells[1]


# --- several blocks a trial ------------------------------------------------------------------


def test_many_short_blocks_share_a_trial():
    queue = Queue(missing_tasks(autoencoders(400), {}))
    assert len(queue.take(2)) == 1  # nobody knows yet how long it takes
    for task in list(queue.running):
        queue.finish(task, 0.01)
    batch = queue.take(2)
    assert len(batch) == LARGEST_BATCH
    for task in batch:
        queue.finish(task, 0.01)
    assert len(queue.take(40)) == 349 // 80  # each worker gets two more trials at least


@pytest.mark.parametrize(("seconds", "together"), [(20.0, 1), (6.0, 1), (4.0, 2), (1.0, 10)])
def test_trial_of_short_blocks_takes_about_ten_seconds(seconds, together):
    queue = Queue(missing_tasks(autoencoders(400), {}))
    queue.finish(take_one(queue), seconds)
    assert len(queue.take(1)) == together


def test_block_that_was_lost_travels_alone():
    queue = Queue(missing_tasks(autoencoders(400), {}))
    queue.finish(take_one(queue), 0.01)
    lost = queue.take(1)[0]
    for _ in range(2):
        queue.retry(lost, Fault.LOST, "a")
        while lost not in (batch := queue.take(1)):
            assert batch
        assert batch == [lost]


def test_queue_work_scales_with_the_number_of_blocks():
    """Counts comparisons in a heap of 20,000 tasks, by a type that counts."""
    queue = Queue(missing_tasks(autoencoders(20_000), {}))
    count = 0

    class Counting(int):
        def __lt__(self, other):
            nonlocal count
            count += 1
            return int(self) < int(other)

    queue._ready = [(one, Counting(two), *others) for one, two, *others in queue._ready]
    taken = 0
    while batch := queue.take(4):
        for task in batch:
            taken += len(task.replicates)
            queue.finish(task, 100.0)
    assert taken == 40_000
    assert count < 20_000 * 60  # 2 log₂ 20,000 = 29 for a heap; 20,000 for a list


# --- failures --------------------------------------------------------------------------------


def attempts(task, fault):
    """(GPUs, replicates, whole host) of each try that one fault after another leads to."""
    queue, found = Queue([task]), []
    while True:
        taken = take_one(queue)
        found.append((taken.gpus, len(taken.replicates), taken.whole_host))
        if not queue.retry(taken, fault, "a"):
            return found


@pytest.mark.parametrize(
    ("trials", "next_ones"), [(8, [8, 4, 2, 1]), (7, [7, 3, 1]), (2, [2, 1]), (1, [1])]
)
def test_block_too_large_for_its_gpu_share_gets_double(trials, next_ones):
    (task,) = missing_tasks(autoencoders(1, replicates=1), {})
    task.gpus = share_of(trials)
    assert [gpus for gpus, _, _ in attempts(task, Fault.GPU_MEMORY)] == [
        share_of(number) for number in next_ones
    ]


def test_block_too_large_for_a_whole_gpu_is_divided():
    (task,) = missing_tasks(autoencoders(1, replicates=8), {})
    task.gpus = 1.0
    assert [count for _, count, _ in attempts(task, Fault.GPU_MEMORY)][:2] == [8, 4]
    queue = Queue(missing_tasks(family(), {}))
    parent = take_one(queue)
    parent.gpus = 1.0
    queue.retry(parent, Fault.GPU_MEMORY)
    parts = sorted((take_one(queue) for _ in range(3)), key=lambda t: t.cell.experiment.name)[:2]
    assert sorted(part.replicates.start for part in parts) == [0, 1]
    assert {child.waits_for for child in parent.children} == {2}  # for both halves
    for part in parts:
        queue.finish(part, 1.0)
    assert {take_one(queue).cell.config["freeze"] for _ in range(2)} == {"fixed", "full"}


def test_replicate_too_large_for_a_gpu_fails_saying_so():
    text = failure_message(Fault.GPU_MEMORY, "Traceback …", 1.0)
    assert text.splitlines()[-1] == (
        "OutOfMemoryError: one replicate doesn't fit a whole GPU; smaller --batch-sizes take less"
    )
    assert "2 GPUs" in failure_message(Fault.GPU_MEMORY, "", 2.0)
    assert failure_message(Fault.GPU_MEMORY, "no", 0.0) == "no"


def test_block_too_large_for_a_host_fails_saying_so():
    text = failure_message(Fault.HOST_MEMORY, "Traceback …", 0.0)
    assert text.splitlines()[-1] == (
        "OutOfMemoryError: the host's memory ran out in 4 tries, the last one alone; "
        "fewer --replicates or smaller --batch-sizes take less"
    )


def test_block_without_a_gpu_is_never_given_one():
    (task,) = missing_tasks(autoencoders(1, replicates=1), {})
    assert attempts(task, Fault.GPU_MEMORY) == [(0.0, 1, False)]


@pytest.mark.parametrize(
    ("fault", "alone"),
    [
        (Fault.LOST, [False, False, False, True]),
        (Fault.HOST_MEMORY, [False, False, True, True]),
        (Fault.OWN, [False]),
    ],
)
def test_fault_decides_the_number_of_tries(fault, alone):
    (task,) = missing_tasks(autoencoders(1), {})
    assert [how for _, _, how in attempts(task, fault)] == alone


def test_block_that_must_run_alone_waits_for_the_others():
    """One block on its last try doesn't slow the others."""
    queue = Queue(missing_tasks(autoencoders(4), {}))
    unlucky = take_one(queue)
    for _ in range(3):
        queue.retry(unlucky, Fault.LOST, "a")
        if not unlucky.whole_host:
            while take_one(queue) is not unlucky:
                pass
    queue = Queue(missing_tasks(autoencoders(4), {}))
    first = take_one(queue)
    first.losses = 2
    queue.retry(first, Fault.LOST, "a")
    order = [take_one(queue) for _ in range(4)]
    assert order[-1] is first


def test_children_of_a_failed_block_are_dropped():
    cells = family()
    queue = Queue(missing_tasks(cells, {}))
    parent = take_one(queue)
    assert parent.cell is cells[0]
    dropped = queue.drop(parent)
    assert {task.cell.config["freeze"] for task in dropped} == {"fixed", "full"}
    assert take_one(queue).cell.config["freeze"] == "scratch"
    assert queue.take(1) == []


def linked_tasks(*links, blocks=4):
    """Tasks of one replicate each; the first of each link builds on the second."""
    tasks = missing_tasks(autoencoders(blocks, replicates=1), {})
    for child, parent in links:
        tasks[parent].children.append(tasks[child])
        tasks[child].waits_for += 1
    return tasks, Queue(tasks)


def test_descendants_are_dropped_once():
    """Both in the middle build on the first, and the last on both of them."""
    tasks, queue = linked_tasks((1, 0), (2, 0), (3, 1), (3, 2))
    assert take_one(queue) is tasks[0]
    dropped = queue.drop(tasks[0])
    assert len(dropped) == 3
    assert set(dropped) == set(tasks[1:])
    assert not queue.left
    assert queue.take(1) == []


@pytest.mark.parametrize(
    ("failed", "lost", "kept"),
    [
        (range(8, 12), [range(8, 12)], [range(8)]),
        (range(4), [range(4)], [range(4, 12)]),
        (range(4, 8), [range(4, 8)], [range(4), range(8, 12)]),
    ],
)
def test_failed_encoder_part_fails_only_its_classifiers(failed, lost, kept):
    """If they waited for all parts, a diverging replicate would fail them all, on each run."""
    encoder, classifier = family(classifiers=12)[:2]
    parts = [Task(encoder, range(start, start + 4)) for start in (0, 4, 8)]
    queue = Queue(parts + missing_tasks([classifier], {}))
    assert [take_one(queue) for _ in parts] == parts
    bad = next(part for part in parts if part.replicates == failed)
    dropped = queue.drop(bad)
    assert [task.replicates for task in dropped] == lost
    assert dropped[0].cell is classifier
    assert queue.take(1) == []
    for part in parts:
        if part is not bad:
            queue.finish(part, 1.0)
    found = [batch[0] for batch in iter(lambda: queue.take(1), [])]
    assert sorted((task.replicates for task in found), key=min) == kept
    for task in found:
        queue.finish(task, 1.0)
    assert not queue.left and not queue.running
    assert queue.total == len(parts) + len(found) + len(dropped)


def test_classifiers_of_failed_parts_drop_part_by_part():
    encoder, classifier = family(classifiers=8)[:2]
    parts = [Task(encoder, range(4)), Task(encoder, range(4, 8))]
    queue = Queue(parts + missing_tasks([classifier], {}))
    for part in [take_one(queue) for _ in parts]:
        (lost,) = queue.drop(part)
        assert lost.replicates == part.replicates
    assert not queue.left


def test_classifiers_of_shared_encoders_fail_together():
    """Each of two encoders has every second classifier, which is no block."""
    encoder, classifier = family(encoders=2, classifiers=8)[:2]
    parts = [Task(encoder, range(1)), Task(encoder, range(1, 2))]
    queue = Queue(parts + missing_tasks([classifier], {}))
    first, second = (take_one(queue) for _ in parts)
    assert [task.replicates for task in queue.drop(first)] == [range(8)]
    queue.finish(second, 1.0)
    assert queue.take(1) == []


def test_block_short_of_gpu_memory_keeps_its_checkpoint():
    tasks = missing_tasks(autoencoders(1, replicates=40), {})
    tasks[0].gpus = 0.25
    queue = Queue(tasks, gpus=0.25)
    task = take_one(queue)
    queue.gpus = 4.0
    assert queue.retry(task, Fault.GPU_MEMORY)
    assert queue.take(8)[0].replicates == range(40)


def test_dropped_block_never_becomes_ready():
    tasks, queue = linked_tasks((2, 0), (2, 1), blocks=3)
    first, second = take_one(queue), take_one(queue)
    assert queue.drop(first) == [tasks[2]]
    queue.finish(second, 1.0)
    assert queue.take(1) == []
    assert not queue.left


def test_dropped_block_stays_dropped_after_a_division():
    axes = {"latent_dim": (2,), "depth": (2,)}
    full = {**axes, "labels": (20,), "freeze": ("full",)}
    fewshot = override(FEWSHOT, full, {"replicates": 16, "encoders": 8})
    autoencoder = override(AUTOENCODER, {**axes, "batch_size": (64,)}, {"replicates": 8})
    encoders, classifiers = plan([autoencoder, fewshot], DATA)
    halves = [Task(encoders[0], range(4)), Task(encoders[0], range(4, 8))]
    queue = Queue(halves + missing_tasks(classifiers, {}))
    failed, large = take_one(queue), take_one(queue)
    assert len(queue.drop(failed)) == 1
    large.gpus = 1.0
    for _ in range(2):  # 4 replicates, 2, 1
        assert queue.retry(large, Fault.GPU_MEMORY)
        taken = []
        while batch := queue.take(1):
            taken += batch
        assert large in taken
    parts = list(queue.running)
    assert sorted(len(part.replicates) for part in parts) == [1, 1, 2]
    for part in parts:
        queue.finish(part, 1.0)
    assert queue.take(1) == []
    assert not queue.left


def test_queue_asks_for_more_tasks_when_empty():
    made = missing_tasks(autoencoders(2), {})
    queue = Queue([], more=lambda: made.pop(0) if made else None)
    assert [len(queue.take(1)) for _ in range(3)] == [1, 1, 0]
    assert queue.total == 2


# --- faults ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
         Fault.GPU_MEMORY),
        (MemoryError(), Fault.HOST_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Fault.HOST_MEMORY),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Fault.LOST),
        (RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling"), Fault.LOST),
        (RuntimeError("No CUDA GPUs are available"), Fault.LOST),
        (RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable"), Fault.LOST),
        (OSError(116, "Stale file handle"), Fault.LOST),
        (FileNotFoundError(2, "No such file or directory"), Fault.LOST),
        (StoreError("/results is not on node-7"), Fault.LOST),
        (OtherCode("other sources"), Fault.LOST),
        (DamagedBlock(Block("0" * 16, range(2)), "/x", "too short"), Fault.OWN),
        (ValueError("no"), Fault.OWN),
        (RuntimeError("no"), Fault.OWN),
    ],
)  # fmt: skip
def test_fault_of_each_error(error, kind):
    assert fault_of(error) is kind


def test_torchs_own_error_for_a_full_host_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert fault_of(caught.value) is Fault.HOST_MEMORY


def test_trial_failure_is_pickled():
    import pickle

    error = TrialFailed(Fault.LOST, "Traceback …", "abc", {"x.0-1": "Diverged: no"})
    same = pickle.loads(pickle.dumps(error))
    assert (same.fault, same.error, same.node, same.own) == (
        Fault.LOST,
        "Traceback …",
        "abc",
        {"x.0-1": "Diverged: no"},
    )
