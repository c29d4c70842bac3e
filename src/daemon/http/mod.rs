//! The forms of HTTP replies: bodies, problems, decisions as text or JSON, lines that stream in.

pub mod body;
pub mod lines;
pub mod problem;
pub mod reply;

pub use body::{ReplyBody, ReplySender};
pub use problem::Problem;
