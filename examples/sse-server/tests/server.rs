//! The server over real sockets.

#![cfg(unix)]

mod harness;

use std::io::Write;
use std::net::TcpStream as StdStream;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Server, command, patiently};

/// More than the sockets of a client that does not read can take in a few events.
const LARGE: usize = 16_000;

fn large() -> Vec<u8> {
    vec![b'x'; LARGE]
}

/// Publishes large events until so many were dropped; `[delivered, dropped]`.
async fn flood(server: &Server, path: &str, drops: u64) -> [u64; 2] {
    let mut tally = [0, 0];
    while tally[1] < drops {
        let [delivered, dropped, no_client] = server.publish(path, large()).await;
        assert_eq!(no_client, 0);
        tally = [tally[0] + delivered, tally[1] + dropped];
    }
    tally
}

/// A client that never reads, when all that the sockets can take is taken: no more is delivered.
async fn stuck(server: &Server) -> StdStream {
    let mut stream = StdStream::connect(server.address).unwrap();
    stream.write_all(b"GET /events/stuck HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    server.until(|now| now.at("clients") == 1).await;
    let mut in_a_row = 0;
    while in_a_row < 100 {
        let [_, dropped, _] = server.publish("/publish/stuck", large()).await;
        in_a_row = if dropped == 1 { in_a_row + 1 } else { 0 };
    }
    stream
}

#[tokio::test]
async fn events_reach_their_session_and_those_for_all_reach_all() {
    let server = Server::start(&[]);
    let mut alice = [server.listen("/events/alice").await, server.listen("/events/alice").await];
    let mut bob = server.listen("/events/bob").await;
    assert_eq!(server.publish("/publish/alice", "one").await, [2, 0, 0]);
    assert_eq!(server.publish("/publish/bob", "two\nlines").await, [1, 0, 0]);
    assert_eq!(server.publish("/publish", "for all").await, [3, 0, 0]);
    for client in &mut alice {
        assert_eq!(client.event().await.unwrap(), "one");
        assert_eq!(client.event().await.unwrap(), "for all");
    }
    assert_eq!(bob.event().await.unwrap(), "two\nlines");
    assert_eq!(bob.event().await.unwrap(), "for all");
    let snapshot = server.snapshot().await;
    assert_eq!(snapshot.at("delivered"), 6);
    assert_eq!(snapshot.at("clients"), 3);
    assert_eq!(snapshot.at("sessions_connected"), 2);
    assert_eq!(snapshot.at("len"), 0);
}

#[tokio::test]
async fn names_are_decoded() {
    let server = Server::start(&[]);
    let mut client = server.listen("/events/a%2Fb%20%C3%A9").await;
    assert_eq!(server.publish("/publish/a%2fb%20%c3%a9", "x").await, [1, 0, 0]);
    assert_eq!(client.event().await.unwrap(), "x");
}

#[tokio::test]
async fn a_slow_client_misses_exactly_what_is_counted() {
    let server = Server::start(&["--buffer", "4"]);
    let mut slow = server.listen("/events/slow").await;
    let mut fast = server.listen("/events/fast").await;
    let [delivered, dropped] = flood(&server, "/publish/slow", 100).await;
    assert_eq!(dropped, 100);
    // It harms nobody else.
    assert_eq!(server.publish("/publish/fast", "quick").await, [1, 0, 0]);
    assert_eq!(fast.event().await.unwrap(), "quick");
    let snapshot = server.snapshot().await;
    assert_eq!(snapshot.session("slow"), Some([100, 0]));
    assert_eq!(snapshot.at("counted/drops"), 100);
    assert_eq!(snapshot.at("totals/drops/live"), 100);
    // It gets all that was delivered, whole, and then what comes next.
    for _ in 0..delivered {
        assert_eq!(slow.event().await.unwrap().len(), LARGE);
    }
    assert_eq!(server.publish("/publish/slow", "next").await, [1, 0, 0]);
    assert_eq!(slow.event().await.unwrap(), "next");
}

/// The drops of which the log has a warning for this session, in order.
fn warned(log: &str, session: &str) -> Vec<u64> {
    let session = format!("session=\"{session}\"");
    log.lines()
        .filter(|line| line.contains("WARN") && line.contains(&session))
        .map(|line| {
            let (_, rest) = line.split_once("drops=").unwrap();
            rest.split(' ').next().unwrap().parse().unwrap()
        })
        .collect()
}

#[tokio::test]
async fn a_warning_at_each_power_of_two_once_per_life() {
    let server = Server::start(&["--buffer", "1"]);
    for _life in 0..2 {
        let slow = server.listen("/events/slow").await;
        let other = server.listen("/events/other").await;
        flood(&server, "/publish/slow", 40).await;
        drop((slow, other));
        server.until(|now| now.at("clients") == 0).await;
    }
    let log = server.stop().await;
    assert_eq!(warned(&log, "slow"), [1, 2, 4, 8, 16, 32, 1, 2, 4, 8, 16, 32]);
    assert!(warned(&log, "other").is_empty());
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::start(&[]);
    assert_eq!(server.publish("/publish/gone", "x").await, [0, 0, 1]);
    assert_eq!(server.publish("/publish/gone", "x").await, [0, 0, 1]);
    let snapshot = server.snapshot().await;
    assert_eq!(snapshot.at("counted/no_client"), 2);
    assert_eq!(snapshot.at("totals/no_client/live"), 2);
    assert_eq!(snapshot.at("len"), 1);
}

#[tokio::test]
async fn no_name_is_the_missing_session() {
    let server = Server::start(&["--buffer", "1"]);
    assert_eq!(server.publish("/publish/", "x").await, [0, 0, 1]);
    // For all, and there is none.
    assert_eq!(server.publish("/publish", "x").await, [0, 0, 1]);
    assert_eq!(server.snapshot().await.at("len"), 1);
    let mut clients = Vec::new();
    for path in ["/events", "/events/", "/events/__missing__"] {
        clients.push(server.listen(path).await);
    }
    assert_eq!(server.publish("/publish/", "y").await, [3, 0, 0]);
    for client in &mut clients {
        assert_eq!(client.event().await.unwrap(), "y");
    }
    let [_, drops] = flood(&server, "/publish/", 1).await;
    assert_eq!(server.snapshot().await.session("__missing__"), Some([drops, 2]));
}

#[tokio::test]
async fn the_last_client_clears_the_counters_and_no_other_does() {
    let server = Server::start(&["--buffer", "1"]);
    let first = server.listen("/events/a").await;
    let [_, mut drops] = flood(&server, "/publish/a", 5).await;
    let second = server.listen("/events/a").await;
    drop(first);
    server.until(|now| now.at("clients") == 1).await;
    assert_eq!(server.snapshot().await.session("a"), Some([drops, 0]));
    drops += flood(&server, "/publish/a", 5).await[1];
    assert_eq!(server.snapshot().await.session("a"), Some([drops, 0]));
    drop(second);
    let after = server.until(|now| now.at("clients") == 0).await;
    assert_eq!(after.session("a"), None);
    assert_eq!(after.at("len"), 0);
    assert_eq!(after.at("sessions_connected"), 0);
    // Cleared, not forgotten.
    assert_eq!(after.at("totals/drops/removed"), drops);
    assert_eq!(after.at("counted/drops"), drops);
}

async fn refused(response: reqwest::Response, status: u16) -> String {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    let error: Value = response.json().await.unwrap();
    error["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_beyond_a_limit_is_refused_with_a_reason() {
    let server = Server::start(&[]);
    let [longest, longer] = [128, 129].map(|n| "n".repeat(n));
    assert_eq!(server.publish(&format!("/publish/{longest}"), "x").await, [0, 0, 1]);
    for path in ["/publish/", "/events/"] {
        for name in [&longer, "a%00b", "a%0Ab", "%FF"] {
            let path = format!("{path}{name}");
            let response = match path.starts_with("/publish") {
                true => server.post(&path, "x").await,
                false => server.get(&path).await,
            };
            assert!(!refused(response, 400).await.is_empty());
        }
    }
    // 43 times three bytes: the limit is on bytes, after decoding.
    let wide = "%E2%82%AC".repeat(43);
    assert!(refused(server.get(&format!("/events/{wide}")).await, 400).await.contains("128"));

    // As it goes out: "data: " and two line feeds are eight bytes, and seven for each line more.
    for (most, more) in [("x".repeat(16_376), "x"), ("\n".repeat(2339), "\n")] {
        assert_eq!(server.publish("/publish/a", most.clone()).await, [0, 0, 1]);
        let error = refused(server.post("/publish/a", most + more).await, 413).await;
        assert!(error.contains("16384"));
    }
    let error = refused(server.post("/publish/a", vec![b'x'; 16_385]).await, 413).await;
    assert!(error.contains("16384"));
    refused(server.post("/publish/a", "").await, 400).await;
    refused(server.post("/publish/a", b"\xff".as_slice()).await, 400).await;

    refused(server.get("/nowhere").await, 404).await;
    refused(server.post("/publish/a/b", "x").await, 404).await;
    let response = server.get("/publish/a").await;
    assert_eq!(response.headers()["allow"], "POST");
    refused(response, 405).await;
    // None of them was counted.
    assert_eq!(server.snapshot().await.at("counted/no_client"), 3);

    let server = Server::start(&["--max-event", "65536"]);
    assert_eq!(server.publish("/publish/a", vec![b'x'; 65_528]).await, [0, 0, 1]);
    refused(server.post("/publish/a", vec![b'x'; 65_529]).await, 413).await;
}

#[tokio::test]
async fn pages_of_other_origins_may_not_publish() {
    let server = Server::start(&[]);
    let post = async |path: &str, origin: &str| {
        let request = server.http.post(server.url(path)).header("origin", origin).body("x");
        patiently(request.send()).await.unwrap()
    };
    let own = server.address.to_string();
    for path in ["/publish", "/publish/", "/publish/a"] {
        for other in ["https://evil.example", "http://127.0.0.1", "null", "", &own] {
            let error = refused(post(path, other).await, 403).await;
            assert!(error.contains("origin"), "{error}");
        }
        for scheme in ["http", "https"] {
            assert_eq!(post(path, &format!("{scheme}://{own}")).await.status(), 200);
        }
    }
    assert_eq!(server.snapshot().await.at("published"), 6);
    // What only reads, the browser's own rules are enough for.
    let request = server.http.get(server.url("/healthz")).header("origin", "null");
    assert_eq!(patiently(request.send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn asking_for_the_head_of_a_stream_is_not_joining() {
    let server = Server::start(&["--max-clients", "1"]);
    server.publish("/publish/a", "x").await;
    let client = server.listen("/events/b").await;
    for path in ["/events", "/events/", "/events/a"] {
        let response = patiently(server.http.head(server.url(path)).send()).await.unwrap();
        // Even though all places are taken.
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
    }
    drop(client);
    server.until(|now| now.at("clients") == 0).await;
    let response = patiently(server.http.head(server.url("/events/a")).send()).await.unwrap();
    assert_eq!(response.status(), 200);
    let snapshot = server.snapshot().await;
    assert_eq!((snapshot.at("len"), snapshot.at("stats/removed")), (1, 0));
}

#[tokio::test]
async fn places_are_limited() {
    let server = Server::start(&["--max-clients", "2"]);
    let first = server.listen("/events/a").await;
    let _second = server.listen("/events/b").await;
    let response = server.get("/events/c").await;
    assert_eq!(response.headers()["retry-after"], "5");
    refused(response, 503).await;
    // Publishing and looking need no place.
    assert_eq!(server.publish("/publish", "x").await, [2, 0, 0]);
    drop(first);
    server.until(|now| now.at("clients") == 1).await;
    server.listen("/events/c").await;
}

/// A client is an open file, and the usual limit is less than `--max-clients` is.
#[tokio::test]
async fn more_clients_than_files_that_are_allowed_unasked() {
    let server = Server::start_with_files(64, 4096, &["--max-clients", "100"]);
    let mut clients = Vec::new();
    for _ in 0..100 {
        clients.push(server.listen("/events/a").await);
    }
    assert_eq!(server.snapshot().await.at("clients"), 100);
    assert!(!server.stop().await.contains("open files"));
    let server = Server::start_with_files(64, 128, &["--max-clients", "100"]);
    let log = server.stop().await;
    assert!(log.contains("fewer open files than --max-clients needs"), "{log}");
}

/// Sends bytes as they are; what comes back until the server closes.
async fn raw(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn malformed_requests_are_refused_and_harm_nobody() {
    let server = Server::start(&[]);
    let mut client = server.listen("/events/a").await;
    for request in [
        b"\x16\x03\x01\x02\x00\x01\x00\x01".as_slice(),
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /publish/a HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /publish/a HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n",
    ] {
        let answer = raw(&server, request).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
    }
    let chunks = b"POST /publish/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n";
    let answer = raw(&server, chunks).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    let huge = format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000));
    let answer = raw(&server, huge.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 "), "{answer}");
    // Half a request, and gone.
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"POST /publish/a HTTP/1.1\r\ncontent-length: 9\r\n\r\nhal").await.unwrap();
    drop(half);
    assert_eq!(server.publish("/publish/a", "still here").await, [1, 0, 0]);
    assert_eq!(client.event().await.unwrap(), "still here");
    assert!(!server.stop().await.contains("panicked"));
}

#[tokio::test]
async fn a_hundred_thousand_sessions_from_one_address() {
    const SESSIONS: u64 = 100_000;
    const BATCH: u64 = 500;
    const ANSWER: &[u8] = br#"{"delivered":0,"dropped":0,"no_client":1}"#;
    let server = Server::start(&["--capacity", "2048"]);
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let mut tally = 0;
    for batch in 0..SESSIONS / BATCH {
        let mut requests = Vec::new();
        for n in batch * BATCH..(batch + 1) * BATCH {
            let head = format!("POST /publish/one-off-{n} HTTP/1.1\r\nhost: x\r\n");
            requests.extend_from_slice(head.as_bytes());
            requests.extend_from_slice(b"content-length: 1\r\n\r\nx");
        }
        let (mut reading, mut writing) = stream.split();
        let read = async {
            let mut answers = Vec::new();
            loop {
                let found = answers.windows(ANSWER.len()).filter(|part| *part == ANSWER).count();
                if found as u64 == BATCH {
                    return BATCH;
                }
                assert!(reading.read_buf(&mut answers).await.unwrap() > 0);
            }
        };
        let (written, read) =
            patiently(async { tokio::join!(writing.write_all(&requests), read) }).await;
        written.unwrap();
        tally += read;
        if batch % 20 == 0 {
            assert!(server.snapshot().await.at("len") <= 2048);
        }
    }
    let snapshot = server.snapshot().await;
    assert_eq!(tally, SESSIONS);
    assert_eq!(snapshot.at("counted/no_client"), tally);
    assert_eq!(snapshot.at("totals/no_client/recorded"), tally);
    assert_eq!(snapshot.at("totals/no_client/evicted"), tally - 2048);
    assert_eq!(snapshot.at("len"), 2048);
    // Five standard errors of the estimate.
    assert!(snapshot.at("unbounded/sessions").abs_diff(SESSIONS) < SESSIONS * 41 / 1000);
}

#[tokio::test]
async fn clients_that_break_off_in_the_middle_of_a_write_leave_nothing_behind() {
    let server = Server::start(&["--buffer", "2"]);
    let mut drops = 0;
    for round in 0..20 {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut stream = StdStream::connect(server.address).unwrap();
            let path = format!("/events/torn-{}", round % 3);
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            clients.push(stream);
        }
        server.until(|now| now.at("clients") == 4).await;
        let path = format!("/publish/torn-{}", round % 3);
        drops += flood(&server, &path, 8).await[1];
        // Unread data is pending, so that closing resets the connection.
        drop(clients);
        server.until(|now| now.at("clients") == 0).await;
    }
    let snapshot = server.snapshot().await;
    assert_eq!(snapshot.at("sessions_connected"), 0);
    assert_eq!(snapshot.at("len"), 0);
    assert_eq!(snapshot.at("totals/drops/removed"), drops);
    assert_eq!(snapshot.at("counted/drops"), drops);
}

#[tokio::test]
async fn a_signal_ends_the_streams_and_the_process() {
    for name in ["TERM", "INT"] {
        let server = Server::start(&[]);
        let mut client = server.listen("/events/a").await;
        let mut page = server.listen("/api/live").await;
        server.publish("/publish/a", "last").await;
        server.signal(name);
        assert_eq!(client.event().await.unwrap(), "last");
        assert_eq!(client.event().await, None);
        while page.event().await.is_some() {}
        let (status, log) = server.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_cannot_hold_the_server_up() {
    let server = Server::start(&["--buffer", "1"]);
    let _stuck = stuck(&server).await;
    let log = server.stop().await;
    assert!(log.contains("cut off"), "{log}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let server = Server::start(&["--buffer", "1"]);
    let _stuck = stuck(&server).await;
    server.signal("INT");
    // When the listener is closed, the first signal has been taken.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.signal("INT");
    let (status, log) = server.ended().await;
    assert_eq!(status.code(), Some(130), "{log}");
}

#[test]
fn what_cannot_be_started_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = command(&["--port", &port]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("taken") && text.contains("--port"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");

    let most = usize::MAX.to_string();
    for flags in [
        ["--capacity", "0"],
        ["--capacity", &most],
        ["--buffer", "0"],
        ["--max-clients", "0"],
        ["--max-event", "63"],
        ["--max-event", "1048577"],
        ["--idle-ttl", "soon"],
        ["--idle-ttl", "0s"],
        ["--port", "65536"],
        ["--bind", "nowhere"],
        ["--demo-rate", "5"],
        ["--nonsense", "1"],
    ] {
        let output = command(&flags).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {text}");
        assert!(text.starts_with("error: ") && !text.contains("panicked"), "{text}");
    }
}

#[tokio::test]
async fn the_page_and_what_it_is_drawn_from() {
    let server = Server::start(&["--capacity", "7"]);
    let page = server.get("/").await;
    assert_eq!(page.status(), 200);
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
    let mut live = server.listen("/api/live").await;
    let mut frames = Vec::new();
    while frames.len() < 3 {
        let frame = live.frame().await.unwrap();
        frames.extend(frame.starts_with("event: ").then_some(frame));
    }
    assert!(frames[0].starts_with("event: history\n"));
    let view = frames[2].strip_prefix("event: view\ndata: ").unwrap();
    let view: Value = serde_json::from_str(view).unwrap();
    assert_eq!(view["capacity"], 7);
    assert_eq!(server.get("/healthz").await.text().await.unwrap(), "ok\n");
}

#[tokio::test]
async fn metrics_have_the_largest_sessions_and_one_series_for_the_rest() {
    let server = Server::start(&["--linger", "0s"]);
    let scrape = async || {
        let response = server.get("/metrics").await;
        let content = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(content, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.text().await.unwrap()
    };
    let has =
        |text: &str, line: &str| assert!(text.lines().any(|one| one == line), "{line}: {text}");
    for n in 0..100 {
        server.publish(&format!("/publish/one-off-{n}"), "x").await;
    }
    server.publish("/publish/quo%22te%5C", "x").await;
    let text = scrape().await;
    assert!(text.ends_with("# EOF\n"));
    has(&text, "sse_no_client_total{other=\"true\"} 101");
    let labelled = |text: &str| text.matches("sse_no_client_total{session=").count();
    assert_eq!(labelled(&text), 20);
    // From its first scrape on, a session among the largest has what is added.
    for _ in 0..5 {
        server.publish("/publish/quo%22te%5C", "x").await;
    }
    scrape().await;
    server.publish("/publish/quo%22te%5C", "x").await;
    let text = scrape().await;
    assert!(text.contains("sse_no_client_total{session=\"quo\\\"te\\\\\"}"), "{text}");
    has(&text, "sse_no_client_recorded_total 107");
    has(&text, "sse_drops_recorded_total 0");
    has(&text, "sse_drops_keys 101");
    has(&text, "sse_published_total 107");
    has(&text, "sse_delivered_total 0");
    has(&text, "sse_clients 0");
    has(&text, "sse_clients_limit 10000");
    assert!(text.contains("\nprocess_resident_memory_bytes "));
}

/// Of two readers, neither misses what the other saw.
#[tokio::test]
async fn series_linger_for_a_second_reader() {
    let sample = async |server: &Server, labels: &str| {
        let text = server.get("/metrics").await.text().await.unwrap();
        let name = format!("sse_no_client_total{{{labels}}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.map(|value| value.parse::<u64>().unwrap())
    };
    for (linger, grown, gone) in [("0s", 2, None), ("1h", 0, Some(0))] {
        let server = Server::start(&["--linger", linger]);
        server.publish("/publish/a", "x").await;
        assert_eq!(sample(&server, "session=\"a\"").await, Some(0));
        for _ in 0..2 {
            server.publish("/publish/a", "x").await;
        }
        assert_eq!(sample(&server, "session=\"a\"").await, Some(grown), "{linger}");
        assert_eq!(sample(&server, "other=\"true\"").await, Some(3 - grown));
        // The last client's leaving removes the session's counters.
        drop(server.listen("/events/a").await);
        server.until(|now| now.at("stats/removed") == 1).await;
        assert_eq!(sample(&server, "session=\"a\"").await, Some(grown));
        assert_eq!(sample(&server, "session=\"a\"").await, gone, "{linger}");
    }
}

#[tokio::test]
async fn the_demo_shows_every_way_to_go() {
    let flags =
        ["--demo", "--demo-rate", "400", "--capacity", "128", "--idle-ttl", "1s", "--buffer", "1"];
    let server = Server::start(&flags);
    let paths =
        ["stats/evicted", "stats/expired", "stats/removed", "counted/drops", "counted/no_client"];
    let snapshot = server.until(|now| paths.iter().all(|path| now.at(path) > 0)).await;
    assert!(snapshot.at("len") <= 128);
    assert!(snapshot.at("clients") > 0);
}
