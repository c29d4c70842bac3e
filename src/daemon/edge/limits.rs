//! Every limit of the edge by name: how long, how much, how many (I26).

use std::time::Duration;

/// The limits of all listeners together; a deadline is counted from the moment its wait begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From accept to the first byte.
    pub first_byte_deadline: Duration,
    /// From the first byte of a request to the end of its head, and for a TLS handshake.
    pub head_deadline: Duration,
    /// For a whole request body, from when the handler asks for it.
    pub body_deadline: Duration,
    /// For a handler to begin its answer; longer than `body_deadline`, so that a slow body is a 408.
    pub answer_deadline: Duration,
    /// For the client to take the next [`Limits::WRITE_STEP_BYTES`] of what waits for it, or all of it.
    pub write_deadline: Duration,
    /// Between two requests, at an address that a node was heard from. Asterisk keeps one connection
    /// for each live call, so this is long.
    pub idle_deadline: Duration,
    /// Between two requests, at any other address.
    pub idle_stranger_deadline: Duration,
    /// Age at which a connection is asked to close, give or take a tenth; answers in progress are finished.
    pub connection_age: Duration,
    /// For answers in progress once a connection is asked to close.
    pub drain_deadline: Duration,
    /// For the client to close after our last byte; a reset would take the answer from it.
    pub linger_deadline: Duration,
    /// Read buffer of a connection, so also the longest head; at least 8,192.
    pub buf_bytes_max: usize,
    /// Header fields of a request.
    pub headers_max: usize,
    /// Open connections in all.
    pub connections_max: u32,
    /// Of these, kept for node addresses and the Unix socket.
    pub connections_reserved_for_nodes: u32,
    /// Open connections of one address (IPv6: one /64) that no node was heard from.
    pub connections_per_address_max: u32,
    /// Open connections of one node address.
    pub connections_per_node_max: u32,
    /// Node addresses remembered; beyond it the one not heard from for longest is forgotten.
    pub node_addresses_max: usize,
    /// Requests at once on an HTTP/2 connection from the address of a node.
    pub h2_streams_max: u32,
    /// The same from any other address: each that is not read costs some kilobytes.
    pub h2_streams_stranger_max: u32,
    /// Bytes of an HTTP/2 header list.
    pub h2_header_list_bytes_max: u32,
    /// Bytes buffered for sending per HTTP/2 stream.
    pub h2_send_buf_bytes_max: usize,
    /// Resets by the client that wait to be accepted, and resets that we had to send, before the
    /// connection is ended.
    pub h2_resets_max: usize,
    /// Between two HTTP/2 pings of ours.
    pub h2_ping_interval: Duration,
    /// For the answer to a ping.
    pub h2_ping_deadline: Duration,
    /// Bytes of all unfinished request bodies together.
    pub bodies_bytes_max: usize,
    /// Bytes of all large answers together that wait for their readers; beyond it reading is answered 503. The last
    /// quarter is kept for nodes.
    pub answers_bytes_max: usize,
}

impl Limits {
    /// The bytes that a client must take within one `write_deadline`.
    pub const WRITE_STEP_BYTES: usize = 16 * 1024;
    /// The fewest bytes that hyper demands of a read buffer.
    pub const BUF_BYTES_MIN: usize = 8 * 1024;
    /// Most bytes that are gathered for one write.
    pub(super) const GATHERED_BYTES_MAX: usize = 16 * 1024;
    /// Most bytes that are read and thrown away after our last byte.
    pub(super) const LINGER_BYTES_MAX: usize = 256 * 1024;
    /// Most bytes that an HTTP/2 stream, and a whole connection, may send before it is read.
    pub(super) const H2_STREAM_WINDOW_BYTES: u32 = 32 * 1024;
    /// See above.
    pub(super) const H2_CONNECTION_WINDOW_BYTES: u32 = 64 * 1024;
    /// Requests of one connection that are answered before the others have a turn.
    pub(super) const TURN_REQUESTS_MAX: u32 = 16;
    /// Most bytes that are read of one connection before the others have a turn. Hundreds of requests of HTTP/2 fit
    /// into what is read at once.
    pub(super) const TURN_BYTES_MAX: usize = 64 * 1024;
    /// The same of an HTTP/2 connection of which no node was heard, bytes.
    pub(super) const TURN_BYTES_STRANGER_MAX: usize = 2 * 1024;
    /// How many header fields hyper takes without allocating for each request.
    pub(super) const HEADERS_ON_STACK: usize = 100;
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            first_byte_deadline: Duration::from_secs(10),
            head_deadline: Duration::from_secs(10),
            body_deadline: Duration::from_secs(20),
            answer_deadline: Duration::from_secs(30),
            write_deadline: Duration::from_secs(20),
            idle_deadline: Duration::from_secs(3_600),
            idle_stranger_deadline: Duration::from_secs(60),
            connection_age: Duration::from_secs(4 * 3_600),
            drain_deadline: Duration::from_secs(10),
            linger_deadline: Duration::from_secs(2),
            buf_bytes_max: 16 * 1024,
            headers_max: Limits::HEADERS_ON_STACK,
            connections_max: 16_384,
            connections_reserved_for_nodes: 12_288,
            connections_per_address_max: 1_024,
            connections_per_node_max: 16_384,
            node_addresses_max: 10_000,
            h2_streams_max: 128,
            h2_streams_stranger_max: 16,
            h2_header_list_bytes_max: 16 * 1024,
            // In parts of 4 KiB: each costs some hundreds of bytes beside what it holds, for each stream that is not
            // read.
            h2_send_buf_bytes_max: 8 * 1024,
            h2_resets_max: 64,
            h2_ping_interval: Duration::from_secs(30),
            h2_ping_deadline: Duration::from_secs(20),
            bodies_bytes_max: 64 << 20,
            answers_bytes_max: 32 << 20,
        }
    }
}
