//! The description of the wire contract for machines; a test holds it against what the daemon does.

/// OpenAPI 3.1, as `/openapi.json` serves it.
pub const OPENAPI: &str = include_str!("openapi.json");
