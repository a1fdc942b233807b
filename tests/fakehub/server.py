"""The server: the API, the files, the CDN, and what is sent back to it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from fakehub.contents import Bytes, Content
from fakehub.faults import Fault
from fakehub.repos import Files, Pull, Repo, entry

_PIECE = 1 << 20
_API = re.compile(r"/api/models/(?P<repo>[^/]+(?:/[^/]+)?)(?P<rest>/(?:revision|tree|paths-info|"
                  r"refs|preupload|commit|discussions|resolve-cache)(?:/.*)?)?$")


@dataclass
class Request:
    """One line of the log; `where` is api, hub or cdn, `sent` counts bytes of the body.

    It is written before the client sees the answer, so that a test that has it sees the line.
    """

    method: str
    where: str
    what: str
    range: str | None
    token: str | None
    status: int
    sent: int


class FakeHub:
    """A Hub with its repositories; a context manager that serves while it is open."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1", cdn: str = "localhost") -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.log: list[Request] = []
        self.users: dict[str, str] = {}  # token → name; other tokens are refused
        self.latency = 0.0  # seconds before each answer
        self.page = 1000  # models in one page of a listing
        self.uploads: dict[str, bytes] = {}
        self.released = threading.Event()  # ends every stall
        self._links: dict[str, tuple[str, Content]] = {}
        self._lock = threading.Lock()
        # Both names may be one machine's, so that it listens to either.
        self._server = _Server(("127.0.0.1" if cdn == "localhost" else "", port), _Handler)
        self._server.hub = self
        self.port = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self.cdn_host = cdn
        self.cdn = f"http://{cdn}:{self.port}"

    def start(self) -> FakeHub:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> FakeHub:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def repo(self, name: str, files: Files | None = None, **how: Any) -> Repo:
        """A new repository, with a first commit when files are given."""
        made = self.repos[name] = Repo(name, **how)
        if files is not None:
            made.commit(files)
        return made

    def clear(self) -> None:
        """Forget everything."""
        for kept in (self.repos, self.faults, self.log, self.users, self.uploads, self._links):
            kept.clear()
        self.latency, self.page = 0.0, 1000
        self.released.set()
        self.released = threading.Event()

    def link(self, path: str, content: Content) -> str:
        """A signed address on the CDN."""
        with self._lock:
            key = content.sha256
            self._links[key] = (path, content)
        return f"{self.cdn}/cdn/{key}?Expires=1&Signature=abc"

    def linked(self, key: str) -> tuple[str, Content] | None:
        return self._links.get(key)

    def note(self, request: Request) -> None:
        with self._lock:
            self.log.append(request)

    def struck(self, where: str, what: str) -> Fault | None:
        """The fault that happens to this request."""
        with self._lock:
            return next((f for f in self.faults if f.strikes(where, what)), None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    hub: FakeHub

    def handle_error(self, request: Any, address: Any) -> None:
        """Clients that go away are no news."""


class _Answer(Exception):
    """An answer without a body of its own."""

    def __init__(self, status: int, headers: Mapping[str, str] = {}, text: str = "") -> None:
        self.status, self.headers, self.text = status, headers, text


def _refusal(status: int, code: str, text: str) -> _Answer:
    return _Answer(status, {"X-Error-Code": code, "X-Error-Message": text}, text)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    # --- one request ---

    def _serve(self) -> None:
        self.hub = self.server.hub
        self.where = "api"
        parts = urlsplit(self.path)
        self.what = unquote(parts.path)
        self.query = {k: v[-1] for k, v in parse_qs(parts.query).items()}
        self.fault: Fault | None = None
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length) if length else self._chunked()
        if self.hub.latency:
            time.sleep(self.hub.latency)
        try:
            self._route(parts.path)
        except _Answer as answer:
            self._send(answer.status, answer.text.encode(), answer.headers)
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _chunked(self) -> bytes:
        if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
            return b""
        parts = []
        while size := int(self.rfile.readline().strip() or b"0", 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _route(self, path: str) -> None:
        host = (self.headers.get("Host") or "").partition(":")[0]
        if host == self.hub.cdn_host:
            return self._cdn(path)
        if path.startswith("/api/resolve-cache/models/"):
            repo, sha, file = _split(path.removeprefix("/api/resolve-cache/models/"))
            return self._file(repo, sha, file)
        if "/resolve/" in path and not path.startswith("/api/"):
            repo, _, rest = path[1:].partition("/resolve/")
            revision, _, file = rest.partition("/")
            return self._resolve(unquote(repo), unquote(revision), unquote(file))
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch()
        if path == "/api/models":
            self._strike()
            return self._models()
        if path == "/api/whoami-v2":
            return self._json({"name": self._user() or "nobody", "type": "user", "auth": {}})
        if path == "/api/repos/create":
            return self._create()
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        found = _API.fullmatch(path)
        if found is None:
            raise _Answer(404, {}, "no such route")
        self._strike()
        return self._api(unquote(found["repo"]), found["rest"] or "")

    def _strike(self) -> None:
        """Let a fault happen that needs no body; others wait for it."""
        self.fault = self.hub.struck(self.where, self.what)
        if self.fault is None:
            return
        if self.fault.action == "status":
            raise _Answer(self.fault.status, self.fault.headers, "a fault")
        if self.fault.action == "redirect":
            raise _Answer(302, {"Location": self.fault.location})

    # --- who may do what ---

    def _user(self) -> str | None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not token:
            return None
        if token not in self.hub.users:
            raise _Answer(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        return self.hub.users[token]

    def _repo(self, name: str) -> Repo:
        user = self._user()
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and user not in repo.members):
            status = 404 if user else 401
            raise _refusal(status, "RepoNotFound", "Repository not found")
        return repo

    def _open(self, repo: Repo) -> None:
        """Refuse the files of a gated repository."""
        user = self._user()
        if repo.gated and user not in repo.members:
            text = f"Access to model {repo.name} is restricted."
            raise _refusal(403 if user else 401, "GatedRepo", text)

    def _commit(self, repo: Repo, revision: str) -> str:
        sha = repo.find(revision)
        if sha is None:
            raise _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return sha

    # --- the API ---

    def _api(self, name: str, rest: str) -> None:
        repo = self._repo(name)
        verb, _, tail = rest.strip("/").partition("/")
        route: Callable[[Repo, str], None] = {
            "": self._info, "revision": self._info, "tree": self._tree, "refs": self._refs,
            "paths-info": self._paths, "preupload": self._preupload, "commit": self._push,
            "discussions": self._discussions,
        }[verb]  # fmt: skip
        route(repo, tail)

    def _models(self) -> None:
        """The models of an author, a page of a few at a time."""
        user, author = self._user(), self.query.get("author", "").lower()
        rows = [
            {"_id": "0", "id": r.name, "private": r.private,
             **({} if r.unlisted else {"siblings": r.siblings(r.branches["main"], False)})}
            for r in self.hub.repos.values()
            if r.name.partition("/")[0].lower() == author
            and (not r.private or user in r.members)
        ]  # fmt: skip
        at, size = int(self.query.get("cursor", 0)), self.hub.page
        headers = {}
        if at + size < len(rows):
            address = f"{self.hub.url}/api/models?author={author}&cursor={at + size}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._json(rows[at : at + size], headers)

    def _info(self, repo: Repo, revision: str) -> None:
        sha = self._commit(repo, unquote(revision) or "main")
        self._json({
            "id": repo.name, "modelId": repo.name, "sha": sha, "private": repo.private,
            "gated": "manual" if repo.gated else False, "disabled": False, "tags": [],
            "downloads": 0, "likes": 0,
            "siblings": repo.siblings(sha, self.query.get("blobs", "").lower() in ("true", "1")),
        })  # fmt: skip

    def _tree(self, repo: Repo, rest: str) -> None:
        revision, _, under = rest.partition("/")
        sha = self._commit(repo, unquote(revision))
        rows = repo.tree(sha, unquote(under), self.query.get("recursive", "").lower() == "true")
        at = int(self.query.get("cursor", 0))
        headers = {}
        if at + 1000 < len(rows):
            address = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={at + 1000}"
            headers["Link"] = f'<{address}>; rel="next"'
        self._json(rows[at : at + 1000], headers)

    def _refs(self, repo: Repo, _: str) -> None:
        self._json({
            "branches": [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
                for name, sha in repo.branches.items()
            ],
            "converts": [], "tags": [],
            "pullRequests": [
                {"name": f"refs/pr/{p.number}", "ref": f"refs/pr/{p.number}",
                 "targetCommit": p.head} for p in repo.pulls
            ],
        })  # fmt: skip

    def _paths(self, repo: Repo, revision: str) -> None:
        files = repo.commits[self._commit(repo, unquote(revision))]
        if "json" in (self.headers.get("Content-Type") or ""):
            wanted = json.loads(self.body)["paths"]
        else:
            wanted = parse_qs(self.body.decode()).get("paths", [])
        self._json([entry(p, files[p]) for p in wanted if p in files])

    # --- files ---

    def _resolve(self, name: str, revision: str, file: str) -> None:
        self.where, self.what = "hub", file
        self._strike()
        repo = self._repo(name)
        sha = self._commit(repo, revision)
        self._open(repo)
        content = repo.commits[sha].get(file)
        if content is None or file in repo.gone:
            headers = {"X-Repo-Commit": sha}
            refusal = _refusal(404, "EntryNotFound", "Entry not found")
            raise _Answer(404, {**refusal.headers, **headers}, refusal.text)
        headers = {"X-Repo-Commit": sha, "X-Linked-Size": str(content.size)}
        if content.lfs and repo.direct:
            return self._content(content, content.sha256, headers)
        if content.lfs:
            headers |= {
                "X-Linked-ETag": f'"{content.sha256}"', "Location": self.hub.link(file, content)
            }  # fmt: skip
            raise _Answer(302, headers)
        address = f"/api/resolve-cache/models/{quote(name)}/{sha}/{quote(file, safe='')}"
        raise _Answer(307, {**headers, "ETag": f'"{content.oid}"', "Location": address})

    def _file(self, name: str, sha: str, file: str) -> None:
        self.where, self.what = "hub", file
        self.fault = self.hub.struck(self.where, self.what)
        repo = self._repo(name)
        self._open(repo)
        content = repo.commits[sha][file]
        self._content(content, content.oid, {"X-Repo-Commit": sha}, packed=True)

    def _cdn(self, path: str) -> None:
        self.where = "cdn"
        if self.command == "PUT":
            self.hub.uploads[path.removeprefix("/upload/")] = self.body
            raise _Answer(200, {"ETag": '"1"'})
        found = self.hub.linked(path.removeprefix("/cdn/"))
        if found is None:
            raise _Answer(403, {}, "expired")
        self.what, content = found
        self._strike()
        self._content(content, content.sha256, {"Accept-Ranges": "bytes"})

    def _content(
        self, content: Content, etag: str, headers: dict[str, str], *, packed: bool = False
    ) -> None:
        """The file or the range asked for, with faults."""
        fault = self.fault
        action = fault.action if fault else ""
        headers = {**headers, "ETag": f'"{etag}"' if action != "etag" else '"other"'}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None or action == "ignore-range":
            accepts = "gzip" in (self.headers.get("Accept-Encoding") or "")
            if packed and accepts and self.command == "GET" and not action:
                data = gzip.compress(content.read(0, content.size), 1)
                return self._send(200, data, {**headers, "Content-Encoding": "gzip"})
            return self._stream(content, 0, content.size, 200, headers)
        begin = int(asked[1])
        end = min(int(asked[2]) + 1 if asked[2] else content.size, content.size)
        if begin >= content.size:
            raise _Answer(416, {"Content-Range": f"bytes */{content.size}"})
        if action == "shift":
            begin, end = begin + 8, min(end + 8, content.size)
        total = content.size + (1 if action == "total" else 0)
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{total}"
        self._stream(content, begin, end, 206, headers)

    def _stream(
        self, content: Content, begin: int, end: int, status: int, headers: Mapping[str, str]
    ) -> None:
        self._head(status, {**headers, "Content-Length": str(end - begin)})
        if self.command == "HEAD":
            return
        fault = self.fault
        cut = fault is not None and fault.action in ("reset", "short", "stall")
        stop = min(end, begin + fault.after) if cut and fault else end
        for at in range(begin, stop, _PIECE):
            part = content.read(at, min(at + _PIECE, stop))
            self.line.sent += len(part)
            self.wfile.write(part)
        self.wfile.flush()
        if cut and fault:
            self._cut(fault)

    def _cut(self, fault: Fault) -> None:
        self.close_connection = True
        if fault.action == "stall":
            self.hub.released.wait(60)
        elif fault.action == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            with suppress(OSError):
                self.connection.close()
            raise ConnectionResetError

    # --- sending back ---

    def _create(self) -> None:
        asked = json.loads(self.body)
        user = self._user()
        if user is None:
            raise _Answer(401, {}, "log in")
        name = f"{asked.get('organization') or user}/{asked['name']}"
        if name in self.hub.repos:
            text = json.dumps({"error": "exists", "url": f"{self.hub.url}/{name}"})
            raise _Answer(409, {"Content-Type": "application/json"}, text)
        repo = self.hub.repo(name)
        repo.private = bool(asked.get("private"))
        repo.members = frozenset({user})
        repo.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def _writer(self, repo: Repo, revision: str) -> str:
        """Who writes: a member, or who opens a pull request or adds to one."""
        user = self._user()
        if user is None:
            raise _Answer(401, {}, "log in")
        own = any(revision == f"refs/pr/{p.number}" and p.author == user for p in repo.pulls)
        if user not in repo.members and self.query.get("create_pr") != "1" and not own:
            raise _Answer(403, {}, "You need write access")
        return user

    def _preupload(self, repo: Repo, revision: str) -> None:
        self._writer(repo, unquote(revision))
        files = repo.commits[self._commit(repo, unquote(revision))]
        self._json({"files": [
            {"path": f["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
             "oid": files[f["path"]].oid if f["path"] in files else None}
            for f in json.loads(self.body)["files"]
        ]})  # fmt: skip

    def _batch(self) -> None:
        asked = json.loads(self.body)
        self._json({"transfer": "basic", "objects": [
            {"oid": o["oid"], "size": o["size"], **({} if self._has(o["oid"]) else {"actions": {
                "upload": {"href": f"{self.hub.cdn}/upload/{o['oid']}"}}})}
            for o in asked["objects"]
        ]}, {"Content-Type": "application/vnd.git-lfs+json"})  # fmt: skip

    def _has(self, oid: str) -> bool:
        if oid in self.hub.uploads:
            return True
        contents = (c for r in self.hub.repos.values() for f in r.commits.values()
                    for c in f.values())
        return any(c.lfs and c.sha256 == oid for c in contents)

    def _push(self, repo: Repo, revision: str) -> None:
        user = self._writer(repo, unquote(revision))
        lines = [json.loads(line) for line in self.body.splitlines() if line.strip()]
        header = next(x["value"] for x in lines if x["key"] == "header")
        revision = unquote(revision)
        tip = self._commit(repo, revision)
        pull = self.query.get("create_pr") == "1"
        parent = header.get("parentCommit")
        if parent and parent != tip and not pull:
            raise _Answer(412, {}, "A commit has happened since. Please refresh and try again.")
        files: dict[str, Content | bytes] = dict(repo.commits[parent or tip])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = Bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                files[value["path"]] = self._stored(value["oid"])
            elif line["key"] == "deletedFile":
                files.pop(value["path"])
        sha = repo.commit(files, None)
        repo.descriptions[sha] = header.get("description", "")
        answer = {"commitUrl": f"{self.hub.url}/{repo.name}/commit/{sha}", "commitOid": sha}
        if pull:
            number = len(repo.pulls) + 1
            repo.pulls.append(
                Pull(number, header["summary"], header.get("description", ""), sha, author=user)
            )
            answer["pullRequestUrl"] = f"{self.hub.url}/{repo.name}/discussions/{number}"
        elif revision.startswith("refs/pr/"):
            mine = next(p for p in repo.pulls if f"refs/pr/{p.number}" == revision)
            mine.head = sha
        else:
            repo.branches[revision] = sha
        self._json(answer)

    def _stored(self, oid: str) -> Content:
        if oid in self.hub.uploads:
            return Bytes(self.hub.uploads[oid], lfs=True)
        return next(c for r in self.hub.repos.values() for f in r.commits.values()
                    for c in f.values() if c.lfs and c.sha256 == oid)

    def _discussions(self, repo: Repo, rest: str) -> None:
        status = self.query.get("status")
        rows = [
            {"title": p.title, "num": p.number, "status": p.status, "isPullRequest": True,
             "author": {"name": p.author}, "createdAt": "2026-01-01T00:00:00.000Z",
             "repo": {"name": repo.name, "type": "model"}}
            for p in repo.pulls if status in (None, "all", p.status)
        ]  # fmt: skip
        self._json({"discussions": rows, "count": len(rows), "start": 0})

    # --- answers ---

    def _json(self, value: object, headers: Mapping[str, str] = {}) -> None:
        data = json.dumps(value).encode()
        kind = {"Content-Type": "application/json"}
        if "gzip" in (self.headers.get("Accept-Encoding") or "") and len(data) > 1000:
            data, kind["Content-Encoding"] = gzip.compress(data, 1), "gzip"
        self._send(200, data, {**kind, **headers})

    def _send(self, status: int, data: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, {**headers, "Content-Length": str(len(data))}, len(data))
        if self.command != "HEAD":
            self.wfile.write(data)
        self.wfile.flush()

    def _head(self, status: int, headers: Mapping[str, str], sent: int = 0) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        sent = 0 if self.command == "HEAD" else sent
        asked = self.headers.get("Range")
        self.line = Request(self.command, self.where, self.what, asked, token, status, sent)
        self.hub.note(self.line)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()


def _split(rest: str) -> tuple[str, str, str]:
    """`org/name/<sha>/<file>`, or with a name of one segment."""
    parts = [unquote(p) for p in rest.split("/")]
    at = next(i for i, p in enumerate(parts) if re.fullmatch(r"[0-9a-f]{40}", p))
    return "/".join(parts[:at]), parts[at], "/".join(parts[at + 1 :])
