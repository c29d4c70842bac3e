//! Bodies that are begun and not ended: together they have a budget, and who sends whole ones never notices.

use super::*;

const BUDGET: usize = 512 * 1024;
/// Most bytes that clients may hold together of whom no node was heard.
const OF_STRANGERS: u64 = BUDGET as u64 / 2;
const HALF: usize = 32 * 1024;

fn small_budget() -> Limits {
    let (body_deadline, answer_deadline) = (Duration::from_secs(3), Duration::from_secs(10));
    Limits { bodies_bytes_max: BUDGET, body_deadline, answer_deadline, ..short() }
}

fn very_small_budget() -> Limits {
    Limits { bodies_bytes_max: 64 * 1024, ..small_budget() }
}

/// The beginning of a body of 64 KiB.
fn half_a_body() -> Vec<u8> {
    let head = format!("POST / HTTP/1.1\r\nHost: u\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n");
    [head.as_bytes(), &[b'x'; HALF]].concat()
}

hostile!(unfinished_bodies_hold_no_more_than_their_budget, Http1, small_budget(), |server| {
    let mut clients = Vec::new();
    for begun in 1..=100 {
        clients.push(server.send(STRANGER, &half_a_body()).await);
        // For four there is room, however they grow: without them, many at once would refuse each other.
        if begun <= 4 {
            until("a body to be held", || server.edge.bodies().used() >= begun * HALF as u64).await;
        }
    }
    // Either it is held, or it was told to come again: nobody else is left.
    let mut refused = 0;
    let mut all = Vec::new();
    for client in clients {
        all.push(async move {
            let mut client = client;
            until_closed(&mut client).await
        });
    }
    let watching = async {
        let mut most = 0;
        until("the deadline of a body", || {
            most = most.max(server.edge.bodies().used());
            server.stats.ended_by(Deadline::Body) > 0
        })
        .await;
        most
    };
    let crowd = async {
        for one in all {
            let answer = one.await;
            assert!(answer.starts_with("HTTP/1.1 503 ") || answer.starts_with("HTTP/1.1 408 "), "{answer}");
            refused += u32::from(answer.contains("request_bodies_bytes_max"));
        }
    };
    let meanwhile = async {
        let whole = "POST / HTTP/1.1\r\nHost: u\r\nContent-Length: 100\r\n\r\n".to_owned() + &"y".repeat(100);
        let mut other = server.connect(STRANGER).await;
        assert_eq!(ask(&mut other, &whole).await, (200, "100".into()), "a whole body needs no room");
        let mut node = server.connect(NODE).await;
        assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
        node.write_all(&half_a_body()).await.unwrap();
        // On a busy machine the crowd may be at its deadline meanwhile, and hold nothing any more.
        let is_beyond = || server.edge.bodies().used() > OF_STRANGERS || server.stats.ended_by(Deadline::Body) > 0;
        until("the half of the node to be held", is_beyond).await;
        let rest = "x".repeat(BODY_BYTES_MAX - HALF);
        assert_eq!(ask(&mut node, &rest).await, (200, BODY_BYTES_MAX.to_string()), "a node has a share for itself");
    };
    let (most, (), ()) = tokio::join!(watching, crowd, meanwhile);
    println!("at most {most} bytes, {refused} of 100 refused");
    assert!(refused > 80, "{refused}");
    assert!(most > 0 && most <= BUDGET as u64, "{most}");
    server.wait_until_idle().await;
    assert_eq!(server.edge.bodies().used(), 0, "all of it is given back");
});

hostile!(bodies_of_one_connection_share_the_budget_too, H2c, very_small_budget(), |server| {
    // Seven streams, each with the beginning of a body: as much as the window of the connection allows.
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..15_u8).step_by(2) {
        bytes.extend_from_slice(b"\0\0\x03\x01\x04\0\0\0");
        bytes.push(stream);
        bytes.extend_from_slice(b"\x83\x86\x84");
        bytes.extend_from_slice(b"\0\x20\0\0\0\0\0\0");
        bytes.push(stream);
        bytes.extend_from_slice(&[b'x'; 0x2000]);
    }
    let stream = server.connect(STRANGER).await;
    let (mut reading, mut writing) = stream.into_split();
    let mut most = 0;
    let watched = until("the deadlines of four bodies", || {
        most = most.max(server.edge.bodies().used());
        server.stats.ended_by(Deadline::Body) >= 4
    });
    let _ = tokio::join!(timeout(PATIENCE, writing.write_all(&bytes)), watched, async {
        let mut some = [0; 4_096];
        while server.stats.ended_by(Deadline::Body) < 4 && reading.read(&mut some).await.is_ok_and(|read| read > 0) {}
    });
    assert!(most > 0 && most <= 32 * 1024, "{most}");
    assert_eq!(server.stats.ended_by(Deadline::Body), 4, "the other three had no room");
    drop((reading, writing));
});
