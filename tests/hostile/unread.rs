//! Clients that ask and do not read: what the kernel holds for them, and what is left of it after they were cut.

use usherd::daemon::edge::{Limits, Protocol};

use super::*;

const CLIENTS: usize = 30;
/// Most bytes of our answers that the kernel may hold for one client: twice of what it is told, and a packet beyond.
const QUEUED_BYTES_MAX: u64 = 192 * 1024;

fn patient() -> Limits {
    Limits { write_deadline: Duration::from_secs(2), ..short() }
}

/// The bytes that the kernel holds for the clients of a server and they have not taken, of all sockets.
fn queued_bytes(server: &Server) -> u64 {
    let port = format!(":{:04X}", server.address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let of_line = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let queued = fields.get(4)?.split(':').next()?;
        fields.get(1)?.ends_with(&port).then(|| u64::from_str_radix(queued, 16).unwrap())
    };
    table.lines().skip(1).filter_map(of_line).sum()
}

/// Lets the clients ask, waits until the server can send no more, and then until it has cut them all off.
async fn ask_and_never_read<S: AsyncRead + AsyncWrite + Unpin>(server: &Server, mut clients: Vec<S>, request: &[u8]) {
    for client in &mut clients {
        client.write_all(request).await.unwrap();
        client.flush().await.unwrap();
    }
    let mut most = 0;
    until("all to be cut off", || {
        most = most.max(queued_bytes(server));
        server.stats.ended_by(Deadline::Write) >= clients.len() as u64
    })
    .await;
    assert!(most > 0, "nothing was sent at all");
    assert!(most <= QUEUED_BYTES_MAX * clients.len() as u64, "{most} bytes for {} clients", clients.len());
    server.wait_until_idle().await;
    assert_eq!(queued_bytes(server), 0, "the kernel goes on for who was cut off");
    for client in &mut clients {
        let mut rest = [0; 1_024];
        let ended = async { while client.read(&mut rest).await.is_ok_and(|read| read > 0) {} };
        timeout(PATIENCE, ended).await.expect("it was not told");
    }
}

hostile!(pipelined_and_unread_answers_hold_little_and_are_gone_with_the_cut, Http1, patient(), |server| {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.connect(STRANGER).await);
    }
    ask_and_never_read(&server, clients, b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n".repeat(100).as_slice()).await;
});

hostile!(a_pipelined_request_waits_for_the_answer_before_it, Http1, patient(), |server| {
    let mut stream = server.connect(STRANGER).await;
    stream.write_all(&b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n".repeat(100)).await.unwrap();
    until("it to be cut off", || {
        assert!(server.stats.requests() <= 1, "the second one was answered while the first had not left");
        server.stats.ended_by(Deadline::Write) > 0
    })
    .await;
});

/// Nobody is cut off for reading late, however late a busy machine is.
fn very_patient() -> Limits {
    Limits { write_deadline: PATIENCE, ..short() }
}

hostile!(pipelined_requests_of_who_reads_late_are_all_answered, Http1, very_patient(), |server| {
    let mut stream = server.connect(STRANGER).await;
    let requests = [&b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n"[..], b"GET / HTTP/1.1\r\nHost: u\r\n\r\n"].concat();
    stream.write_all(&requests.repeat(3)).await.unwrap();
    stream.shutdown().await.unwrap();
    // Until the kernel takes no more of the first answer.
    let mut before = 0;
    until("the server to stand", || {
        let queued = queued_bytes(&server);
        std::mem::replace(&mut before, queued) == queued && queued > 0
    })
    .await;
    let all = until_closed(&mut stream).await;
    assert_eq!(all.matches("HTTP/1.1 200").count(), 6);
    assert!(all.len() > 3 * LARGE.len());
});

hostile!(unread_replies_of_commands_hold_little_too, Resp, patient(), |server| {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.connect(STRANGER).await);
    }
    ask_and_never_read(&server, clients, &b"PING\r\n".repeat(1_000)).await;
});

