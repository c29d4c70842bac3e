//! Connections that are always ready: a node's answer waits for a round, not for all of them.

use super::*;

const CROWD: usize = 150;
const TURN_GET: &str = "GET /turn HTTP/1.1\r\nHost: u\r\n\r\n";
/// For how long an address on loopback waits at the least that was cut off three times, less what clocks differ by.
const HELD_UP_FOR: Duration = Duration::from_millis(38);

/// How many others have their turn between a node's question and its answer, while a crowd keeps the core busy; the
/// median of some. It has a thread of its own, so that it does not wait for the crowd's. Counted and not timed: other
/// programs on the machine hold up the crowd as well.
async fn answers_of_a_node(server: &Server, hello: Vec<u8>, request: impl Fn(u32) -> Vec<u8> + Send + 'static) -> u64 {
    use std::io::{Read, Write};
    let stream = server.connect(NODE).await.into_std().unwrap();
    let asking = std::thread::spawn(move || {
        let mut stream = stream;
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&hello).unwrap();
        let mut passed = Vec::new();
        for number in 0..16 {
            let before = BUSY_ANSWERED.load(Ordering::Relaxed);
            stream.write_all(&request(number)).unwrap();
            let (mut answer, mut some) = (Vec::new(), [0; 1_024]);
            let answered = loop {
                if let Some(answered) = answered_before(&answer) {
                    break answered;
                }
                let read = stream.read(&mut some).unwrap();
                assert!(read > 0, "the node was cut");
                answer.extend_from_slice(&some[..read]);
            };
            passed.push(answered - before);
        }
        // The first one had to say that it is a node.
        passed.remove(0);
        passed.sort_unstable();
        passed[passed.len() / 2]
    });
    tokio::task::spawn_blocking(move || asking.join().unwrap()).await.unwrap()
}

/// The number in the answer of `/turn`, once it is wholly there.
fn answered_before(answer: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(answer);
    text.split_once("ok ")?.1.split_once(" .")?.0.parse().ok()
}

/// Sends again and again, and reads what comes, until it is over or cut.
async fn keep_busy(mut stream: TcpStream, bytes: Vec<u8>, over: &AtomicBool) {
    let (mut reading, mut writing) = stream.split();
    let read = async {
        let mut some = [0; 16 * 1024];
        while !over.load(Ordering::Relaxed) && reading.read(&mut some).await.is_ok_and(|read| read > 0) {}
    };
    let write = async { while !over.load(Ordering::Relaxed) && writing.write_all(&bytes).await.is_ok() {} };
    tokio::select! { () = read => {}, () = write => {} }
}

async fn with_a_crowd(server: &Server, bytes: &[u8]) -> u64 {
    let over = Arc::new(AtomicBool::new(false));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let stream = server.connect(STRANGER).await;
        let (bytes, over) = (bytes.to_vec(), Arc::clone(&over));
        crowd.spawn(async move { keep_busy(stream, bytes, &over).await });
    }
    until("the crowd to be at it", || server.stats.requests() >= CROWD as u64).await;
    let passed = answers_of_a_node(server, Vec::new(), |_| TURN_GET.into()).await;
    over.store(true, Ordering::Relaxed);
    crowd.abort_all();
    while crowd.join_next().await.is_some() {}
    passed
}

/// All of the crowd once is 150 requests at the least, and eight times that for what one read brings of each.
const PASSED_MAX: u64 = CROWD as u64 / 2;

hostile!(a_node_does_not_wait_for_all_that_pipeline, Http1, |server| {
    let passed = with_a_crowd(&server, &b"GET /busy HTTP/1.1\r\nHost: u\r\n\r\n".repeat(50)).await;
    assert!(passed < PASSED_MAX, "{passed} others had their turn first");
});

#[tokio::test]
async fn a_node_does_not_wait_for_all_streams_of_others() {
    let server = Arc::new(Server::start(short(), Protocol::H2c));
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1_u32..2_000).step_by(2) {
        // GET /busy, and reset at once.
        bytes.extend_from_slice(b"\0\0\x09\x01\x05");
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(b"\x82\x86\x04\x05/busy");
        bytes.extend_from_slice(b"\0\0\x04\x03\0");
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(b"\0\0\0\x08");
    }
    let over = Arc::new(AtomicBool::new(false));
    let mut crowd = tokio::task::JoinSet::new();
    for _ in 0..CROWD {
        let (server, bytes, over) = (Arc::clone(&server), bytes.clone(), Arc::clone(&over));
        crowd.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                keep_busy(server.connect(STRANGER).await, bytes.clone(), &over).await;
            }
        });
    }
    // Most of what they ask is reset before it is their turn; that they came again shows that they are at it.
    until("the crowd to come again", || server.stats.accepted() >= 2 * CROWD as u64).await;
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    let request = |number: u32| {
        let stream = (number * 2 + 1).to_be_bytes();
        [&b"\0\0\x09\x01\x05"[..], &stream, b"\x82\x86\x04\x05/turn"].concat()
    };
    let passed = answers_of_a_node(&server, hello, request).await;
    over.store(true, Ordering::Relaxed);
    crowd.abort_all();
    while crowd.join_next().await.is_some() {}
    assert!(passed < PASSED_MAX, "{passed} others had their turn first");
    server.wait_until_idle().await;
}

hostile!(who_was_cut_off_is_heard_later_and_a_node_never, Http1, |server| {
    const HELD_UP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let mut node = server.connect(NODE).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    for from in [HELD_UP, HELD_UP, HELD_UP, NODE, NODE, NODE] {
        let mut stream = server.send(from, b"GET / HT").await;
        assert_eq!(until_closed(&mut stream).await, "");
    }
    assert_eq!(server.stats.ended_by(Deadline::Head), 6);
    let asked = async |from| {
        // It waits from its connect on.
        let began = monotonic_ns();
        let mut stream = server.connect(from).await;
        assert_eq!(ask(&mut stream, GET).await.0, 200);
        Duration::from_nanos(monotonic_ns() - began)
    };
    assert!(asked(HELD_UP).await >= HELD_UP_FOR, "it does not wait");
    let mut soonest = Duration::MAX;
    for _ in 0..10 {
        soonest = soonest.min(asked(NODE).await);
    }
    // Whoever waits, waits for so long each time.
    assert!(soonest < HELD_UP_FOR, "{soonest:?}");
});
