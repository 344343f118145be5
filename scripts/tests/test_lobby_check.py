"""That the lobby's check can fail."""

import http.server
import json
import threading
import unittest

import lobby_check


class Lobby(http.server.BaseHTTPRequestHandler):
    """One that makes sessions and then knows nothing of them."""

    def do_POST(self):
        self.answer({"session_id": "s"})

    def do_GET(self):
        self.answer({"sessions": []})

    def answer(self, body):
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


class Check(unittest.TestCase):
    def test_a_lobby_that_forgets_what_it_made_is_found_out(self):
        server = http.server.HTTPServer(("127.0.0.1", 0), Lobby)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            found = lobby_check.faults(f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            server.server_close()
        self.assertIn("it is listed: False in place of True", found)
        self.assertTrue(any(fault.startswith("a socket is opened: 200") for fault in found), found)

    def test_nobody_is_a_fault(self):
        # Of a server that has just closed: nobody listens there.
        server = http.server.HTTPServer(("127.0.0.1", 0), Lobby)
        server.server_close()
        self.assertEqual(len(lobby_check.faults(f"http://127.0.0.1:{server.server_port}")), 1)


if __name__ == "__main__":
    unittest.main()
