//! A wire between Kamailio and usherd that takes its time: as much as the test says, in each direction.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use usherd::daemon::clock::monotonic_ns;

use crate::wait::pause;

/// The time at which bytes that enter the wire now come out of it.
#[derive(Clone, Copy)]
pub enum Pace {
    /// After this delay.
    After(Duration),
    /// When the test releases them.
    Held,
}

/// One direction of all connections.
struct Lane {
    pace: Mutex<Pace>,
    /// The number of times that held bytes were released.
    let_go: Mutex<u64>,
    opened: Condvar,
}

impl Lane {
    fn new() -> Arc<Self> {
        Arc::new(Lane { pace: Mutex::new(Pace::After(Duration::ZERO)), let_go: Mutex::new(0), opened: Condvar::new() })
    }

    /// The time at which bytes that come now may leave: not before this moment, and not before held bytes were released
    /// so often.
    fn ticket(&self) -> (u64, u64) {
        match *self.pace.lock() {
            Pace::After(delay) => (monotonic_ns() + delay.as_nanos() as u64, 0),
            Pace::Held => (0, *self.let_go.lock() + 1),
        }
    }

    fn wait(&self, (at_ns, times): (u64, u64)) {
        let mut let_go = self.let_go.lock();
        while *let_go < times {
            self.opened.wait(&mut let_go);
        }
        drop(let_go);
        pause(Duration::from_nanos(at_ns.saturating_sub(monotonic_ns())));
    }
}

/// The wire; every connection to it becomes one to usherd.
pub struct Relay {
    /// Its address.
    pub address: SocketAddr,
    questions: Arc<Lane>,
    answers: Arc<Lane>,
}

impl Relay {
    /// One from an address of this test.
    pub fn to(ip: &str, usherd: SocketAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let relay = Relay { address: listener.local_addr().unwrap(), questions: Lane::new(), answers: Lane::new() };
        let (questions, answers) = (Arc::clone(&relay.questions), Arc::clone(&relay.answers));
        std::thread::spawn(move || {
            for asking in listener.incoming().map_while(Result::ok) {
                let Ok(answering) = TcpStream::connect(usherd) else { continue };
                for stream in [&asking, &answering] {
                    stream.set_nodelay(true).unwrap();
                }
                let (back, forth) = (answering.try_clone().unwrap(), asking.try_clone().unwrap());
                carry(asking, answering, Arc::clone(&questions));
                carry(back, forth, Arc::clone(&answers));
            }
        });
        relay
    }

    /// Sets the pace at which questions get to usherd from now on.
    pub fn questions(&self, pace: Pace) {
        *self.questions.pace.lock() = pace;
    }

    /// Sets the pace at which usherd's answers get to Kamailio from now on.
    pub fn answers(&self, pace: Pace) {
        *self.answers.pace.lock() = pace;
    }

    /// Releases the questions that are held; later ones are held as before.
    pub fn let_go(&self) {
        *self.questions.let_go.lock() += 1;
        self.questions.opened.notify_all();
    }
}

/// Moves bytes in their order, and then the end of them, each when its time has come.
fn carry(mut from: TcpStream, mut to: TcpStream, lane: Arc<Lane>) {
    let waiting = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
    let (into, reader) = (Arc::clone(&waiting), Arc::clone(&lane));
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 16_384];
        loop {
            // Whether it was closed or reset is the same to who is at the other end.
            let bytes = from.read(&mut buffer).unwrap_or(0);
            into.0.lock().push_back((reader.ticket(), buffer[..bytes].to_vec()));
            into.1.notify_one();
            if bytes == 0 {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        loop {
            let mut queue = waiting.0.lock();
            while queue.is_empty() {
                waiting.1.wait(&mut queue);
            }
            let Some((ticket, bytes)) = queue.pop_front() else { continue };
            drop(queue);
            lane.wait(ticket);
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                // Who has gone away does not hear of it.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    });
}