hostile!(unread_streams_of_http2_hold_little_too, H2c, patient(), |server| {
    // A window of a gigabyte for the connection and for each stream: only the kernel holds anything back.
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04\x40\0\0\0".to_vec();
    hello.extend_from_slice(b"\0\0\x04\x08\0\0\0\0\0\x3f\xff\x00\x00");
    for stream in (1..100_u8).step_by(2) {
        // GET, http, and /large as a literal that is not indexed.
        hello.extend_from_slice(b"\0\0\x0a\x01\x05\0\0\0");
        hello.push(stream);
        hello.extend_from_slice(b"\x82\x86\x04\x06/large");
    }
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.connect(STRANGER).await);
    }
    ask_and_never_read(&server, clients, &hello).await;
});

#[tokio::test]
async fn unread_answers_over_tls_hold_little_too() {
    let papers = Papers::new();
    let (certificate, key) = papers.for_name("usherd.test");
    let files = usherd::daemon::edge::tls::TlsFiles {
        certificates: certificate.as_bytes(),
        key: key.as_bytes(),
        client_authorities: None,
        client_certificate_required: false,
    };
    let (acceptor, _) = usherd::daemon::edge::tls::acceptor(&files, Protocol::Http1).unwrap();
    let server = Server::start_with(patient(), Protocol::Http1, Some(acceptor));
    let name = rustls::pki_types::ServerName::try_from("usherd.test").unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let stream = server.connect(STRANGER).await;
        clients.push(papers.connector(None).connect(name.clone(), stream).await.unwrap());
    }
    ask_and_never_read(&server, clients, &b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n".repeat(100)).await;
}

#[tokio::test]
async fn an_unread_unix_socket_holds_little_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("u.sock");
    let socket = listener::bind_unix(&path).unwrap();
    let (shutdown, on_shutdown) = watch::channel(false);
    let local = tokio::task::LocalSet::new();
    let stats: Arc<EdgeStats> = Arc::default();
    let counted = Arc::clone(&stats);
    let serving = async {
        let listener = Listener::unix("unix", socket, Protocol::Http1).unwrap().with_stats(counted);
        serve(listener, Rc::new(Fixed), Arc::new(Edge::new(short())), on_shutdown).await;
    };
    let asking = async {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(&b"GET /large HTTP/1.1\r\nHost: u\r\n\r\n".repeat(100)).await.unwrap();
        until("it to be cut off", || stats.ended_by(Deadline::Write) > 0).await;
        let held = until_closed(&mut stream).await.len();
        assert!(held > 0 && held < 128 * 1024, "{held} bytes");
        shutdown.send(true).unwrap();
    };
    local.run_until(async { tokio::join!(serving, asking) }).await;
}

/// A budget for eight answers of `/own`; the last two are for nodes.
fn few_answers() -> Limits {
    Limits { answers_bytes_max: 8 * OWN_BYTES, write_deadline: PATIENCE, ..short() }
}

hostile!(unread_answers_have_one_budget_and_who_reads_beyond_it_is_told, Http1, few_answers(), |server| {
    const OWN: &str = "GET /own HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n";
    let mut node = server.connect(NODE).await;
    assert_eq!(ask(&mut node, NODE_GET).await.0, 200);
    let mut crowd = Vec::new();
    for number in 1..=12 {
        crowd.push(server.send(STRANGER, OWN.as_bytes()).await);
        until("it to be answered", || server.stats.requests() > number).await;
    }
    let answers = Arc::clone(server.edge.answers());
    assert_eq!((answers.used(), answers.refused()), (6 * OWN_BYTES as u64, 6));
    let told = until_closed(&mut server.send(STRANGER, OWN.as_bytes()).await).await;
    assert!(told.starts_with("HTTP/1.1 503") && told.to_ascii_lowercase().contains("retry-after: 1"), "{told:.300}");
    let small = until_closed(&mut server.send(STRANGER, GET.as_bytes()).await).await;
    assert!(small.starts_with("HTTP/1.1 200"), "what is small is answered: {small:.300}");
    // What may have decided something is told in any case, and a node has room of its own.
    let post = OWN.replace("GET", "POST");
    for (from, request) in [(STRANGER, &*post), (NODE, OWN)] {
        let told = until_closed(&mut server.send(from, request.as_bytes()).await).await;
        assert!(told.starts_with("HTTP/1.1 200") && told.len() > OWN_BYTES, "{told:.300}");
    }
    drop(crowd);
    until("what nobody waits for to be given back", || answers.used() == 0).await;
});
