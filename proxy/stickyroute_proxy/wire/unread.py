"""What a peer has not taken yet, be it here or in the kernel: the one sign that it still reads."""

from asyncio import Transport
from fcntl import ioctl
from struct import unpack
from termios import TIOCOUTQ


def unread(transport: Transport) -> int:
    """Bytes written that the peer has not acknowledged.

    The loop alone does not tell: the kernel takes more only once a third of its buffer, up to megabytes, is
    free again.
    """
    waiting = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return waiting
    (queued,) = unpack("i", ioctl(sock.fileno(), TIOCOUTQ, b"\0\0\0\0"))
    return waiting + int(queued)
