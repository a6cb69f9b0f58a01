"""A plain HTTP server for boot files, with counts."""

import http.server
import shutil
import threading
from pathlib import Path


class FileServer:
    """Serves `files` on a free port of the loopback address, which a machine
    with user networking sees as 10.0.2.2.  A value is a Path, or str or bytes
    to be sent as they are; the dictionary may be changed at any time.  GET of
    whole files only."""

    def __init__(self, files):
        self.files = files
        self.requests = []  # paths, in order
        self.bytes_sent = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer._answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0),
                                                       Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever,
                         daemon=True).start()

    def guest_url(self, name=""):
        return f"http://10.0.2.2:{self.port}/{name}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler):
        name = handler.path.lstrip("/")
        content = self.files.get(name)
        with self._lock:
            self.requests.append(name)
        if content is None:
            handler.send_error(404)
            return
        if isinstance(content, Path):
            size = content.stat().st_size
        else:
            content = content.encode() if isinstance(content, str) else content
            size = len(content)
        handler.send_response(200)
        handler.send_header("Content-Length", str(size))
        handler.end_headers()
        if isinstance(content, Path):
            with content.open("rb") as file:
                shutil.copyfileobj(file, handler.wfile, 1 << 20)
        else:
            handler.wfile.write(content)
        with self._lock:
            self.bytes_sent += size
