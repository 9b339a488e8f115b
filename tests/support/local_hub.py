"""The little of the hub's protocol that downloads and uploads need, on this machine; and a process that uses it."""

import base64
import contextlib
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _committed(lines):
    """path -> content of the files in the body of a commit."""
    rows = [json.loads(line) for line in lines.splitlines()]
    return {row["value"]["path"]: base64.b64decode(row["value"]["content"]) for row in rows if row["key"] == "file"}


@contextlib.contextmanager
def local_hub(files):
    """A hub with the model ``org/name``: gives its address, and a list that grows by each file that is asked for,
    and by what a new repository is created with."""
    asked = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.answer(with_body=False)

        def do_GET(self):
            self.answer(with_body=True)

        def do_POST(self):
            """Takes uploads of any model: what is committed is added to ``files``."""
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            kind = self.path.split("?")[0].split("/")
            address = f"http://{self.headers['Host']}"
            if "preupload" in kind:
                names = [file["path"] for file in json.loads(sent)["files"]]
                answer = {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]}
            elif "commit" in kind:
                files.update(_committed(sent))
                answer = {"success": True, "commitOid": COMMIT, "commitUrl": f"{address}/org/name/commit/{COMMIT}"}
            elif self.path == "/api/repos/create":
                asked.append(json.loads(sent))
                answer = {"url": f"{address}/org/name", "id": "org/name"}
            else:  # the head of a README.md
                answer = {"errors": [], "warnings": []}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def answer(self, with_body):
            path = self.path.split("?")[0]
            _, _, name = path.partition("/resolve/")[2].partition("/")
            headers, status, body = {"X-Repo-Commit": COMMIT}, 200, b""
            if name:
                asked.append(name)
            if "org/name" not in path:
                status, headers = 404, {"X-Error-Code": "RepoNotFound"}
            elif "/resolve/v9/" in path:
                status, headers = 404, {"X-Error-Code": "RevisionNotFound"}
            elif path.startswith("/api/models/org/name"):
                siblings = [{"rfilename": name} for name in files]
                body = json.dumps({"id": "org/name", "sha": COMMIT, "siblings": siblings}).encode()
            elif name in files:
                body = files[name]
                headers["ETag"] = f'"{hashlib.sha1(body).hexdigest()}"'
            else:
                status, headers["X-Error-Code"] = 404, "EntryNotFound"
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def run_python(code, *arguments, **environment):
    """Run code in a process that may ask a hub; it prints JSON, which is returned."""
    return json.loads(run_with_hub([sys.executable, "-c", code, *map(str, arguments)], **environment))


def run_with_hub(command, **environment):
    """Run a command that may ask a hub; its stdout."""
    inherited = {
        **os.environ,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
    }
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        inherited.pop(name, None)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**inherited, **environment}, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
