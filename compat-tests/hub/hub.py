"""A Hugging Face hub for tests: its API, small files from itself, large ones (LFS) from a second server behind a redirect.

    with Hub() as hub:
        hub.add("Org/Repo", {"config.json": b"{}"}, revisions=["main"])
        hub.url, hub.log

What it says is what huggingface_hub reads; walk.py lets that client read all of it before hanzod does.
"""
import hashlib
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LFS = 4096  # longer files are kept by LFS
PAGE = 4  # files in one page of a list
TOKEN = "hf_walk"


def etag(body):
    """What the hub calls a file's content."""
    if len(body) > LFS:
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


class Repository:
    def __init__(self, name, gated, private):
        self.name, self.gated, self.private = name, gated, private
        self.commits = {}  # commit: {path: content}
        self.revisions = {}  # branch or tag: commit

    def commit(self, revision):
        return revision if revision in self.commits else self.revisions.get(revision)


class Hub:
    def __init__(self):
        self.repositories, self.log = {}, []
        self.blobs = {}
        self.site, self.store = self._server(Site), self._server(Store)
        self.url = "http://127.0.0.1:%d" % self.site.server_port
        # Another host, as the client sees it: a redirect to the same one is followed with the token.
        self.store_url = "http://localhost:%d" % self.store.server_port

    def _server(self, handler):
        server = ThreadingHTTPServer(("127.0.0.1", 0), type(handler.__name__, (handler,), {"hub": self}))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in (self.site, self.store):
            server.shutdown()
            server.server_close()

    def add(self, name, files, revisions=("main",), gated=False, private=False):
        """A commit with these files, which these revisions are from now on. Gives the commit."""
        repository = self.repositories.setdefault(name, Repository(name, gated, private))
        told = "".join(path + etag(body) for path, body in sorted(files.items()))
        commit = hashlib.sha1((name + told).encode()).hexdigest()
        repository.commits[commit] = dict(files)
        for revision in revisions:
            repository.revisions[revision] = commit
        self.blobs.update({etag(body): body for body in files.values() if len(body) > LFS})
        return commit

    def taken(self):
        """The requests since the last call, as (method, host, path)."""
        log, self.log = self.log, []
        return log


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def content(self, body, headers=()):
        """A file, or the range of it that is asked for."""
        headers = {**dict(headers), "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.answer(200, body, headers)
        first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
        if first >= len(body):
            return self.answer(416, headers={"Content-Range": f"bytes */{len(body)}"})
        headers["Content-Range"] = f"bytes {first}-{last}/{len(body)}"
        self.answer(206, body[first:last + 1], headers)

    def do_HEAD(self):
        self.do_GET()


class Store(Handler):
    """Where LFS keeps large files: whoever has a signed address gets them, and a token does not belong there."""

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.hub.log.append((self.command, "store", url.path))
        body = self.hub.blobs.get(url.path.strip("/"))
        if body is None or url.query != "signature=1" or "Authorization" in self.headers:
            return self.answer(403)
        self.content(body, {"ETag": '"of-the-store"'})


class Site(Handler):
    def refuse(self, status, code, message):
        self.answer(status, json.dumps({"error": message}).encode(), {"X-Error-Code": code, "X-Error-Message": message})

    def json(self, value, headers=()):
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json", **dict(headers)})

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.hub.log.append((self.command, "site", url.path))
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        query = dict(urllib.parse.parse_qsl(url.query))
        token = self.headers.get("Authorization")
        if token not in (None, f"Bearer {TOKEN}"):
            return self.refuse(401, "", "Invalid credentials in Authorization header")
        if parts == ["api", "models"]:
            return self.search(query)
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[:2])
        repository, rest = self.hub.repositories.get(name), parts[4:] if is_api else parts[2:]
        if repository is None or (repository.private and not token):
            return self.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
        if is_api and rest[:1] in ([], ["revision"]):
            return self.info(repository, rest[1] if rest else "main")
        if is_api and rest[0] == "tree":
            return self.tree(repository, rest[1], query)
        if rest[:1] == ["resolve"]:
            return self.file(repository, rest[1], "/".join(rest[2:]), token)
        self.refuse(404, "", "Not Found")

    def search(self, query):
        like = query.get("search", "").lower()
        found = [name for name in sorted(self.hub.repositories)
                 if name.startswith(query.get("author", "") + "/") and like in name.lower()]
        self.json([{"id": name, "modelId": name, "private": False, "tags": [], "likes": 0, "downloads": 0} for name in found])

    def info(self, repository, revision):
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
        self.json({"id": repository.name, "modelId": repository.name, "sha": commit, "private": repository.private,
                   "gated": "auto" if repository.gated else False, "disabled": False, "tags": [], "likes": 0, "downloads": 0,
                   "siblings": siblings})

    def tree(self, repository, revision, query):
        commit = repository.commit(revision)
        if commit is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        entries, folders = [], set()
        for path, body in sorted(repository.commits[commit].items()):
            folders.update(path.split("/")[:-1][:1])
            entry = {"type": "file", "oid": etag(body), "size": len(body), "path": path}
            if len(body) > LFS:
                entry["lfs"] = {"oid": etag(body), "size": len(body), "pointerSize": 130}
                entry["oid"] = hashlib.sha1(b"pointer" + body).hexdigest()
            entries.append(entry)
        entries += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": folder} for folder in sorted(folders)]
        if query.get("recursive", "").lower() != "true":
            entries = [entry for entry in entries if "/" not in entry["path"]]
        start = int(query.get("cursor", 0))
        following = {**query, "cursor": start + PAGE}
        path = urllib.parse.urlsplit(self.path).path
        link = f'<{self.hub.url}{path}?{urllib.parse.urlencode(following)}>; rel="next"'
        self.json(entries[start:start + PAGE], {"Link": link} if start + PAGE < len(entries) else {})

    def file(self, repository, revision, path, token):
        commit = repository.commit(revision)
        if repository.gated and not token:
            return self.refuse(401, "GatedRepo", f"Access to model {repository.name} is restricted")
        if commit is None:
            return self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        body = repository.commits[commit].get(path)
        told = {"X-Repo-Commit": commit}
        if body is None:
            return self.refuse(404, "EntryNotFound", "Entry not found")
        if len(body) <= LFS:
            return self.content(body, {**told, "ETag": f'"{etag(body)}"'})
        self.answer(302, headers={**told, "X-Linked-ETag": f'"{etag(body)}"', "X-Linked-Size": str(len(body)),
                                  "Location": f"{self.hub.store_url}/{etag(body)}?signature=1"})
