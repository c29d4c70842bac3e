//! A folder that hangs while it is read: time goes on, and what is booked comes into force (J13, H5).

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use chrono::DateTime;
use tokio::sync::oneshot;
use usherd::daemon::app::reload_request::{Outcome, Request};
use usherd::daemon::config::{Attempt, Files, Removals};
use usherd::daemon::metrics::ReloadTrigger;

use crate::daemon::World;

fn paid(seats: u32, more: &str) -> String {
    format!("kind = \"paid\"\nstart = \"2026-01-01\"\nseats = {seats}\n{more}")
}

/// Files that say that somebody reads them, and answer only when they are let go.
struct Hangs(Sender<()>, Receiver<()>);

impl Files for Hangs {
    fn read(&self, _: &Path, _: usize) -> Result<Vec<u8>, String> {
        self.0.send(()).unwrap();
        let _ = self.1.recv();
        Err("cannot be read".to_owned())
    }

    fn list(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Err("cannot be read".to_owned())
    }
}

/// Reads in the turn of all reloads until it is let go: every other one hangs meanwhile, as on a mount that hangs.
fn hang(world: &World) -> (Sender<()>, JoinHandle<()>) {
    let ((go, gone), (reads, read)) = (channel(), channel());
    let app = world.app().clone();
    let reader = std::thread::spawn(move || {
        let attempt = Attempt::asked(DateTime::UNIX_EPOCH, false);
        let running = &app.configuration.running;
        let _lock = running.lock();
        assert!(running.candidate(&Hangs(reads, gone), &attempt, |_| None).is_err());
    });
    read.recv().unwrap();
    (go, reader)
}

/// Asks for a reload, and waits until it has begun.
fn begin(world: &World) -> oneshot::Receiver<Outcome> {
    let (reply, outcome) = oneshot::channel();
    let (trigger, actor) = (ReloadTrigger::Signal, "test".to_owned());
    let removals = Removals::Delayed;
    let request =
        Request { trigger, force: false, removals, dry_run: false, actor, note: None, reply: Some(reply), sync: None };
    world.app().configuration.reloads.try_send(request).unwrap();
    world.wait("it to begin", || is_queue_empty(world));
    outcome
}

fn is_queue_empty(world: &World) -> bool {
    world.app().configuration.reloads.capacity() == world.app().configuration.reloads.max_capacity()
}

#[test]
fn a_reload_that_hangs_stops_nothing_that_is_booked() {
    let change = "[[change]]\neffective_at = \"2026-12-01\"\nseats = 16\n";
    let world = World::start("2026-11-30T22:59:00Z", &[("acme", &paid(10, change)), ("gone", &paid(1, ""))]);
    std::fs::remove_file(world.path().join("tenants.d/gone.toml")).unwrap();
    world.wait("the watch", || world.app().configuration.running.get().away.len() == 1);
    let (go, reader) = hang(&world);
    let outcome = begin(&world);
    world.until("2026-11-30T23:00:00Z");
    assert_eq!(world.look("acme"), "active 16 0", "at its second");
    for _ in 0..3 {
        world.after(1);
        world.step(7_200);
        world.step(-7_200);
    }
    assert!(is_queue_empty(&world), "that a removal is due is no reason for one reload after the other");
    go.send(()).unwrap();
    reader.join().unwrap();
    outcome.blocking_recv().unwrap().unwrap();
    assert_eq!(world.look("acme"), "active 16 0");
    world.after(1);
    world.wait("the removal", || world.app().configuration.running.get().tenants.len() == 1);
    let mut told = world.told_all("subscription", 1);
    told.retain(|told| told.starts_with("acme: "));
    assert_eq!(told, ["acme: a booked change took effect: 16 seats, before 10"], "once");
}

#[test]
fn dates_due_while_files_hung_are_reported_once() {
    let change = "[[change]]\neffective_at = \"2026-12-01\"\nseats = 16\n";
    let world = World::start("2026-11-30T22:59:00Z", &[("acme", &paid(10, change)), ("beta", &paid(1, ""))]);
    let (go, reader) = hang(&world);
    let outcome = begin(&world);
    // Nothing of it is read yet.
    world.write("beta", &paid(2, ""));
    world.until("2026-11-30T23:00:00Z");
    go.send(()).unwrap();
    reader.join().unwrap();
    outcome.blocking_recv().unwrap().unwrap();
    assert_eq!((world.look("acme"), world.look("beta")), ("active 16 0".to_owned(), "active 2 0".to_owned()));
    let told = world.told_all("subscription", 1);
    assert_eq!(told, ["acme: a booked change took effect: 16 seats, before 10"]);
}
