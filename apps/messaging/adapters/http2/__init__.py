"""A multiplexed HTTP/2 client of our own: many requests in flight on a few connections, one answer for each.

Why not a library: with libcurl a request cost 30 µs of CPU, and it was sent again behind our back when a connection
ended; the pure-Python `h2` costs 115 µs. Here many requests leave in one TLS record, so that a request costs a third,
also at the provider; and the fate of every byte is known (figures in docs/performance.md). What is spoken is the part
of RFC 9113 that a client of small POSTs needs; TLS is Python's `ssl`.

    headers.py      HPACK (RFC 7541): what we send, and the little that we read
    connection.py   frames, streams, windows and limits of one connection
    client.py       connections to origins, time-outs, and the exchange of requests for answers
"""

from apps.messaging.adapters.http2.client import Http2Client, ca_bundle
from apps.messaging.adapters.http2.connection import Answer, Failure, Request
from apps.messaging.adapters.http2.headers import encode_lines

__all__ = ["Answer", "Failure", "Http2Client", "Request", "ca_bundle", "encode_lines"]
