"""AJP/1.3 as bytes and messages. Pure: no socket, no thread, no clock.

`Connection` is what an engine or a client needs: bytes in, messages out, and the
reverse. The encoders and decoders beneath it stand in `to_container` (what a front
end sends) and `to_front_end` (what a container sends).
"""

from paste_ajp.protocol.connection import BodyFraming, Connection, Role
from paste_ajp.protocol.errors import (
    BodyOverrun,
    BodyTruncated,
    DecodeError,
    FramingError,
    HeaderRefused,
    HeadersTooLarge,
    LocalProtocolError,
    ProtocolError,
)
from paste_ajp.protocol.messages import (
    BodyChunk,
    CPing,
    CPong,
    EndResponse,
    ForwardRequest,
    GetBodyChunk,
    Message,
    MessageToContainer,
    MessageToFrontEnd,
    Ping,
    SendBodyChunk,
    SendHeaders,
    Shutdown,
)
from paste_ajp.protocol.states import State
from paste_ajp.protocol.to_container import (
    build_forward_request,
    decode_body_chunk,
    decode_forward_request,
    encode_body_chunk,
    encode_forward_request,
)
from paste_ajp.protocol.to_front_end import (
    CPONG,
    END_CLOSE,
    END_REUSE,
    FLUSH,
    assemble_send_headers,
    body_buffers,
    decode_from_container,
    encode_bodies,
    encode_body,
    encode_end_response,
    encode_get_body_chunk,
    encode_response_header,
    encode_send_headers,
)

__all__ = [
    "CPONG",
    "END_CLOSE",
    "END_REUSE",
    "FLUSH",
    "BodyChunk",
    "BodyFraming",
    "BodyOverrun",
    "BodyTruncated",
    "CPing",
    "CPong",
    "Connection",
    "DecodeError",
    "EndResponse",
    "ForwardRequest",
    "FramingError",
    "GetBodyChunk",
    "HeaderRefused",
    "HeadersTooLarge",
    "LocalProtocolError",
    "Message",
    "MessageToContainer",
    "MessageToFrontEnd",
    "Ping",
    "ProtocolError",
    "Role",
    "SendBodyChunk",
    "SendHeaders",
    "Shutdown",
    "State",
    "assemble_send_headers",
    "body_buffers",
    "build_forward_request",
    "decode_body_chunk",
    "decode_forward_request",
    "decode_from_container",
    "encode_bodies",
    "encode_body",
    "encode_body_chunk",
    "encode_end_response",
    "encode_forward_request",
    "encode_get_body_chunk",
    "encode_response_header",
    "encode_send_headers",
]
