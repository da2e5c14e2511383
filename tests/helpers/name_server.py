"""A real name server, for names that begin to resolve while a test runs."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ADDRESS, HEADER, NO_SUCH_NAME = 1, 12, 3  # type of an IPv4 question; bytes; code of an answer


class NameServer:
    """Knows no name until `resolves`; then each is 127.0.0.1."""

    def __init__(self) -> None:
        self.resolves = False
        self.questions = 0  # for an IPv4 address
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    def serve(self) -> None:
        """Answer until an empty datagram comes."""
        while True:
            question, sender = self.socket.recvfrom(4096)
            if not question:
                return
            self.socket.sendto(self.answer(question), sender)

    def answer(self, question: bytes) -> bytes:
        """A message of RFC 1035 that repeats the question and has one address, or none."""
        end = question.index(b"\0", HEADER) + 5  # the name, its type and class
        kind = struct.unpack(">H", question[end - 4 : end - 2])[0]
        self.questions += kind == ADDRESS
        count = int(self.resolves and kind == ADDRESS)
        flags = 0x8180 | (0 if self.resolves else NO_SUCH_NAME)
        header = question[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0)
        name = struct.pack(">HHHIH", 0xC000 | HEADER, ADDRESS, 1, 0, 4)  # the one of the question
        return header + question[HEADER:end] + count * (name + bytes([127, 0, 0, 1]))


@contextmanager
def name_server() -> Iterator[NameServer]:
    """One on a free port of its own."""
    server = NameServer()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", server.port))
        thread.join()
        server.socket.close()
