//! Limits that a reload may change, as the settings say.

use std::time::Duration;

use usherd_contract::node_calls::InventoryBody;

use crate::daemon::config::Config;
use crate::daemon::edge::Limits;

/// Limits that a reload may change, at hand for every request.
#[derive(Clone, Copy, Debug)]
pub struct Knobs {
    /// Largest request body, bytes.
    pub body_bytes_max: usize,
    /// Largest inventory, bytes.
    pub inventory_bytes_max: usize,
    /// Most sessions of one inventory: what is made of them has room beside other bodies.
    pub inventory_sessions_max: usize,
    /// Most operations of one batch.
    pub batch_operations_max: usize,
    /// Requests in progress on one runtime beyond which new seats are turned away.
    pub in_flight_max: u32,
    /// For the next part of a body that is streamed.
    pub body_deadline: Duration,
    /// For the client to take the next part of an answer that is streamed.
    pub write_deadline: Duration,
}

impl Knobs {
    /// As configured, for this number of runtimes.
    pub fn of(config: &Config, workers: usize) -> Self {
        let server = &config.settings.server;
        Knobs {
            body_bytes_max: server.max_body_bytes as usize,
            inventory_bytes_max: server.max_inventory_bytes as usize,
            inventory_sessions_max: server.request_bodies_bytes_max as usize / 8 * 3 / InventoryBody::SESSION_BYTES,
            batch_operations_max: server.batch_operations_max as usize,
            in_flight_max: server.requests_in_flight_max.div_ceil(workers.max(1) as u32),
            body_deadline: Duration::from_millis(server.body_deadline_ms.into()),
            write_deadline: Duration::from_millis(server.write_deadline_ms.into()),
        }
    }
}

/// The limits of the edge as configured.
pub fn edge_limits(config: &Config) -> Limits {
    let server = &config.settings.server;
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
        bodies_bytes_max: server.request_bodies_bytes_max as usize,
        connections_max: server.connections_max,
        connections_reserved_for_nodes: server.connections_reserved_for_nodes,
        connections_per_address_max: server.connections_per_address_max,
        ..Limits::default()
    }
}
