"""Taking the master's files over."""

import hashlib
import stat

import pytest

from bus.errors import DataError
from bus.minion.sync import MAX_FAILED, MAX_FILES, Sync, check_path, digests


def sha(content):
    return hashlib.sha256(content).hexdigest()


class Master:
    """Answers as a master with these files does, at once or when told to."""

    def __init__(self, files):
        self.files = files
        self.asked = []
        self.waiting = None
        self.broken = {}

    def request(self, params, on_reply):
        self.asked.append(params)
        if self.waiting is None:
            self.answer(params, on_reply)
        else:
            self.waiting.append((params, on_reply))

    def answer(self, params, on_reply):
        name = params.get("file") or params["files"]
        if name in self.broken:
            on_reply(*self.broken[name])
        elif "file" in params:
            on_reply(self.files[name], "")
        else:
            prefix = f"{name}/"
            on_reply(
                {
                    path.removeprefix(prefix): sha(content)
                    for path, content in self.files.items()
                    if path.startswith(prefix)
                },
                "",
            )

    def answer_all(self):
        while self.waiting:
            self.answer(*self.waiting.pop(0))


@pytest.fixture
def master():
    return Master(
        {"_modules/mine.py": b"x = 1\n", "_modules/deep/er.py": b"", "_grains/g.py": b"g"}
    )


@pytest.fixture
def done():
    return []


@pytest.fixture
def sync(master, tmp_path, done):
    places = {"_modules": tmp_path / "extmods/modules", "_grains": tmp_path / "extmods/grains"}
    return Sync(master.request, places, done.append)


def test_fetches_what_is_missing(sync, tmp_path, done):
    """All files come over, readable by their owner only."""
    sync.start()
    assert done[0].changed == ("_grains/g.py", "_modules/deep/er.py", "_modules/mine.py")
    assert done[0].errors == ()
    file = tmp_path / "extmods/modules/mine.py"
    assert file.read_bytes() == b"x = 1\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert sorted(digests(tmp_path)) == [
        "extmods/grains/g.py",
        "extmods/modules/deep/er.py",
        "extmods/modules/mine.py",
    ]


def test_fetches_only_what_changed(sync, master, done):
    """Equal files are left alone; a changed one is fetched."""
    sync.start()
    master.asked.clear()
    sync.start()
    assert done[1].changed == ()
    assert master.asked == [{"files": "_modules"}, {"files": "_grains"}]
    master.files["_modules/mine.py"] = b"x = 2\n"
    sync.start()
    assert done[2].changed == ("_modules/mine.py",)
    assert sync.status() == {
        "running": False,
        "finished": 3,
        "changed": ["_modules/mine.py"],
        "errors": [],
    }


def test_removes_what_is_gone(sync, master, tmp_path, done):
    """A file that the master has no more is removed here, its bytecode too."""
    sync.start()
    modules = tmp_path / "extmods/modules"
    (modules / "__pycache__").mkdir()
    (modules / "__pycache__/mine.cpython-311.pyc").write_bytes(b"old")
    sync.start()
    assert done[1].changed == ()
    del master.files["_modules/mine.py"]
    sync.start()
    assert done[2].changed == ("_modules/mine.py",)
    assert not (modules / "mine.py").exists()
    assert not (modules / "__pycache__").exists()


def test_text_is_content_too(sync, master, tmp_path):
    """A file may come as text."""
    master.broken["_modules/mine.py"] = ("x = 1\n", "")
    sync.start()
    assert (tmp_path / "extmods/modules/mine.py").read_text() == "x = 1\n"


def test_a_damaged_file_is_not_written(sync, master, tmp_path, done):
    """Content that does not have the announced digest is refused; the others come."""
    master.broken["_modules/mine.py"] = (b"evil", "")
    sync.start()
    assert "_modules/mine.py changed while it was fetched" in done[0].errors[0]
    assert not (tmp_path / "extmods/modules/mine.py").exists()
    assert "_grains/g.py" in done[0].changed


@pytest.mark.parametrize(
    "path",
    ["../x.py", "/etc/x", "a//b", "a/../b", "", "a\\b", "a\nb", "./a", "__pycache__/a.pyc", 7],
)
def test_paths_stay_inside(path):
    """No name leads out of the directory, or to bytecode."""
    with pytest.raises(DataError):
        check_path(path)


def test_a_listing_with_such_a_path_changes_nothing(sync, master, tmp_path, done):
    """One bad name, and nothing of the listing is taken; the other directory is."""
    master.broken["_modules"] = ({"../../evil.py": "0" * 64, "fine.py": "0" * 64}, "")
    sync.start()
    assert "../../evil.py" in done[0].errors[0]
    assert done[0].changed == ("_grains/g.py",)
    assert not (tmp_path / "extmods/modules").exists()


@pytest.mark.parametrize(
    "value", [None, [1], {f"{number}.py": "" for number in range(MAX_FILES + 1)}]
)
def test_no_listing(sync, master, done, value):
    """Without a list nothing is removed."""
    sync.start()
    master.broken["_modules"] = (value, "no such thing")
    sync.start()
    assert len(done[1].errors) == 1
    assert done[1].changed == ()


def test_gives_up_when_the_master_is_away(sync, master, done):
    """After some failures no more is asked."""
    names = [f"_modules/{number:02}.py" for number in range(50)]
    master.files = dict.fromkeys(names, b"")
    master.broken = dict.fromkeys(names, (None, "the link went down"))
    sync.start()
    assert len(done[0].errors) == MAX_FAILED
    assert len(master.asked) == MAX_FAILED + 1


def test_a_directory_in_the_way(sync, tmp_path, done):
    """A file that cannot be written is reported, and the others come."""
    (tmp_path / "extmods/modules/mine.py/sub").mkdir(parents=True)
    sync.start()
    assert len(done[0].errors) == 1
    assert "_grains/g.py" in done[0].changed


def test_a_second_start_runs_after_the_first(sync, master, done):
    """What changes during a sync is found by the next one."""
    master.waiting = []
    sync.start()
    sync.start()
    sync.start()
    assert sync.status()["running"]
    assert len(master.waiting) == 1
    master.answer_all()
    assert len(done) == 2


def test_restart_drops_what_is_under_way(sync, master, done):
    """Replies to a sync of an old connection count no more."""
    master.waiting = []
    sync.start()
    _, on_reply = master.waiting.pop()
    sync.restart()
    on_reply(None, "the link went down")
    assert done == []
    master.answer_all()
    assert len(done) == 1
    assert done[0].errors == ()


def test_a_late_file_of_a_dropped_sync(sync, master, done):
    """It is not written twice."""
    master.waiting = []
    sync.start()
    master.answer(*master.waiting.pop(0))
    (late,) = master.waiting
    master.waiting.clear()
    sync.restart()
    master.answer(*late)
    master.answer_all()
    assert len(done) == 1


def test_who_waits_for_a_dropped_sync_is_not_forgotten(tmp_path, done):
    """A reconnect begins anew; the counter grows as if what it dropped had ended."""
    asked = []
    sync = Sync(lambda params, reply: asked.append(reply), {"_modules": tmp_path}, done.append)
    sync.restart()
    number = sync.start()
    assert number == sync.start() == 2
    sync.restart()
    assert sync.status() == {"running": True, "finished": 2, "changed": [], "errors": []}
    asked[0]({}, "")
    assert sync.finished == 2
    asked[-1]({}, "")
    assert (sync.finished, len(done)) == (3, 1)
