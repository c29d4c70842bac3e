//! The rule book's machines: the engine, its naive model, and scenarios as text that are put to both.

mod classes;
pub mod machine;
pub mod model;
mod model_nodes;
pub mod real;
pub mod script;
