//! The messages between the view and the reader beside it: fresh data, and wishes for more.

use super::facts::Detail;
use crate::answers::events::Event;
use crate::answers::operation::Explanation;
use crate::answers::overview::Overview;
use crate::answers::tenants::TenantRow;

/// A message from the reader beside the view.
#[derive(Clone, Debug)]
pub(super) enum News {
    /// All about the fleet.
    Fleet(Box<Fleet>),
    /// All about a tenant.
    Tenant(Box<Detail>),
    /// Something happened.
    Event(Box<Event>),
    /// Events cannot be followed now.
    NoEvents(String),
    /// The answer to a question.
    Explained(Result<Box<Explanation>, String>),
    /// The daemon did not answer, or not well.
    Failed(String),
    /// The process shall end.
    End,
}

/// All about the fleet.
#[derive(Clone, Debug, Default)]
pub(super) struct Fleet {
    /// The totals; not for tokens that are for some tenants only.
    pub overview: Option<Overview>,
    /// The tenants; `None` where those of before are still good.
    pub tenants: Option<Vec<TenantRow>>,
    /// True if there are more tenants than were read.
    pub cut: bool,
    /// Nodes that were lost, by name.
    pub silent: Vec<String>,
}

/// The data that the reader beside the view shall read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// This tenant and not the fleet.
    pub tenant: Option<String>,
    /// Only tenants that are called so; empty for all. Set where not all of them were read.
    pub search: String,
    /// Nothing for now.
    pub paused: bool,
}
