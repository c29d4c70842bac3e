//! The wire contract: its words, names, limits and messages, for all who speak it. No I/O, no clock, no async.
//!
//! The engine stands on [`words`], [`names`], [`message`] and [`emergency`], which know nothing of a format. The rest
//! reads bodies: [`body`], [`batch`] and [`node_calls`] in JSON, as forms and as names with values; and [`hint`]
//! recognises calls that must pass even if the rest cannot be read. [`answers`] and [`problem`] are the way back. Two
//! features wait, and are off unless asked for: `agi`, the dialect of Asterisk's scripts, for a connection; `file`, for
//! files that people write. A third, `schema`, describes both ways in JSON Schema.

#[cfg(feature = "agi")]
pub mod agi;
pub mod answers;
pub mod batch;
pub mod body;
mod digits;
pub mod emergency;
mod faults;
mod fields;
#[cfg(feature = "file")]
pub mod file;
pub mod form;
pub mod format;
pub mod hint;
pub mod malformed;
pub mod message;
pub mod names;
pub mod node_calls;
pub mod problem;
#[cfg(feature = "schema")]
pub mod schema;
pub mod sentence;
mod vocabulary;
pub mod word;
pub mod words;

pub use fields::flag;
