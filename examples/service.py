"""A small HTTP service without a line about AMM: it counts the words of texts and remembers what it has counted.

    amm run -- python examples/service.py 8000
    opentelemetry-instrument python examples/service.py 8000

GET /count?text=... answers with the words; GET /leak keeps a megabyte for ever.
"""

import json
import sys
from collections import Counter
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

KEPT = []


@lru_cache(maxsize=1000)
def count(text):
    return dict(Counter(text.lower().split()))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/count":
            answer = count(parse_qs(url.query).get("text", [""])[0])
        elif url.path == "/leak":
            KEPT.append(b"x" * 2**20)
            answer = {"kept_megabytes": len(KEPT)}
        else:
            self.send_error(404)
            return
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
