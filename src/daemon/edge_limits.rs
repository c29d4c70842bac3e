//! What `[server]` says of deadlines and connections, as the edge wants it.

use std::time::Duration;

use crate::daemon::config::Server;
use crate::daemon::http::Limits;

/// The limits of the edge that `[server]` sets; the others have their defaults.
pub(crate) fn edge_limits(server: &Server) -> Limits {
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let body_deadline = ms(server.body_deadline_ms);
    Limits {
        first_byte_deadline: ms(server.first_byte_deadline_ms),
        head_deadline: ms(server.head_deadline_ms),
        body_deadline,
        answer_deadline: body_deadline + Duration::from_secs(20),
        write_deadline: ms(server.write_deadline_ms),
        idle_deadline: Duration::from_secs(server.idle_deadline_s.into()),
        connection_age: Duration::from_secs(server.connection_age_s.into()),
        drain_deadline: ms(server.drain_deadline_ms),
        buf_bytes_max: server.max_head_bytes as usize,
        connections_max: server.connections_max,
        connections_reserved_for_nodes: server.connections_reserved_for_nodes,
        connections_per_address_max: server.connections_per_address_max,
        ..Limits::default()
    }
}
