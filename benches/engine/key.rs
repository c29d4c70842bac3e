//! The key of a name of one tenant, which is looked up without being made.

use std::borrow::Borrow;
use std::hash::{Hash, Hasher};

use usherd_engine::Name;

/// A name of one tenant.
#[derive(Debug)]
pub(crate) struct Key {
    pub tenant: u32,
    pub name: Name,
}

/// The same, owned or borrowed: a look-up allocates nothing.
pub(crate) trait Named {
    fn parts(&self) -> (u32, &str);
}

impl Named for Key {
    fn parts(&self) -> (u32, &str) {
        (self.tenant, &self.name)
    }
}

impl Named for (u32, &str) {
    fn parts(&self) -> (u32, &str) {
        *self
    }
}

impl Hash for dyn Named + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Named + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Key {}

impl<'a> Borrow<dyn Named + 'a> for Key {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}
