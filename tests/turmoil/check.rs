//! The state that must be the same in three places: on the PBX, in its client's ledger, in the daemon's table.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use usherd_client::Ask;
use usherd_engine::{Direction, Kind, Leg, Name, SessionFilter};

use super::pbx::{Key, Pbx};
use super::site::{Site, TENANTS};

/// Compares them, and says how many sessions live.
pub(crate) fn agreed(site: &Site, nodes: &[Rc<Pbx>]) -> usize {
    let app = site.app();
    let mut live: BTreeMap<Key, (Name, Ask)> = BTreeMap::new();
    for node in nodes {
        let real = node.lives();
        let client = node.client();
        let status = client.status();
        assert!(status.connected && !status.paused, "{}: {status:?}", node.name);
        assert_eq!((status.unconfirmed, status.reports, status.in_flight), (0, 0, 0), "{}: {status:?}", node.name);
        let known: BTreeSet<Key> = client.sessions().iter().map(|session| key(&session.ask)).collect();
        let missing: Vec<_> = real.keys().filter(|key| !known.contains(*key)).collect();
        let ghosts: Vec<_> = known.iter().filter(|key| !real.contains_key(*key)).collect();
        assert!(
            missing.is_empty() && ghosts.is_empty(),
            "{}: its client forgot {missing:?}, believes {ghosts:?}",
            node.name
        );
        live.extend(real.into_iter().map(|(key, ask)| (key, (Name::from(&node.name), ask))));
    }
    let now = app.deciding.clock.now();
    for (tenant, _) in TENANTS {
        let table = app.deciding.engine.sessions(tenant, &SessionFilter::default(), "", usize::MAX).unwrap();
        let table: BTreeMap<Key, _> =
            table.into_iter().map(|view| ((tenant.into(), view.session.clone()), view)).collect();
        let wanted: BTreeMap<_, _> = live.iter().filter(|((own, _), _)| own == tenant).collect();
        let missing: Vec<_> = wanted.keys().filter(|key| !table.contains_key(**key)).collect();
        let ghosts: Vec<_> = table.iter().filter(|(key, _)| !wanted.contains_key(key)).collect();
        assert!(missing.is_empty() && ghosts.is_empty(), "{tenant}: the daemon lacks {missing:?}, believes {ghosts:?}");
        let mut seated: BTreeSet<&str> = BTreeSet::new();
        for (key, (node, ask)) in wanted {
            let view = &table[key];
            let subject = ask.subject.as_deref().unwrap_or("");
            assert_eq!((view.subject.as_str(), &view.node, view.kind), (subject, node, ask.kind), "{key:?}");
            assert_eq!((view.counts, view.orphan), (counts(ask), false), "{key:?}: {view:?}");
            if counts(ask) {
                seated.insert(subject);
            }
        }
        let held = app.deciding.engine.tenant(now, tenant).unwrap().held;
        assert_eq!(held as usize, seated.len(), "{tenant}: seats held, and people who need one");
    }
    live.len()
}

/// While nothing goes wrong, what the daemon said yes to is there until it is given back.
pub(crate) fn kept(site: &Site, nodes: &[Rc<Pbx>]) {
    let app = site.app();
    for node in nodes {
        for (tenant, session) in node.granted() {
            assert!(
                app.deciding.engine.session(&tenant, &session).is_some(),
                "{}: {session} was granted and is lost",
                node.name
            );
        }
    }
}

fn key(ask: &Ask) -> Key {
    (ask.tenant.clone(), ask.session.clone().unwrap_or_default())
}

/// Rule book B and C, with every key at its default.
fn counts(ask: &Ask) -> bool {
    match ask.kind {
        Kind::Desktop | Kind::Mobile | Kind::Guest => true,
        Kind::Phone | Kind::Connector => false,
        Kind::Call => ask.direction != Some(Direction::Inbound) && ask.leg == Leg::Originate,
    }
}
