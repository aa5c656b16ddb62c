"""A 32-bit program in a step of a single id: other numbers, other structures, ids of 16 bits."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.fs.ownership import Record
from tests.integration.runtime.recorded import Steps, write_accounts
from tests.support.namespaces import has_user_namespaces
from tests.support.singleid import SingleId

SOURCE = r"""
static int call(int number, long a, long b, long c, long d) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result)
                     : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d), "D"(0) : "memory");
    return result;
}
static unsigned char buffer[256];
static unsigned word(int at) { return *(unsigned *)(buffer + at); }
static unsigned half(int at) { return *(unsigned short *)(buffer + at); }
static void end(int code) { call(1, code, 0, 0, 0); }
#define CHECK(condition) do { if (!(condition)) end(__LINE__ - FIRST); } while (0)
enum { FIRST = __LINE__ };
void _start(void) {
    int file = call(5, (long)"/f", 0102, 0600, 0);              /* open */
    CHECK(file >= 0);
    CHECK(call(212, (long)"/f", 70000, 6, 0) == 0);             /* chown32 */
    CHECK(call(195, (long)"/f", (long)buffer, 0, 0) == 0);      /* stat64 */
    CHECK(word(24) == 70000 && word(28) == 6 && word(16) == 0100600);
    CHECK(call(197, file, (long)buffer, 0, 0) == 0);            /* fstat64 */
    CHECK(word(24) == 70000);
    CHECK(call(300, -100, (long)"/f", (long)buffer, 0) == 0);   /* fstatat64 */
    CHECK(word(24) == 70000 && word(28) == 6);
    CHECK(call(106, (long)"/f", (long)buffer, 0, 0) == 0);      /* stat */
    CHECK(half(8) == 0100600 && half(12) == 65534 && half(14) == 6);
    CHECK(call(95, file, 5, 0xffff, 0) == 0);                   /* fchown */
    CHECK(call(196, (long)"/f", (long)buffer, 0, 0) == 0);      /* lstat64 */
    CHECK(word(24) == 5 && word(28) == 6);
    CHECK(call(206, 1, (long)(unsigned[]){70001}, 0, 0) == 0);  /* setgroups32 */
    CHECK(call(205, 8, (long)buffer, 0, 0) == 1 && word(0) == 70001);
    CHECK(call(80, 8, (long)buffer, 0, 0) == 1 && half(0) == 65534);
    CHECK(call(208, 1000, 70002, 0, 0) == 0);                   /* setresuid32 */
    CHECK(call(199, 0, 0, 0, 0) == 1000 && call(201, 0, 0, 0, 0) == 70002);
    CHECK(call(24, 0, 0, 0, 0) == 1000 && call(49, 0, 0, 0, 0) == 65534);
    CHECK(call(39, (long)"/tmp/d", 0755, 0, 0) == 0);           /* mkdir */
    CHECK(call(195, (long)"/tmp/d", (long)buffer, 0, 0) == 0 && word(24) == 70002);
    int end_ = call(102, 1, (long)(long[]){1, 1, 0}, 0, 0);     /* socketcall: socket */
    CHECK(end_ >= 0);
    CHECK(call(102, 2, (long)(long[]){end_, (long)"\1\0/tmp/s", 9}, 0, 0) == 0);  /* bind */
    CHECK(call(196, (long)"/tmp/s", (long)buffer, 0, 0) == 0 && word(24) == 70002);
    CHECK(call(23, 0, 0, 0, 0) == 0);                           /* setuid to the saved id */
    CHECK(call(191, 10, (long)buffer, 0, 0) == 0 && word(0) == 0xffffffff);
    end(0);
}
"""


def compile_for_i386(source: str, program: Path) -> bool:
    """Make a program; False where that cannot be done here."""
    if shutil.which("gcc") is None:
        return False
    flags = ["-m32", "-O1", "-x", "c", "-nostdlib", "-static", "-ffreestanding", "-fno-stack-protector"]
    command = ["gcc", *flags, "-o", str(program), "-"]
    return subprocess.run(command, input=source, text=True, capture_output=True, check=False).returncode == 0


def runs_i386(folder: Path) -> bool:
    """Whether 32-bit programs run here: one that ends at once."""
    program = folder / "nothing"
    ends = 'void _start(void) { __asm__("int $0x80" : : "a"(1), "b"(0)); }'
    try:
        return compile_for_i386(ends, program) and subprocess.run([program], check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def single() -> Iterator[SingleId]:
    program = SingleId()
    yield program
    program.close()


@pytest.mark.skipif(not has_user_namespaces(), reason="no user namespace can be made here")
def test_a_32_bit_program_sees_the_same_owners(single: SingleId, base: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    write_accounts(root)
    if not runs_i386(tmp_path):
        pytest.skip("no 32-bit program can be made here")
    assert compile_for_i386(SOURCE, root / "program")
    steps = Steps(single, (base, root), tmp_path)
    assert steps.run(["/program"])["code"] == 0, steps.last
    assert steps.record("f") == Record(5, 6)
    assert steps.record("tmp/d") == Record(70002, 0)
    assert steps.owners == {"tmp/s": (70002, 0)}
