//! A wire between two programs that takes its time, or is cut: as the test says, in each direction.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use usherd::daemon::clock::monotonic_ns;

use crate::wait::pause;

/// The time at which bytes that enter the wire now come out of it.
#[derive(Clone, Copy)]
pub enum Pace {
    /// After this delay.
    After(Duration),
    /// When the test releases them; as on a link that is cut and whose ends do not know it.
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

    fn let_go(&self) {
        *self.let_go.lock() += 1;
        self.opened.notify_all();
    }
}

/// The connections that there are; nothing while the wire is cut.
type Connections = Arc<Mutex<Option<Vec<Weak<TcpStream>>>>>;

/// The wire; every connection to it becomes one to the program that is asked.
pub struct Relay {
    /// Its address.
    pub address: SocketAddr,
    questions: Arc<Lane>,
    answers: Arc<Lane>,
    connections: Connections,
}

impl Relay {
    /// One from an address of this test.
    pub fn to(ip: &str, asked: SocketAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let relay = Relay {
            address: listener.local_addr().unwrap(),
            questions: Lane::new(),
            answers: Lane::new(),
            connections: Arc::new(Mutex::new(Some(Vec::new()))),
        };
        let (questions, answers) = (Arc::clone(&relay.questions), Arc::clone(&relay.answers));
        let connections = Arc::clone(&relay.connections);
        std::thread::spawn(move || {
            for asking in listener.incoming().map_while(Result::ok) {
                let Ok(answering) = TcpStream::connect(asked) else { continue };
                let ends = [asking, answering].map(Arc::new);
                for stream in &ends {
                    stream.set_nodelay(true).unwrap();
                }
                let mut connections = connections.lock();
                let Some(connections) = &mut *connections else { continue };
                connections.retain(|end| end.strong_count() > 0);
                connections.extend(ends.iter().map(Arc::downgrade));
                let [asking, answering] = ends;
                carry(Arc::clone(&asking), Arc::clone(&answering), Arc::clone(&questions));
                carry(answering, asking, Arc::clone(&answers));
            }
        });
        relay
    }

    /// Sets the pace at which questions get to who is asked from now on.
    pub fn questions(&self, pace: Pace) {
        *self.questions.pace.lock() = pace;
    }

    /// Sets the pace at which answers get to who asks from now on.
    pub fn answers(&self, pace: Pace) {
        *self.answers.pace.lock() = pace;
    }

    /// Releases the questions that are held; later ones are held as before.
    pub fn let_go(&self) {
        self.questions.let_go();
    }

    /// Ends every connection, and each new one at once.
    pub fn cut(&self) {
        let connections = self.connections.lock().take();
        for end in connections.into_iter().flatten().filter_map(|end| end.upgrade()) {
            // An end that was closed is no longer connected.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// Takes connections again, and nothing is held or slow any more: bytes that were held arrive, where their connection
    /// is still there.
    pub fn mend(&self) {
        self.connections.lock().get_or_insert_default();
        for lane in [&self.questions, &self.answers] {
            *lane.pace.lock() = Pace::After(Duration::ZERO);
            lane.let_go();
        }
    }
}

/// Moves bytes in their order, and then the end of them, each when its time has come.
fn carry(from: Arc<TcpStream>, to: Arc<TcpStream>, lane: Arc<Lane>) {
    let waiting = Arc::new((Mutex::new(VecDeque::new()), Condvar::new()));
    let (into, reader) = (Arc::clone(&waiting), Arc::clone(&lane));
    std::thread::spawn(move || {
        let mut buffer = [0_u8; 16_384];
        loop {
            // Whether it was closed or reset is the same to who is at the other end.
            let bytes = (&*from).read(&mut buffer).unwrap_or(0);
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
            if bytes.is_empty() || (&*to).write_all(&bytes).is_err() {
                // Who has gone away does not hear of it.
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
        }
    });
}
