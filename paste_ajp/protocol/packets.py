"""A byte stream cut into packets: magic, payload length, payload.

The stream may be split anywhere. What is kept never exceeds one packet and what
one `feed` brought; a packet that nobody wants is dropped as it comes in.
"""

from __future__ import annotations

from paste_ajp.protocol.codes import PACKET_HEADER
from paste_ajp.protocol.errors import FramingError


class PacketReader:
    """Finds the packets of one direction in bytes fed to it.

    Look at the front packet with `payload_length` and `peek`, then `take` or
    `skip` it. Not for two threads at once.
    """

    __slots__ = ("_buffer", "_magic", "_pos", "_skip", "is_empty")

    def __init__(self, magic: bytes) -> None:
        self._magic = magic
        self._buffer: bytes | bytearray = b""
        self._pos = 0
        self._skip = 0
        #: Nothing is kept and nothing is being skipped. To be read only.
        self.is_empty = True

    def feed(self, data: bytes) -> None:
        """Take in what the peer sent."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        kept = len(self._buffer) - self._pos
        if not kept:
            self._buffer = data
            self._pos = 0
        elif isinstance(self._buffer, bytearray):
            # Grows in place: a packet that drips in is not copied each time.
            del self._buffer[: self._pos]
            self._pos = 0
            self._buffer += data
        else:
            buffer = bytearray(memoryview(self._buffer)[self._pos :])
            buffer += data
            self._buffer = buffer
            self._pos = 0
        self.is_empty = not self._skip and self._pos == len(self._buffer)

    @property
    def is_skipping(self) -> bool:
        """Whether more bytes of a skipped packet have to come."""
        return self._skip > 0

    @property
    def missing(self) -> tuple[int, int]:
        """How many bytes of the front packet are here, and how many it has.

        (0, 0) between packets; as long as its length is unknown, its header counts.
        """
        here = len(self._buffer) - self._pos
        if not here:
            return 0, 0
        length = self.payload_length()
        return here, PACKET_HEADER + (length or 0)

    def payload_length(self) -> int | None:
        """Return the length of the front packet's payload, None until it is known.

        Raises FramingError at the first byte that is not the magic: where a packet
        begins is lost then.
        """
        buffer = self._buffer
        pos = self._pos
        left = len(buffer) - pos
        magic = self._magic
        if left >= PACKET_HEADER:
            if buffer[pos] == magic[0] and buffer[pos + 1] == magic[1]:
                return buffer[pos + 2] << 8 | buffer[pos + 3]
            left = 2
        for place in range(min(left, 2)):
            if buffer[pos + place] != magic[place]:
                raise FramingError(
                    "magic",
                    place,
                    f"expected 0x{magic[place]:02X}, found 0x{buffer[pos + place]:02X}"
                    + _other_protocol(bytes(buffer[pos : pos + 5])),
                )
        return None

    def peek(self, count: int) -> bytes | None:
        """Return the first ``count`` bytes of the front payload, None if not here.

        Ask for no more than the payload's length, and after `payload_length`.
        """
        start = self._pos + PACKET_HEADER
        end = start + count
        if end > len(self._buffer):
            return None
        return bytes(self._buffer[start:end])

    def take(self, length: int, start: int = 0) -> bytes | None:
        """Consume the front packet, whose payload has ``length`` bytes.

        Returns its payload from ``start`` on, copied once; None, with nothing
        consumed, while a part of it has to come.
        """
        begin = self._pos + PACKET_HEADER
        end = begin + length
        buffer = self._buffer
        if end > len(buffer):
            return None
        if isinstance(buffer, bytearray):
            payload = bytes(memoryview(buffer)[begin + start : end])
        else:
            payload = buffer[begin + start : end]
        self._consume(end)
        return payload

    def skip(self, length: int) -> None:
        """Drop the front packet, also the part of it that has yet to come."""
        end = self._pos + PACKET_HEADER + length
        self._skip = max(end - len(self._buffer), 0)
        self._consume(min(end, len(self._buffer)))

    def clear(self) -> None:
        """Forget everything."""
        self._skip = 0
        self._consume(len(self._buffer))

    def _consume(self, end: int) -> None:
        if end == len(self._buffer):
            # Lets go of a large buffer; what comes next is looked at in place.
            self._buffer = b""
            self._pos = 0
            self.is_empty = not self._skip
        else:
            self._pos = end


def _other_protocol(start: bytes) -> str:
    """Say what the peer seems to speak, where its first bytes tell."""
    word = start.split(b" ")[0]
    if start.startswith((b"HTTP/", b"<")) or (  # an error page may have no head
        len(word) >= 3 and word.isalpha() and word.isupper()
    ):
        return ": this looks like HTTP, and the port is for AJP"
    if start[:2] == b"\x16\x03":
        return ": this looks like TLS, and the port is for AJP in clear"
    return ""
