"""Worker threads and the mailbox."""

from __future__ import annotations

import select
import threading

from reactor.engine.pool import Mailbox, WorkerPool


def test_jobs_run_and_a_faulty_one_ends_no_thread():
    """A thread survives a job that raises, and goes on with the next."""
    pool, done = WorkerPool(1, 10), threading.Event()
    pool.submit(lambda: 1 / 0)
    pool.submit(done.set)
    assert done.wait(5)
    pool.close(1)


def test_the_pool_says_when_it_is_full():
    """With as many jobs waiting as the high-water mark, reading has to wait."""
    pool, gate, began = WorkerPool(1, 2), threading.Event(), threading.Event()
    pool.submit(lambda: (began.set(), gate.wait(5)))
    assert began.wait(5)
    assert not pool.is_full
    pool.submit(lambda: None)
    pool.submit(lambda: None)
    assert pool.is_full
    gate.set()
    pool.close(1)


def test_the_mailbox_wakes_a_poll_and_runs_in_the_callers_thread():
    """What a thread puts is run by the loop, once."""
    mailbox, ran = Mailbox(), []
    thread = threading.Thread(
        target=lambda: mailbox.put(lambda: ran.append(threading.current_thread()))
    )
    thread.start()
    assert select.select([mailbox.fileno()], [], [], 5)[0]
    thread.join()
    mailbox.run()
    mailbox.run()
    assert ran == [threading.current_thread()]
    mailbox.close()


def test_a_mailbox_that_is_closed_swallows_what_comes_late():
    """A worker that ends after the engine must not fail."""
    mailbox = Mailbox()
    mailbox.close()
    mailbox.put(lambda: None)
    assert mailbox.fileno() == -1
