"""A git server made of dulwich, as a program: python -m tests.servers.dulwich_host ROOT PORT."""

import socketserver
import sys

from dulwich.server import FileSystemBackend, TCPGitServer


class ThreadingServer(socketserver.ThreadingMixIn, TCPGitServer):
    """Answers several clients at once."""

    daemon_threads = True
    request_queue_size = 50


if __name__ == "__main__":
    ThreadingServer(FileSystemBackend(sys.argv[1]), "127.0.0.1", int(sys.argv[2])).serve_forever()
