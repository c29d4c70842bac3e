//! The names of people, and pseudonyms for everybody who may not see them, the same for a name while the daemon runs.
//!
//! A subject is a person. What a token without the right to names reads (lists, events, explanations) has a
//! pseudonym in place of each subject, and of each session id, which may be made of a name. Pseudonyms are
//! keyed with a secret of the run: nobody can try out extensions until one fits, and those of one week tell
//! nothing about the next. They differ between tenants.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use usherd_engine::{Acquire, Engine, Explanation, Name, Now, SessionFilter, SessionView, SubjectView};

use crate::daemon::events::Event;

/// The secret that pseudonyms are made with; a new one for each run.
#[derive(Debug, Default)]
pub struct Pseudonyms(RandomState);

/// How one reader sees names.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a>(Option<&'a Pseudonyms>);

impl<'a> Sight<'a> {
    /// As they are, or by pseudonyms.
    pub fn new(pseudonyms: &'a Pseudonyms, sees_names: bool) -> Self {
        Sight((!sees_names).then_some(pseudonyms))
    }

    /// True if names are shown.
    pub fn is_clear(self) -> bool {
        self.0.is_none()
    }

    /// A subject as this reader sees it.
    pub fn subject(self, tenant: &str, subject: &str) -> Name {
        self.seen('p', tenant, subject)
    }

    /// A session id as this reader sees it.
    pub fn session(self, tenant: &str, session: &str) -> Name {
        self.seen('s', tenant, session)
    }

    fn seen(self, mark: char, tenant: &str, id: &str) -> Name {
        match self.0 {
            Some(Pseudonyms(secret)) if !id.is_empty() => {
                // 48 bits: two people of one tenant share a pseudonym once in millions of tenants.
                Name::from(format!("{mark}-{:012x}", secret.hash_one((mark, tenant, id)) >> 16))
            }
            _ => Name::from(id),
        }
    }

    /// An event as this reader sees it.
    pub fn event(self, event: &Event) -> Cow<'_, Event> {
        if self.is_clear() {
            return Cow::Borrowed(event);
        }
        let subject = self.subject(&event.tenant, &event.subject);
        let session = self.session(&event.tenant, &event.session);
        Cow::Owned(Event { subject, session, ..event.clone() })
    }

    /// The subject that this reader calls so; `None` where a pseudonym belongs to nobody who is live.
    pub fn find_subject(self, engine: &Engine, tenant: &str, seen: &str) -> Option<Name> {
        if self.is_clear() {
            return Some(Name::from(seen));
        }
        let rows = engine.subjects(tenant, "", usize::MAX)?;
        rows.into_iter().map(|row| row.subject).find(|subject| self.subject(tenant, subject) == seen)
    }

    /// The session that this reader calls so, as [`Self::find_subject`].
    fn find_session(self, engine: &Engine, tenant: &str, seen: &str) -> Option<Name> {
        let rows = engine.sessions(tenant, &SessionFilter::default(), "", usize::MAX)?;
        rows.into_iter().map(|row| row.session).find(|session| self.session(tenant, session) == seen)
    }

    /// The answer of [`Engine::explain`] to a reader who asks with pseudonyms. A pseudonym of nobody who is live, or a
    /// real name, stands for somebody who holds no seat.
    pub fn explain(self, engine: &Engine, now: Now, asked: &Acquire<'_>) -> Explanation {
        let tenant = asked.tenant;
        let nobody = |seen: &str| self.subject(tenant, seen);
        let subject = asked.subject.map(|seen| self.find_subject(engine, tenant, seen).unwrap_or_else(|| nobody(seen)));
        let session = asked.session.map(|seen| self.find_session(engine, tenant, seen).unwrap_or_else(|| nobody(seen)));
        let meant = Acquire { subject: subject.as_deref(), session: session.as_deref(), ..asked.clone() };
        let mut explanation = engine.explain(now, &meant);
        let hidden = [("subject", subject, asked.subject), ("session", session, asked.session)];
        for (word, real, seen) in hidden {
            let (Some(real), Some(seen)) = (real, seen) else { continue };
            let (real, seen) = (format!("{word} {real}"), format!("{word} {seen}"));
            explanation.steps.iter_mut().for_each(|step| step.input = step.input.replace(&real, &seen));
        }
        explanation
    }
}

/// A row of a list, which has a key by which the list is sorted and paged.
pub trait Row {
    /// Its key.
    fn key(&self) -> &Name;

    /// Replaces its names by what a reader sees.
    fn hide(&mut self, tenant: &str, sight: Sight<'_>);
}

impl Row for SubjectView {
    fn key(&self) -> &Name {
        &self.subject
    }

    fn hide(&mut self, tenant: &str, sight: Sight<'_>) {
        self.subject = sight.subject(tenant, &self.subject);
    }
}

impl Row for SessionView {
    fn key(&self) -> &Name {
        &self.session
    }

    fn hide(&mut self, tenant: &str, sight: Sight<'_>) {
        self.subject = sight.subject(tenant, &self.subject);
        self.session = sight.session(tenant, &self.session);
    }
}

impl Sight<'_> {
    /// Rows behind a key, sorted, at most `limit`. Pseudonyms have an order of their own, so all rows are read for
    /// them: `read` is given the key to read behind, and how many.
    pub fn page<R: Row>(
        self,
        tenant: &str,
        after: &str,
        limit: usize,
        read: impl Fn(&str, usize) -> Option<Vec<R>>,
    ) -> Option<Vec<R>> {
        if self.is_clear() {
            return read(after, limit);
        }
        let mut rows = read("", usize::MAX)?;
        rows.iter_mut().for_each(|row| row.hide(tenant, self));
        rows.retain(|row| row.key().as_str() > after);
        rows.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        rows.truncate(limit);
        Some(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_links_nothing_across_tenants_or_runs() {
        let (run, next) = (Pseudonyms::default(), Pseudonyms::default());
        let (sight, clear) = (Sight::new(&run, false), Sight::new(&run, true));
        let anna = sight.subject("acme", "anna");
        assert_eq!(anna, sight.subject("acme", "anna"));
        assert!(anna.starts_with("p-") && anna.len() == 14, "{anna}");
        let others = [
            sight.subject("acme", "bob"),
            sight.subject("other", "anna"),
            sight.session("acme", "anna"),
            Sight::new(&next, false).subject("acme", "anna"),
        ];
        assert!(!others.contains(&anna), "{others:?}");
        assert_eq!(clear.subject("acme", "anna"), "anna");
        assert_eq!(sight.subject("acme", ""), "", "nobody stays nobody");
    }
}
