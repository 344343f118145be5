"""A collector of traces, as far as whoever sends them can tell: takes what comes, and keeps nothing of it."""

import http.server
import threading


class Collector(http.server.ThreadingHTTPServer):
    """Serves in threads of its own until it is closed. Counts the requests, and the bytes that they brought."""

    daemon_threads = True

    def __init__(self):
        self.requests = self.received = 0
        super().__init__(("127.0.0.1", 0), Taking)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()


class Taking(http.server.BaseHTTPRequestHandler):
    # Connections are used again.
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.server.received += len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass
