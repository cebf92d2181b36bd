"""A proxy that cuts a connection in the middle, as a dying server or network does."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Forwards a port; each connection is cut when one way has carried too many bytes."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.up_bytes_max: int | None = None
        """How much a client may send in one connection; None: everything."""
        self.down_bytes_max: int | None = None
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port: int = self._listener.getsockname()[1]

    def run(self) -> None:
        """Accept until closed."""
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target), 10)
            server.settimeout(None)
            for source, sink, limit in (
                (client, server, self.up_bytes_max),
                (server, client, self.down_bytes_max),
            ):
                way = threading.Thread(target=self._carry, args=(source, sink, limit), daemon=True)
                way.start()

    def _carry(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        left = limit
        with suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data if left is None else data[:left])
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        self.cuts += 1
                        break
            else:
                sink.shutdown(socket.SHUT_WR)
                return
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def proxy_before(port: int) -> Iterator[Proxy]:
    """Forward a free port to `port` until the block ends."""
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        thread.join(timeout=5)
