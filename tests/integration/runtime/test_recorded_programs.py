"""Programs that care for owners, in steps of a single id: this machine's, over a root of their own."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.fs.ownership import Record
from tests.integration.runtime.recorded import Steps, write_host_root
from tests.support.namespaces import has_user_namespaces
from tests.support.singleid import OUTER_PROC, SingleId

pytestmark = pytest.mark.skipif(not has_user_namespaces(), reason="no user namespace can be made here")

APP = {"uid": 1000, "gid": 1000, "groups": [8]}
PYTHON = "/usr/bin/python3"


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program, path="/usr/sbin:/usr/bin") is None]
    return pytest.mark.skipif(bool(missing), reason=f"not on this machine: {', '.join(missing)}")


@pytest.fixture(scope="module", params=[(), (OUTER_PROC,)], ids=["own proc", "outer proc"])
def single(request: pytest.FixtureRequest) -> Iterator[SingleId]:
    program = SingleId(*request.param)
    yield program
    program.close()


@pytest.fixture
def steps(single: SingleId, tmp_path: Path) -> Steps:
    root = tmp_path / "root"
    root.mkdir()
    binds = write_host_root(root)
    return Steps(single, (root,), tmp_path, binds)


@needs("install")
def test_install_gives_owners_and_modes(steps: Steps) -> None:
    command = """
    install -d -o app -g mail -m 2750 /d; install -o app -g 42 -m 4711 /etc/passwd /f
    stat -c '%u %g %a' /d /f
    """
    assert steps.says(command) == ["1000 8 2750", "1000 42 4711"]
    assert steps.record("f") == Record(1000, 42)
    assert os.stat(steps.upper / "f").st_mode & 0o7777 == 0o4711


@needs("useradd", "su")
def test_useradd_makes_a_user_with_a_home(steps: Steps) -> None:
    command = """
    mkdir /etc/skel; touch /etc/skel/.profile; useradd -m -s /bin/sh new
    stat -c '%U %G' /home/new /home/new/.profile
    su new -c 'id -un; touch ~/x; stat -c %U ~/x'
    """
    told = steps.run(command)
    assert told["out"] == ["new new", "new new", "new", "new"], told


def members() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, kind, uid, gid in (
            ("d", tarfile.DIRTYPE, 10, 20),
            ("d/f", tarfile.REGTYPE, 11, 21),
            ("d/l", tarfile.SYMTYPE, 12, 22),
            ("d/h", tarfile.LNKTYPE, 11, 21),
            ("d/p", tarfile.FIFOTYPE, 13, 23),
            ("d/c", tarfile.CHRTYPE, 14, 24),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.uid, member.gid, member.mode = kind, uid, gid, 0o644
            member.linkname = {"d/l": "f", "d/h": "d/f"}.get(name, "")
            member.devmajor, member.devminor = 1, 3
            member.mode = 0o755 if name == "d" else 0o644
            archive.addfile(member)
    return content.getvalue()


@needs("tar")
def test_tar_unpacks_and_packs_owners(steps: Steps, tmp_path: Path) -> None:
    (tmp_path / "root/all.tar").write_bytes(members())
    command = """
    cd /tmp; tar --same-owner --numeric-owner -xf /all.tar; stat -c '%n %u %g %F' d d/f d/l d/h d/p d/c
    tar --numeric-owner -cf - d | tar --numeric-owner -tvf - | cut -c1-16 | sort
    """
    assert steps.says(command) == [
        *("d 10 20 directory", "d/f 11 21 regular empty file", "d/l 12 22 symbolic link"),
        *("d/h 11 21 regular empty file", "d/p 13 23 fifo", "d/c 14 24 character special file"),
        *("-rw-r--r-- 11/21", "crw-r--r-- 14/24", "drwxr-xr-x 10/20", "hrw-r--r-- 11/21"),
        *("lrwxrwxrwx 12/22", "prw-r--r-- 13/23"),
    ]
    assert steps.owners == {"tmp/d/l": (12, 22), "tmp/d/p": (13, 23)}


@needs("dpkg", "dpkg-deb")
def test_dpkg_installs_a_package_whose_files_are_others(steps: Steps, tmp_path: Path) -> None:
    package = tmp_path / "package"
    for name in ("DEBIAN", "opt/p"):
        (package / name).mkdir(parents=True)
    (package / "opt/p/f").write_text("f")
    os.symlink("f", package / "opt/p/l")
    os.chown(package / "opt/p/f", 0, 8)
    (package / "DEBIAN/control").write_text(
        "Package: p\nVersion: 1\nArchitecture: all\nMaintainer: M <m@example.org>\nDescription: p\n"
    )
    script = package / "DEBIAN/postinst"
    script.write_text(
        "#!/bin/sh\nset -e\nchown app:mail /opt/p\nchown -h app /opt/p/l\nchmod 2755 /opt/p/f\n"
    )
    script.chmod(0o755)
    subprocess.run(["dpkg-deb", "--build", package, tmp_path / "root/p.deb"], check=True, capture_output=True)
    database = tmp_path / "root/var/lib/dpkg"
    for name in ("info", "updates", "triggers"):
        (database / name).mkdir(parents=True)
    (database / "status").touch()
    told = steps.run("dpkg -i --log=/dev/null /p.deb; stat -c '%n %u %g %a' /opt/p /opt/p/f /opt/p/l")
    assert told["code"] == 0, told
    assert told["out"][-3:] == ["/opt/p 1000 8 755", "/opt/p/f 0 8 2755", "/opt/p/l 1000 0 777"]
    assert steps.owners == {"opt/p/l": (1000, 0)}


@needs("su")
def test_su_takes_a_user_back_to_root(steps: Steps) -> None:
    command = "id -u; su -c 'id -u; touch /root/x; stat -c %u /root/x'; su other -c 'id -u'; id -u"
    told = steps.run(command, **APP)
    assert told["out"] == ["1000", "0", "0", "2000", "1000"], told
    assert steps.record("root/x") is None


def test_a_set_id_program_is_its_owners(steps: Steps) -> None:
    command = """
    cp /usr/bin/id /usr/bin/touch /usr/bin/env /tmp; cd /tmp; chown other:mail id touch; chmod 6755 id touch
    su app -c '/tmp/id; /tmp/touch /tmp/x; /tmp/env /tmp/id -u; id -u; /tmp/id -ru'; stat -c '%u %g' x
    """
    told = steps.run(command)
    assert told["out"] == [
        "uid=1000(app) gid=1000(app) euid=2000(other) egid=8(mail) groups=8(mail),1000(app)",
        *("2000", "1000", "1000", "2000 8"),
    ], told


@needs("setpriv")
def test_setpriv_changes_every_id_and_no_new_privileges_hold(steps: Steps) -> None:
    command = """
    setpriv --reuid=1000 --regid=8 --clear-groups id
    setpriv --no-new-privs --reuid=1000 --clear-groups su -c 'id -u' 2>/dev/null || echo no
    """
    told = steps.run(command)
    assert told["out"][0] == "uid=1000(app) gid=8(mail) groups=8(mail)"
    assert "0" not in told["out"], told


THREADS = """
import ctypes, os, threading
libc = ctypes.CDLL(None, use_errno=True)
ready, done = threading.Barrier(9), threading.Barrier(9)
seen = []
def live(number):
    ready.wait()
    done.wait()
    path = f"/tmp/of-{number}"
    with open(path, "x"):
        pass
    seen.append((os.getresuid(), os.getresgid(), os.getgroups(), os.stat(path).st_uid))
