//! Runs the example `replay` as its users do, and reads what it prints.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

/// The example lies beside the folder of the tests: `target/<profile>/examples/replay`.
fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test's own path");
        let profile = test.ancestors().nth(2).expect("target/<profile>/deps/test");
        build(profile);
        profile.join("examples").join(format!("replay{}", std::env::consts::EXE_SUFFIX))
    })
}

/// Always: which forms of `cargo test` build the example, and not only its unit tests, is not to be
/// relied on.
fn build(folder: &Path) {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--example", "replay", "--profile", profile])
        .arg("--target-dir")
        .arg(folder.parent().expect("target/<profile>"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "the example does not build");
}

/// A folder of its own for each test.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("replay-{test}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).expect("a folder for the test");
    folder
}

fn file(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("a file for the test");
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn trace(keys: &[u64]) -> Vec<u8> {
    keys.iter().flat_map(|key| key.to_le_bytes()).collect()
}

/// What a run left behind.
#[derive(Debug)]
struct Run {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Run {
    /// Without any input, unless files are named.
    fn with(args: &[&str]) -> Self {
        Self::end(start(args, Stdio::null(), Stdio::piped()))
    }

    fn piped(args: &[&str], input: &[u8]) -> Self {
        let mut child = start(args, Stdio::piped(), Stdio::piped());
        let mut stdin = child.stdin.take().expect("its standard input");
        // It may well have stopped at an error before it has read all.
        let _ = stdin.write_all(input);
        drop(stdin);
        Self::end(child)
    }

    fn end(child: Child) -> Self {
        let output = child.wait_with_output().expect("its end");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Ended well, and every line of the balance is right.
    fn fine(self) -> Self {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.balanced()
    }

    fn balanced(self) -> Self {
        let right = self.out.lines().filter(|line| line.starts_with("  ok  "));
        assert_eq!(right.count(), 6, "{}", self.out);
        assert!(!self.out.contains("WRONG"), "{}", self.out);
        self
    }

    /// Ended with code 2, nothing on standard output, and one line that holds each of `words`.
    fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.out, "");
        assert!(self.err.starts_with("error: "), "{}", self.err);
        assert!(!self.err.contains("panicked"), "{}", self.err);
        for word in words {
            assert!(self.err.contains(word), "no `{word}` in: {}", self.err);
        }
        self
    }

    fn says(self, words: &str) -> Self {
        assert!(self.out.contains(words), "no `{words}` in: {}", self.out);
        self
    }

    /// What follows `start` on its line, its columns one blank apart.
    fn line(&self, start: &str) -> String {
        let mut lines = self.out.lines().map(str::trim_start);
        let rest = lines.find_map(|line| line.strip_prefix(start));
        let words: Vec<&str> = rest.expect(start).split_whitespace().collect();
        words.join(" ")
    }

    /// The lines under `Largest keys`, as count and key.
    fn top(&self) -> Vec<(u64, &str)> {
        let mut lines = self.out.lines().skip_while(|line| *line != "Largest keys");
        lines.next();
        lines
            .map_while(|line| line.trim_start().split_once("  "))
            .map(|(count, key)| (number(count), key))
            .collect()
    }

    /// Lives and units of a row under `What ended, and why`.
    fn row(&self, name: &str) -> (u64, u64) {
        let start = format!("  {name} ");
        let line = self.out.lines().find(|line| line.starts_with(&start));
        let mut cells = line.expect(name).split_whitespace().skip(1).map(number);
        (cells.next().expect("lives"), cells.next().expect("units"))
    }

    /// Requests by the tally that is kept outside the store.
    fn requests(&self) -> u64 {
        let line = self.line("ok     recorded = ");
        number(line.split(' ').next().unwrap_or_default())
    }
}

fn start(args: &[&str], stdin: Stdio, stdout: Stdio) -> Child {
    Command::new(binary())
        .args(args)
        .stdin(stdin)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example starts")
}

/// Kills a child that does not end by itself.
#[cfg(unix)]
fn ended_within(mut child: Child, time: Duration) -> Child {
    let begun = std::time::Instant::now();
    while child.try_wait().expect("its state").is_none() {
        if begun.elapsed() > time {
            child.kill().expect("kill");
        }
        thread::sleep(Duration::from_millis(20));
    }
    child
}

fn number(text: &str) -> u64 {
    text.replace(',', "").parse().expect(text)
}

const LOG: &str = "anna\nbert\nanna\ncarl\nanna\nbert\n";
const LOG_TOP: [(u64, &str); 3] = [(3, "anna"), (2, "bert"), (1, "carl")];

#[test]
fn a_log_is_counted_exactly() {
    let log = file(&folder("log"), "keys.log", LOG);
    let run = Run::with(&[&log]).fine();
    assert_eq!(run.top(), LOG_TOP);
    assert_eq!(run.requests(), 6);
    assert_eq!(run.row("live"), (3, 6));
    for name in ["evicted", "expired", "removed"] {
        assert_eq!(run.row(name), (0, 0));
    }
    run.says("6 requests in ")
        .says("hit ratio 50.00 %")
        .says("rejected 0 calls, 0.000 % of all: 0 units")
        .says("3 of 2,048 keys");
}

#[test]
fn a_pipe_is_read_and_an_empty_one_is_an_empty_log() {
    assert_eq!(Run::piped(&[], LOG.as_bytes()).fine().top(), LOG_TOP);
    assert_eq!(Run::piped(&["-"], LOG.as_bytes()).fine().top(), LOG_TOP);
    let empty = Run::piped(&[], b"").fine().says("0 requests in ");
    assert_eq!((empty.requests(), empty.top()), (0, vec![]));
}

#[test]
fn a_cap_of_one_ends_a_life_at_each_change_of_key() {
    let run = Run::piped(&["--capacity", "1"], b"a\nb\nb\na\n").fine();
    assert_eq!(run.top(), [(1, "a")]);
    assert_eq!(run.row("live"), (1, 1));
    assert_eq!(run.row("evicted"), (2, 3));
}

#[test]
fn a_field_of_each_line_is_the_key() {
    let folder = folder("field");
    let log = file(&folder, "access.log", "GET  /a 200\nGET\t/b 200\nPUT /a 201\n");
    let run = Run::with(&["--field", "2", &log]).fine();
    assert_eq!(run.top(), [(2, "/a"), (1, "/b")]);
    let csv = file(&folder, "log.csv", "1,,x\n2,,x\n3,y,x\n");
    let run = Run::with(&["--field", "2", "--delimiter", ",", &csv]).fine();
    assert_eq!(run.top(), [(2, "(empty)"), (1, "y")]);
}

#[test]
fn a_line_without_the_field_stops_the_run_or_is_counted() {
    let folder = folder("missing");
    let first = file(&folder, "first.log", "x 1\nx 1\nx 1\n");
    let second = file(&folder, "second.log", "x 2\nlonely\n");
    let files = [first.as_str(), second.as_str()];
    Run::with(&[&["--field", "2"], &files[..]].concat()).refused(&[
        "second.log, line 2:",
        "1 field,",
        "field 2",
    ]);
    let run = Run::with(&[&["--field", "2", "--skip-missing"], &files[..]].concat());
    let run = run.fine().says("1 line skipped: without the field");
    assert_eq!(run.top(), [(3, "1"), (1, "2")]);
}

#[test]
fn odd_lines_are_told() {
    let log = b"a\r\n\n  \n\xff\nb\x1b[2J\nlast without end";
    let run = Run::piped(&[], log).fine().says("2 lines skipped: blank").says("1 line not UTF-8");
    assert_eq!(run.requests(), 4);
    for key in ["a", "\u{fffd}", "b\\u{1b}[2J", "last without end"] {
        assert!(run.top().contains(&(1, key)), "{}", run.out);
    }
}

#[test]
fn traces_are_read_plain_and_compressed() {
    let folder = folder("traces");
    let bytes = trace(&[7, 7, u64::MAX, 7, 9, 9]);
    let top = [(3, "7"), (2, "9"), (1, "18446744073709551615")];
    let plain = file(&folder, "a.u64", &bytes);
    assert_eq!(Run::with(&[&plain]).fine().top(), top);
    let packed = zstd::encode_all(&bytes[..], 3).expect("zstd");
    let packed = file(&folder, "a.u64.zst", packed);
    assert_eq!(Run::with(&[&packed]).fine().top(), top);
    assert_eq!(Run::with(&[&plain, &packed]).fine().requests(), 12);
    assert_eq!(Run::with(&["--limit", "2", &plain]).fine().top(), [(2, "7")]);
    let log = file(&folder, "a.log.zst", zstd::encode_all(LOG.as_bytes(), 3).expect("zstd"));
    assert_eq!(Run::with(&[&log]).fine().top(), LOG_TOP);
}

#[test]
fn broken_traces_are_refused() {
    let folder = folder("broken");
    let mut bytes = trace(&[1, 2]);
    bytes.extend([1, 2, 3]);
    let cut = file(&folder, "cut.u64", &bytes);
    Run::with(&[&cut]).refused(&["cut.u64", "3 of its bytes", "after 2 keys"]);
    let garbage = file(&folder, "garbage.u64.zst", b"this is not zstd at all");
    Run::with(&[&garbage]).refused(&["garbage.u64.zst"]);
    let keys: Vec<u64> = (0..10_000).collect();
    let mut packed = zstd::encode_all(&trace(&keys)[..], 3).expect("zstd");
    packed.truncate(packed.len() / 2);
    let short = file(&folder, "short.u64.zst", packed);
    for threads in ["1", "2"] {
        Run::with(&["--threads", threads, &short]).refused(&["short.u64.zst, after"]);
    }
}

#[test]
fn what_cannot_be_read_is_refused() {
    let folder = folder("unreadable");
    let log = file(&folder, "a.log", LOG);
    let name = folder.to_str().expect("a path in UTF-8");
    Run::with(&[&log, "nowhere.log"]).refused(&["nowhere.log"]);
    Run::with(&[name]).refused(&[name, "directory"]);
    let packed = file(&folder, "a.log.gz", [0x1f, 0x8b, 8, 0]);
    Run::with(&[&packed]).refused(&["a.log.gz", "gzip", "zcat"]);
    let keys = file(&folder, "a.u64", trace(&[1]));
    Run::with(&[&log, &keys]).refused(&["together"]);
    Run::with(&["--field", "1", &keys]).refused(&["--field"]);
    Run::with(&["--field", "1"]).refused(&["--field needs a log"]);
    Run::with(&["-", "-"]).refused(&["twice"]);
}

#[test]
#[cfg(unix)]
fn a_file_without_permission_is_refused() {
    use std::os::unix::fs::PermissionsExt;

    let log = file(&folder("permission"), "secret.log", LOG);
    fs::set_permissions(&log, fs::Permissions::from_mode(0o000)).expect("chmod");
    // The superuser reads it all the same.
    if fs::File::open(&log).is_err() {
        Run::with(&[&log]).refused(&["secret.log", "ermission"]);
    }
}

#[test]
fn wrong_arguments_are_refused() {
    Run::with(&["--events", "1", "--capacity", "0"]).refused(&["capacity"]);
    Run::with(&["--threads", "0"]).refused(&["1 to 256"]);
    Run::with(&["--ttl", "soon"]).refused(&["--ttl", "30m"]);
    Run::with(&["--delimiter", ","]).refused(&["--field"]);
    Run::with(&["--field", "0"]).refused(&["--field"]);
    Run::with(&["--events", "5", "a.log"]).refused(&["--events"]);
}

#[test]
fn without_input_a_day_is_simulated() {
    // Elsewhere only a terminal is known to be no input.
    #[cfg(unix)]
    {
        let run = Run::with(&["--limit", "1000"]).fine();
        assert_eq!(run.requests(), 1000);
        run.says("a simulated day of SSE sessions").says("seed 1,");
    }
    let run = Run::with(&["--events", "20000", "--capacity", "64", "--shards", "1"]).fine();
    assert_eq!(run.requests(), 20_000);
    assert!(run.row("evicted").0 > 0, "{}", run.out);
    assert!(run.row("removed").0 > 0, "{}", run.out);
}

#[test]
fn the_day_expires_keys_in_its_own_time() {
    // The room is ample, so nothing but time ends a key that says no goodbye.
    let args = ["--events", "20000", "--capacity", "50000"];
    let run = Run::with(&args).fine();
    assert!(run.row("expired").0 > 1_000, "{}", run.out);
    assert_eq!(run.row("evicted"), (0, 0));
    let run = Run::with(&[&args[..], &["--ttl", "none"]].concat()).fine();
    assert_eq!(run.row("expired"), (0, 0));
}

#[test]
fn a_seed_gives_one_day() {
    let day = |seed: &str| {
        let room = ["--capacity", "50000", "--ttl", "none", "--events", "20000"];
        Run::with(&[&["--seed", seed], &room[..]].concat()).fine()
    };
    let (one, again, other) = (day("7"), day("7"), day("8"));
    assert_eq!(one.top(), again.top());
    assert_eq!(one.row("removed"), again.row("removed"));
    assert_ne!(one.top(), other.top());
}

#[test]
fn threads_lose_nothing() {
    for threads in ["2", "5"] {
        let cap = ["--threads", threads, "--capacity", "100"];
        let run = Run::with(&[&["--events", "30000"], &cap[..]].concat()).fine();
        assert_eq!(run.requests(), 30_000);
    }
    let log: String = (0..50_000).map(|i| format!("x key-{}\n", i % 50)).collect();
    let run = Run::piped(&["--threads", "3", "--field", "2", "--top", "50"], log.as_bytes());
    let run = run.fine();
    assert_eq!(run.top().len(), 50);
    assert!(run.top().iter().all(|&(count, _)| count == 1_000));
}

#[test]
fn an_idle_key_of_a_live_pipe_expires_in_real_time() {
    let mut child = start(&["--ttl", "50ms"], Stdio::piped(), Stdio::piped());
    let mut stdin = child.stdin.take().expect("its standard input");
    // More than one pause: a slow start may swallow the first.
    for _ in 0..4 {
        stdin.write_all(b"a\n").expect("it reads");
        thread::sleep(Duration::from_millis(300));
    }
    drop(stdin);
    let run = Run::end(child).fine();
    let (lives, units) = run.row("expired");
    assert!(lives >= 1 && units >= lives, "{}", run.out);
    assert_eq!(units + run.row("live").1, 4);
}

#[test]
fn the_map_tells_what_the_store_forgot() {
    let folder = folder("compare");
    // `hot` is never away for long; each other key comes once.
    let log: String = (0..500).map(|i| format!("hot\nonce-{i}\n")).collect();
    let log = file(&folder, "a.log", log);
    let compare = |capacity| {
        let args = ["--compare", "--top", "1", "--capacity", capacity, &log];
        Run::with(&args).fine()
    };
    let all = compare("1000");
    assert_eq!(all.line("retained mass  "), "100.0 % 100.0 %");
    assert_eq!(
        all.line("of the true top 1 the store holds"),
        "1 of 1, 1 of them with their full count"
    );
    let some = Run::with(&["--compare", "--limit", "3", &log]).fine();
    assert_eq!(some.line("keys held"), "2 2");
    let one = compare("1");
    assert_eq!(one.line("keys held"), "1 501");
    assert_eq!(one.line("retained mass  "), "0.1 % 100.0 %");
    assert_eq!(
        one.line("of the true top 1 the store holds"),
        "0 of 1, 0 of them with their full count"
    );
    Run::piped(&["--compare"], LOG.as_bytes()).refused(&["read only once"]);
}

#[test]
fn a_plot_is_an_svg_with_both_lines() {
    let folder = folder("plot");
    let svg = folder.join("memory.svg");
    let path = svg.to_str().expect("a path in UTF-8");
    let run = Run::with(&["--events", "20000", "--plot", path, "--threads", "2"]).fine();
    run.says("the true top 100").says(&format!("drawn: {path}"));
    let drawn = fs::read_to_string(&svg).expect("the picture");
    assert!(drawn.starts_with("<svg") && drawn.trim_end().ends_with("</svg>"));
    assert!(drawn.contains("counterclock") && drawn.contains("HashMap"));
    assert!(drawn.matches("<polyline").count() >= 2);

    // A picture that is there already is replaced as a whole.
    let empty = file(&folder, "empty.log", "");
    Run::with(&["--plot", path, &empty]).fine();
    let redrawn = fs::read_to_string(&svg).expect("the picture");
    assert!(redrawn.len() < drawn.len() && redrawn.trim_end().ends_with("</svg>"));
}

#[test]
fn a_plot_that_cannot_be_written_is_refused_before_the_run() {
    let folder = folder("no-plot");
    let lost = folder.join("nowhere").join("memory.svg");
    Run::with(&["--plot", lost.to_str().expect("UTF-8")]).refused(&["--plot", "memory.svg"]);
    Run::with(&["--plot", folder.to_str().expect("UTF-8")]).refused(&["--plot"]);
    // No empty picture is left behind by a run that fails.
    let fresh = folder.join("fresh.svg");
    let cut = file(&folder, "cut.u64", [1, 2, 3]);
    Run::with(&["--plot", fresh.to_str().expect("UTF-8"), &cut]).refused(&["cut.u64"]);
    assert!(!fresh.exists());
}

#[test]
fn a_reader_that_goes_away_ends_it_in_peace() {
    let mut child = start(&["--events", "1000"], Stdio::null(), Stdio::piped());
    drop(child.stdout.take());
    let run = Run::end(child);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let child = start(&["--events", "10"], Stdio::null(), full.into());
    Run::end(child).refused(&["standard output", "No space"]);
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_the_reading_and_not_the_report() {
    for threads in ["1", "2"] {
        let mut child = start(&["--threads", threads], Stdio::piped(), Stdio::piped());
        let mut stdin = child.stdin.take().expect("its standard input");
        // More than all its buffers hold: when this is written, it is counting.
        let lines = "some-key\n".repeat(100_000);
        stdin.write_all(lines.as_bytes()).expect("it reads");
        // Long enough for the rest: then it waits for the pipe, which stays open and silent.
        thread::sleep(Duration::from_millis(500));
        let id = child.id().to_string();
        let status = Command::new("kill").args(["-INT", &id]).status();
        assert!(status.expect("kill").success());
        let run =
            Run::end(ended_within(child, Duration::from_secs(10))).balanced().says("INTERRUPTED");
        assert_eq!((run.code, run.err.as_str()), (Some(130), ""), "{}", run.out);
        assert!((1..=100_000).contains(&run.requests()));
        drop(stdin);
    }
}

/// A log whose name slipped in behind `--plot` stays what it is.
#[test]
fn a_plot_does_not_overwrite_what_is_no_picture() {
    let folder = folder("keep");
    let log = file(&folder, "access.log", LOG);
    let run = Run::with(&["--events", "100", "--plot", &log]);
    run.refused(&["--plot", "no SVG"]);
    assert_eq!(fs::read_to_string(&log).expect("still there"), LOG);
}
