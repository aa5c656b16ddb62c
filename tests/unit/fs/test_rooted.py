import contextlib
import errno
import os

import pytest

from builder.fs import rooted
from builder.fs.rooted import opened


@pytest.fixture(params=["kernel", "walk"])
def resolver(request, monkeypatch):
    if request.param == "walk":
        monkeypatch.setattr(rooted, "_kernel_resolver", [])
    return request.param


@pytest.fixture
def root(tmp_path, resolver):
    """A root with links of all kinds, beside a file that nobody may reach."""
    (tmp_path / "outside").write_text("outside")
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_text("inside")
    (top / "outside").write_text("inside")
    (top / "absolute").symlink_to("/etc")
    (top / "climbing").symlink_to("../../../etc")
    (top / "out").symlink_to("../outside")
    (top / "loop").symlink_to("loop")
    (top / "dangling").symlink_to("nowhere")
    (top / "etc" / "up").symlink_to("..")
    fd = rooted.open_root(top)
    yield fd
    os.close(fd)


def read(root, path, flags=os.O_RDONLY):
    with opened(rooted.open_in(root, path, flags)) as fd:
        return os.read(fd, 100).decode()


def failing(*codes):
    """Expects an OSError with one of these errnos."""
    return pytest.raises(OSError, match="|".join(os.strerror(code) for code in codes))


@pytest.mark.parametrize(
    "path",
    [
        "etc/passwd", "/etc/passwd", "../../etc/passwd", "etc/../../etc/passwd", "absolute/passwd",
        "climbing/passwd", "out", "../outside", "etc/up/etc/up/../etc/passwd", "./etc//passwd",
    ],
)  # fmt: skip
def test_every_way_of_writing_a_path_stays_inside(root, path):
    assert read(root, path) == "inside"


@pytest.mark.parametrize(
    ("path", "flags", "code"),
    [
        ("loop", os.O_RDONLY, errno.ELOOP),
        ("loop/x", os.O_RDONLY, errno.ELOOP),
        ("dangling", os.O_RDONLY, errno.ENOENT),
        ("absolute", os.O_RDONLY | os.O_NOFOLLOW, errno.ELOOP),
        ("etc/passwd/x", os.O_RDONLY, errno.ENOTDIR),
        ("etc/passwd/..", os.O_RDONLY, errno.ENOTDIR),
        ("etc/passwd/", os.O_RDONLY, errno.ENOTDIR),
        ("missing/..", os.O_RDONLY, errno.ENOENT),
        ("", os.O_RDONLY, errno.ENOENT),
        ("etc", os.O_WRONLY, errno.EISDIR),
        ("etc/passwd", os.O_WRONLY | os.O_CREAT | os.O_EXCL, errno.EEXIST),
        ("dangling", os.O_WRONLY | os.O_CREAT | os.O_EXCL, errno.EEXIST),
    ],
)
def test_failures_are_those_of_the_kernel(root, path, flags, code):
    with failing(code):
        rooted.open_in(root, path, flags, 0o600)


@pytest.mark.parametrize("path", [".", "/", "..", "etc/..", "etc/up", "/../.."])
def test_the_root_is_its_own_parent(root, path):
    with opened(rooted.open_in(root, path, os.O_RDONLY | os.O_DIRECTORY)) as fd:
        assert os.path.sameopenfile(fd, root)


def test_a_dangling_link_is_created_through_inside_the_root(root):
    with opened(rooted.open_in(root, "dangling", os.O_WRONLY | os.O_CREAT, 0o640)) as fd:
        os.write(fd, b"new")

    assert read(root, "nowhere") == "new"


def test_a_link_can_be_opened_itself(root):
    with opened(rooted.open_in(root, "etc/up", os.O_PATH | os.O_NOFOLLOW)) as fd:
        assert os.readlink("", dir_fd=fd) == ".."


def test_magic_links_of_proc_lead_nowhere(tmp_path, resolver):
    with (
        opened(rooted.open_root("/proc")) as proc,
        opened(rooted.open_root(tmp_path)) as target,
        failing(errno.ELOOP, errno.ENOENT),
    ):
        rooted.open_in(proc, f"self/fd/{target}", os.O_RDONLY)


def test_forty_links_are_followed_and_no_more(tmp_path, resolver):
    (tmp_path / "0").write_text("end")
    for number in range(1, 42):
        (tmp_path / str(number)).symlink_to(str(number - 1))

    with opened(rooted.open_root(tmp_path)) as fd:
        assert read(fd, "40") == "end"
        with failing(errno.ELOOP):
            read(fd, "41")


def test_a_path_longer_than_the_kernel_takes_is_walked(tmp_path, resolver):
    fd = rooted.open_root(tmp_path)
    for _ in range(30):
        os.mkdir("n" * 200, dir_fd=fd)
        below = os.open("n" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)

    with opened(rooted.open_root(tmp_path)) as root:
        assert read(root, "/".join(["n" * 200] * 30 + ["file"])) == ""


@pytest.mark.parametrize("code", [errno.EPERM, errno.EAGAIN], ids=["by a filter", "by renames without end"])
def test_where_openat2_gives_nothing_the_walk_does(root, monkeypatch, code):
    def blocked(*_):
        raise OSError(code, "blocked")

    monkeypatch.setattr(rooted, "openat2", blocked)
    assert read(root, "climbing/passwd") == "inside"


def test_a_kernel_without_openat2_is_asked_once(root, monkeypatch):
    asked = []

    def missing(*_):
        asked.append(1)
        raise OSError(errno.ENOSYS, "missing")

    monkeypatch.setattr(rooted, "openat2", missing)
    monkeypatch.setattr(rooted, "_kernel_resolver", ["openat2"])
    assert read(root, "out") == read(root, "out") == "inside"
    assert len(asked) == 1


def test_no_descriptor_is_left_open(root):
    before = set(os.listdir("/proc/self/fd"))
    for path in ("etc/passwd", "loop", "missing/x", "climbing/../etc/up/etc"):
        with contextlib.suppress(OSError):
            os.close(rooted.open_in(root, path, os.O_RDONLY))
    assert set(os.listdir("/proc/self/fd")) <= before  # an earlier test may still be closing some
