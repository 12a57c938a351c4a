"""A tiny program for supervisors to run: serves HTTP on a port, and misbehaves when asked to.

    python program.py PORT [FAULT]

`GET /env/NAME` answers with a variable, `GET /child` starts a process of its own and answers with its pid.
FAULT: `dies` (at once), `dies-once=FILE` (at once, unless the file is there), `stubborn` (ignores SIGTERM),
`never-ready`.
"""

import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

port, fault = int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else ""


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b""
        if self.path.startswith("/env/"):
            body = os.environ.get(self.path.removeprefix("/env/"), "").encode()
        if self.path == "/child":
            body = str(subprocess.Popen(["sleep", "600"]).pid).encode()
        self.send_response(503 if fault == "never-ready" else 200)
        self.end_headers()
        self.wfile.write(body)


if fault == "dies":
    sys.exit("I shall not start")
if fault.startswith("dies-once="):
    seen = Path(fault.partition("=")[2])
    if not seen.exists():
        seen.write_text("")
        sys.exit("not yet")
if fault == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
HTTPServer(("127.0.0.1", port), Pages).serve_forever()
