//! The protocols of listeners.

/// The protocol of a listener; configured, never guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and HTTP/1.0.
    Http1,
    /// HTTP/2 with prior knowledge; over TLS as `h2`.
    H2c,
    /// The Redis protocol (API 6a).
    Resp,
    /// FastAGI: one script of Asterisk for each connection.
    Agi,
}
