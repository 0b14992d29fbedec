//! Runs a model, and sees to it that a run means something.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Set for the process in which a mutation is to fail.
const CHILD: &str = "LOOM_TESTS_MUTANT";

/// Explores every execution with at most `preemptions` preemptions.
///
/// loom's limits pass silently, so none is set, and there must be more than `more_than` executions:
/// fewer mean that the model no longer has the races that it was written for.
pub(crate) fn explore(
    name: &str,
    preemptions: usize,
    more_than: u64,
    model: impl Fn() + Send + Sync + 'static,
) {
    let model = Arc::new(model);
    if std::env::var_os(CHILD).is_some() {
        // It is to fail, and mostly needs few preemptions for it.
        (1..preemptions).for_each(|fewer| _ = run(name, fewer, Arc::clone(&model)));
    }
    let explored = run(name, preemptions, model);
    assert!(explored > more_than, "{name}: only {explored} executions");
}

/// How many executions there are.
fn run(name: &str, preemptions: usize, model: Arc<impl Fn() + Send + Sync + 'static>) -> u64 {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 50_000;
    builder.max_duration = None;
    builder.max_permutations = None;
    let executions = Arc::new(AtomicU64::new(0));
    let report = Report {
        name: name.to_owned(),
        preemptions,
        executions: Arc::clone(&executions),
        begun: Instant::now(),
    };
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Relaxed);
        model();
    });
    drop(report);
    executions.load(Relaxed)
}

/// Prints how far it got, also when the model fails.
struct Report {
    name: String,
    preemptions: usize,
    executions: Arc<AtomicU64>,
    begun: Instant,
}

impl Drop for Report {
    fn drop(&mut self) {
        println!(
            "loom: {}, preemption bound {}: {} executions, {:.1} s{}",
            self.name,
            self.preemptions,
            self.executions.load(Relaxed),
            self.begun.elapsed().as_secs_f64(),
            if std::thread::panicking() { ", failed" } else { "" },
        );
    }
}

/// Runs the test `caught` of `module` again in a process of its own, where the model must fail with
/// `message`.
///
/// In a process of its own since loom may abort: it unwinds through threads that panic in turn.
pub(crate) fn must_fail(module: &str, model: fn(), message: &str) {
    if std::env::var_os(CHILD).is_some() {
        return model();
    }
    let (_, path) = module.split_once("::").expect("inside this crate");
    let run = Command::new(std::env::current_exe().expect("this test binary"))
        .args(["--exact", "--nocapture", &format!("{path}::caught")])
        .env(CHILD, "1")
        .output()
        .expect("a process of its own");
    let said = [run.stdout, run.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    for line in said.lines().filter(|line| line.starts_with("loom: ")) {
        println!("{path}: {line}");
    }
    assert!(!run.status.success(), "not caught: {path}\n{said}");
    assert!(said.contains(message), "failed otherwise: {path}\n{said}");
}