threads = [threading.Thread(target=live, args=(number,)) for number in range(8)]
[thread.start() for thread in threads]
ready.wait()
os.setgroups([8, 50]); os.setresgid(1000, 1000, 1000); os.setresuid(1000, 1000, 1000)
done.wait()
[thread.join() for thread in threads]
assert set(map(str, seen)) == {str(((1000,) * 3, (1000,) * 3, [8, 50], 1000))}, seen
try:
    os.setuid(0)
except PermissionError:
    print("ok")
"""


@needs("python3")
def test_all_threads_of_a_program_change_user_at_once(steps: Steps) -> None:
    assert steps.says([PYTHON, "-c", THREADS]) == ["ok"]


CALLS = """
import errno, os, socket, tempfile, xml
def refused(number, call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        assert error.errno == number, (call, error)
        return
    raise AssertionError(call)
os.chdir("/tmp")
with tempfile.TemporaryFile(dir="/tmp") as file:  # O_TMPFILE
    assert os.fstat(file.fileno()).st_uid == 1000
file = os.open("new", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o444)
assert os.get_inheritable(file) is False and os.get_blocking(file)
os.write(file, b"ab"); os.lseek(file, 0, 0); os.write(file, b"c")
assert os.pread(file, 9, 0) == b"abc"
refused(errno.EEXIST, os.open, "new", os.O_CREAT | os.O_EXCL)
refused(errno.EEXIST, os.mkdir, "new")
refused(errno.ENOENT, os.open, "none/f", os.O_CREAT)
refused(errno.ENOENT, os.mkdir, "")
refused(errno.ENOTDIR, os.mkdir, "new/x")
refused(errno.EISDIR, os.open, "/tmp", os.O_CREAT | os.O_WRONLY)
refused(errno.EPERM, os.setgroups, [5])
refused(errno.EBADF, os.fchown, 77, 1, 1)
os.symlink("target", "dangling")
os.close(os.open("dangling", os.O_CREAT | os.O_WRONLY))
assert (os.lstat("target").st_uid, os.lstat("dangling").st_uid) == (1000, 1000)
place = os.open("/tmp", os.O_PATH)
os.mkdir("d", dir_fd=place); os.close(os.open("d/f", os.O_CREAT, dir_fd=place))
link = os.open("dangling", os.O_PATH | os.O_NOFOLLOW)
assert [os.stat("d/f", dir_fd=place).st_uid, os.fstat(link).st_uid] == [1000, 1000]
server = socket.socket(socket.AF_UNIX)
server.bind("sock")
assert os.stat("sock").st_uid == 1000
client = socket.socket(socket.AF_UNIX); server.listen(); client.connect("/tmp/sock")
socket.socket(socket.AF_UNIX).bind("\\0abstract")
print(os.umask(0))
"""


@needs("python3")
def test_calls_of_a_user_do_what_they_do(steps: Steps) -> None:
    assert steps.says([PYTHON, "-c", CALLS], **APP) == ["18"]


PEERS = """
import os, socket, struct
def peer(end):
    return struct.unpack("iII", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/server"); server.listen()
os.chmod("/tmp/server", 0o777)
child = os.fork()
if child == 0:
    os.setgid(8); os.setuid(1000)
    client = socket.socket(socket.AF_UNIX); client.connect("/tmp/server")
    assert peer(client) == (os.getppid(), 0, 0), peer(client)
    client.recv(1)
    os._exit(0)
end, _ = server.accept()
assert peer(end) == (child, 1000, 8), peer(end)
end.close()
print(os.waitpid(child, 0)[1])
"""


@needs("python3")
def test_a_server_knows_which_user_has_connected(steps: Steps) -> None:
    assert steps.says([PYTHON, "-c", PEERS]) == ["0"]


GONE = """
import os, socket, struct
server = socket.socket(socket.AF_UNIX); server.bind("/tmp/server"); server.listen()
child = os.fork()
if child == 0:
    socket.socket(socket.AF_UNIX).connect("/tmp/server")
    os._exit(0)
os.waitpid(child, 0)
end, _ = server.accept()
pid, uid, gid = struct.unpack("iII", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
print(pid == child, uid, gid)
"""


@needs("python3")
def test_of_who_has_connected_and_gone_a_server_knows_what_the_kernel_knows(steps: Steps) -> None:
    assert steps.says([PYTHON, "-c", GONE]) == ["True 0 0"]


@needs("unshare", "mount")
def test_a_process_with_mounts_of_its_own_sees_owners_there(steps: Steps) -> None:
    command = """
    mkdir /a /b; touch /a/f; chown 5 /a/f
    unshare -m sh -c 'mount --bind /a /b && stat -c %u /b/f && chown 6 /b/f && mount -t tmpfs t /a && ls /a'
    stat -c %u /a/f; ls /b
    """
    assert steps.says(command, insecure=True) == ["5", "6"]
    assert steps.record("a/f") == Record(6, 0)


SIGNALS = """
import os, signal
count = 0
def ring(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0003)
def call(function, *arguments):
    while True:
        try:
            return function(*arguments)
        except InterruptedError:  # before anybody had looked at it
            pass
for number in range(400):
    name = f"/tmp/d{number}"
    call(os.mkdir, name)
    call(os.chown, name, -1, 8)
    os.close(call(os.open, f"{name}/f", os.O_CREAT | os.O_EXCL))
    assert call(os.stat, name).st_gid == 8
signal.setitimer(signal.ITIMER_REAL, 0)
print("ok" if count else "no signal came")
"""


@needs("python3")
def test_signals_do_not_make_a_call_happen_twice(steps: Steps) -> None:
    assert steps.says([PYTHON, "-c", SIGNALS], **APP) == ["ok"]


STORM = """
import itertools, os, random, signal, time
os.setgroups([]); os.setgid(8); os.setuid(1000)
for number in range(60):
    children = []
    for child in range(4):
        pid = os.fork()
        if pid == 0:
            try:
                for name in itertools.count():
                    path = f"/tmp/s{os.getpid()}-{name % 1000}"
                    os.close(os.open(path, os.O_CREAT)); assert os.stat(path).st_uid == os.getuid() == 1000
            finally:
                os._exit(1)
        children.append(pid)
    time.sleep(random.random() * 0.01)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
wrong = [name for name in os.listdir("/tmp") if os.stat(f"/tmp/{name}").st_uid != 1000]
print(wrong)
"""


@needs("python3")
def test_processes_killed_in_the_middle_of_calls_harm_nothing(steps: Steps) -> None:
    assert steps.says([PYTHON, "-c", STORM]) == ["[]"]
