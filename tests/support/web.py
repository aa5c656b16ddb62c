"""A web server on this machine, and git repositories that it serves as git's own server would."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WHEN = 1_700_000_000  # the first commit; each later one is a minute younger


@dataclass(frozen=True)
class Answer:
    """What a path gives. `cut`: so many bytes less than were promised."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: Message


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is none."""


class Web:
    """answers: path with its query -> what it gives, or what makes that of a request."""

    def __init__(self, repositories: Path) -> None:
        self.answers: dict[str, Answer | Callable[[Asked], Answer]] = {}
        self.asked: list[Asked] = []
        self.repositories = repositories
        self.dumb = False
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[Web]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def answer(self, asked: Asked, body: bytes) -> Answer:
        if asked.path in self.answers:
            found = self.answers[asked.path]
            return found(asked) if callable(found) else found
        path, _, query = asked.path.partition("?")
        if (self.repositories / path.split("/")[1]).is_dir():
            return self._static(path) if self.dumb else self._git(asked, path, query, body)
        return Answer(b"not here\n", 404)

    def _static(self, path: str) -> Answer:
        file = self.repositories / path[1:]
        return Answer(file.read_bytes()) if file.is_file() else Answer(status=404)

    def _git(self, asked: Asked, path: str, query: str, body: bytes) -> Answer:
        env = os.environ | {
            "GIT_PROJECT_ROOT": str(self.repositories), "GIT_HTTP_EXPORT_ALL": "1", "PATH_INFO": path,
            "REQUEST_METHOD": asked.method, "QUERY_STRING": query, "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": asked.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": asked.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": asked.headers.get("Git-Protocol", ""),
        }  # fmt: skip
        command = ["git", "-c", "safe.directory=*", "http-backend"]
        done = subprocess.run(command, input=body, env=env, capture_output=True, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        return Answer(content, int(headers.pop("Status", "200").split()[0]), headers)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Asked(self.command, self.path, self.headers)
                web.asked.append(asked)
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = web.answer(asked, body)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.status != 304:
                    self.send_header("Content-Length", str(len(answer.body) + answer.cut))
                self.end_headers()
                if self.command != "HEAD" and answer.status != 304:
                    self.wfile.write(answer.body)
                self.close_connection = self.close_connection or bool(answer.cut)

            do_POST = do_HEAD = do_GET  # noqa: N815 - the names are http.server's

            def log_message(self, *_: object) -> None:
                return

        return Handler


class Repository:
    """A repository in the making, and the bare one of the same name that the web server gives."""

    def __init__(self, web: Web, work: Path, name: str = "repo.git") -> None:
        """A new, empty one."""
        self._set(web, work, name)
        work.mkdir(parents=True)
        self.bare.parent.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", self.bare], check=True)
        subprocess.run(["git", "config", "receive.autoGC", "false"], cwd=self.bare, check=True)

    @classmethod
    def there(cls, web: Web, work: Path, name: str = "repo.git") -> Repository:
        """One that is there already, with one commit."""
        repository = cls.__new__(cls)
        repository._set(web, work, name)
        repository._commits = 1
        return repository

    def _set(self, web: Web, work: Path, name: str) -> None:
        self.bare = web.repositories / name
        self.url = f"{web.url}/{name}"
        self.work = work
        self._commits = 0

    def git(self, *arguments: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        when = f"{WHEN + 60 * self._commits} +0000"
        env |= {
            "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "test",
            "GIT_AUTHOR_EMAIL": "test@example.com", "GIT_COMMITTER_NAME": "test",
            "GIT_COMMITTER_EMAIL": "test@example.com", "GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when,
        }  # fmt: skip
        # Maintenance would go on in the background, while what is here is copied.
        settings = ("protocol.file.allow=always", "maintenance.auto=false", "gc.auto=0")
        command = ["git", *(word for setting in settings for word in ("-c", setting)), *arguments]
        done = subprocess.run(command, cwd=self.work, env=env, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str | None] = {}, *tags: str, branch: str = "") -> str:
        """Commit these files (None: removed; `-> target`: a link; `!text`: to be run); the commit's id."""
        if branch:
            self.git("checkout", "-q", "-B", branch)
        for name, text in files.items():
            path = self.work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.exists():
                path.unlink()
            if text is None:
                continue
            if text.startswith("-> "):
                path.symlink_to(text[3:])
                continue
            path.write_text(text.removeprefix("!"))
            path.chmod(0o755 if text.startswith("!") else 0o644)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", f"commit {self._commits}")
        self._commits += 1
        for tag in tags:
            self.git("tag", tag)
        self.publish()
        return self.git("rev-parse", "HEAD")

    def publish(self) -> None:
        """Give the server what is here."""
        self.git(
            "push",
            "-q",
            "--force",
            "--prune",
            str(self.bare),
            "refs/heads/*:refs/heads/*",
            "refs/tags/*:refs/tags/*",
        )
        subprocess.run(["git", "update-server-info"], cwd=self.bare, check=True)
