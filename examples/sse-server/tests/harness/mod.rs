//! The server as a process of its own, and clients over real sockets.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use reqwest::Response;
use serde_json::Value;

/// A wait that takes so long has failed. No assertion is about less.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this should not take so long")
}

pub fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sse-server"));
    command.args(flags).env("RUST_LOG", "info");
    command
}

pub struct Server {
    child: Child,
    stderr: Option<JoinHandle<String>>,
    _stdout: BufReader<ChildStdout>,
    pub address: SocketAddr,
    pub http: reqwest::Client,
}

impl Server {
    /// On a free port.
    pub fn start(flags: &[&str]) -> Self {
        Self::spawn(command(flags))
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut all = String::new();
            stderr.read_to_string(&mut all).unwrap();
            all
        });
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect(&line);
        let address = address.parse().unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { child, stderr: Some(stderr), _stdout: stdout, address, http }
    }

    /// Of a system that allows so many open files until a process asks for more, and then so many.
    #[cfg(unix)]
    pub fn start_with_files(soft: u64, hard: u64, flags: &[&str]) -> Self {
        let limited = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let server = command(flags);
        let mut command = Command::new("sh");
        command.arg("-c").arg(limited).arg(server.get_program()).args(server.get_args());
        Self::spawn(command)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Response {
        patiently(self.http.get(self.url(path)).send()).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Response {
        patiently(self.http.post(self.url(path)).body(body).send()).await.unwrap()
    }

    /// `[delivered, dropped, no_client]`.
    pub async fn publish(&self, path: &str, event: impl Into<reqwest::Body>) -> [u64; 3] {
        let response = self.post(path, event).await;
        assert_eq!(response.status(), 200);
        let outcome: Value = response.json().await.unwrap();
        ["delivered", "dropped", "no_client"].map(|name| outcome[name].as_u64().unwrap())
    }

    pub async fn snapshot(&self) -> Snapshot {
        Snapshot(self.get("/api/snapshot").await.json().await.unwrap())
    }

    /// Asks until it is so.
    pub async fn until(&self, so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        patiently(async {
            loop {
                let snapshot = self.snapshot().await;
                if so(&snapshot) {
                    return snapshot;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub async fn listen(&self, path: &str) -> Listener {
        let response = self.get(path).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Listener { response, received: Vec::new() }
    }

    #[cfg(unix)]
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end; the exit status, and all of the log.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = patiently(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        (status, self.stderr.take().unwrap().join().unwrap())
    }

    #[cfg(unix)]
    pub async fn stop(self) -> String {
        self.signal("TERM");
        let (status, log) = self.ended().await;
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `/api/snapshot`.
pub struct Snapshot(pub Value);

impl Snapshot {
    /// A number, by its path such as `stats/evicted`.
    pub fn at(&self, path: &str) -> u64 {
        let value = self.0.pointer(&format!("/{path}"));
        value.and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {}", self.0))
    }

    /// `[drops, no_client]` of a session among those with the most drops.
    pub fn session(&self, name: &str) -> Option<[u64; 2]> {
        let top = self.0["top"].as_array().unwrap();
        let one = top.iter().find(|one| one["session"] == name)?;
        Some(["drops", "no_client"].map(|counter| one[counter].as_u64().unwrap()))
    }
}

/// A client of an event stream.
pub struct Listener {
    response: Response,
    received: Vec<u8>,
}

impl Listener {
    /// The next frame as it came, comments included; `None` at the end.
    pub async fn frame(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.received.windows(2).position(|two| two == b"\n\n") {
                let frame = self.received.drain(..end + 2).collect();
                return Some(String::from_utf8(frame).unwrap());
            }
            let chunk = patiently(self.response.chunk()).await.ok()??;
            self.received.extend_from_slice(&chunk);
        }
    }

    /// The data of the next event, as a browser puts it together.
    pub async fn event(&mut self) -> Option<String> {
        loop {
            let frame = self.frame().await?;
            let data: Vec<_> =
                frame.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }
}
