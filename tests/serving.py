"""A server of a test's own, for the length of a block."""

import threading
from contextlib import contextmanager


@contextmanager
def serving(server):
    """Let an HTTP server answer as long as the block lasts."""
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
