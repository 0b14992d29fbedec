#!/usr/bin/env python3
"""A real Prometheus scrapes the SSE server while sessions churn. Every unit must be in it once.

    cargo build --release -p sse-server
    examples/sse-server/tests/prometheus/check.py

It needs Prometheus with its promtool (Debian's package `prometheus`) and the standard library.
"""

import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter

from churn import churn
from parts import Missing, get, need, need_file, prometheus, sse_server
from runs import runs_of

CAPACITY = 64
# As in the server's metrics.rs.
TOP = 20
# The families of the two counters, and what the publishers' answers call them.
FAMILIES = {"sse_drops": "dropped", "sse_no_client": "no_client"}
# After the load, for the last values: a series that goes is shown once more.
SCRAPES_AFTER = 4
ROOT = pathlib.Path(__file__).resolve().parents[4]


class Report:
    """What was checked; a failure does not hide the next one."""

    def __init__(self):
        self.failures = 0

    def check(self, holds, what):
        print("ok    " if holds else "FAILED", what)
        self.failures += not holds

    def note(self, what):
        print("      ", what)


def main():
    args = arguments()
    try:
        need("prometheus", "promtool")
        need_file(args.server)
    except Missing as missing:
        sys.exit(f"error: {missing}")
    report = Report()
    flags = ["--capacity", str(CAPACITY), "--idle-ttl", "3s", "--buffer", "1"]
    flags += ["--max-event", "1048576", "--linger", "0s"]
    with (
        tempfile.TemporaryDirectory() as directory,
        sse_server(args.server, *flags) as server,
        prometheus(pathlib.Path(directory), server) as api,
    ):
        begin = wait_for_scrapes(api, 1, since=0)
        tally = churn(server, args.seconds)
        end = wait_for_scrapes(api, SCRAPES_AFTER, since=time.time())
        print(f"the publishers' tally: {dict(sorted(tally.items()))}")
        check_samples(report, Window(api, begin, end), tally)
        # Prometheus has seen all: from here on this may be the one that ends series.
        check_promtool(report, get(server, "/metrics")[1])
    if report.failures:
        sys.exit(f"{report.failures} checks failed")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("server", nargs="?", default=ROOT / "target/release/sse-server")
    parser.add_argument("--seconds", type=float, default=75, help="how long sessions churn")
    return parser.parse_args()


def wait_for_scrapes(api, count, since):
    """The time of the last of `count` scrapes after `since`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        now = time.time()
        series = api.query('up{job="sse"}[5m]', at=now)
        times = [at for one in series for at, _ in one["values"] if at > since]
        if len(times) >= count:
            return times[count - 1]
        time.sleep(0.2)
    raise RuntimeError("Prometheus does not scrape")


class Window:
    """What Prometheus has from `begin` to `end`."""

    def __init__(self, api, begin, end):
        self.api, self.end = api, end
        # A millisecond more, since in Prometheus 3 the start of a range is not in it.
        self.range = f"{round((end - begin) * 1000) + 1}ms"
        (up,) = self.select('up{job="sse"}')
        self.scrapes = [at for at, _ in up["values"]]
        self.failed = sum(value != "1" for _, value in up["values"])

    def select(self, selector):
        return self.api.query(f"{selector}[{self.range}]", at=self.end)

    def runs(self, selector):
        return runs_of(self.select(selector), self.scrapes)

    def number(self, promql):
        return self.api.number(promql.replace("WINDOW", self.range), at=self.end)


def check_samples(report, window, tally):
    scrapes = len(window.scrapes)
    report.check(window.failed == 0, f"{scrapes} scrapes, {window.failed} of them failed")
    for family, answer in FAMILIES.items():
        print(f"{family}_total")
        runs = window.runs(f"{family}_total")
        labelled = [run for run in runs if "session" in run.labels]
        (rest,) = [run for run in runs if "session" not in run.labels]
        check_lives(report, window, labelled, rest)
        check_resets(report, window, runs)
        check_bound(report, window, runs)
        check_sums(report, window, family, runs, tally[answer])
    print("all counters")
    check_others(report, window, tally)


def check_lives(report, window, labelled, rest):
    """That there was something to see, and that nothing was there before it was seen."""
    everywhere = (rest.first, rest.last) == (0, len(window.scrapes) - 1)
    report.check(everywhere, "other is in each scrape")
    lives = Counter(run.labels["session"] for run in labelled)
    again = sum(lives.values()) - len(lives)
    ended = sum(run.last < len(window.scrapes) - 1 for run in labelled)
    report.check(
        ended >= 20 and again >= 5,
        f"{len(labelled)} lives of series of {len(lives)} sessions: {ended} ended, {again} of a "
        "session that was back",
    )
    report.check(all(run.values[0] == 0 for run in [rest, *labelled]), "each begins at 0")


def check_resets(report, window, runs):
    falls = sum(run.falls() for run in runs)
    report.check(falls == 0, f"samples that are less than the one before, within a life: {falls}")
    resets = sum(resets_of(window.api, run) for run in runs)
    report.check(resets == 0, f"resets(), asked for each life: {resets:.0f}")


def resets_of(api, run):
    life = round((run.times[-1] - run.times[0]) * 1000) + 1
    return api.number(f"resets({run.selector()}[{life}ms])", at=run.times[-1])


def check_bound(report, window, runs):
    series = Counter(scrape for run in runs for scrape in range(run.first, run.last + 1))
    most, bound = max(series.values()), 1 + 2 * TOP
    report.check(TOP < most <= bound, f"series at one scrape: at most {most}, allowed {bound}")


def check_sums(report, window, family, runs, tally):
    total = window.runs(f"{family}_recorded_total")
    exact = sum(run.increase() for run in runs)
    report.check(exact == tally, f"increase of all series: {exact:.0f}, tally {tally}")
    labelled = sum(run.increase() for run in runs if "session" in run.labels)
    report.check(labelled > tally / 10, f"of which by sessions with a series: {labelled:.0f}")
    one = len(total) == 1 and not total[0].falls()
    report.check(one, f"{family}_recorded_total is one series and never falls")
    last = total[0].values[-1]
    report.check(last == tally, f"{family}_recorded_total at the end: {last:.0f}, tally {tally}")
    series = window.number(f"sum(increase({family}_total[WINDOW]))")
    recorded = window.number(f"increase({family}_recorded_total[WINDOW])")
    report.note(
        f"PromQL, which extrapolates: sum(increase({family}_total)) is {series:.1f} "
        f"({series / max(tally, 1) - 1:+.2%}), increase({family}_recorded_total) {recorded:.1f}"
    )


def check_others(report, window, tally):
    counters = window.runs('{__name__=~"sse_.+_total", session=""}')
    whole = all((run.first, run.last) == (0, len(window.scrapes) - 1) for run in counters)
    falls = sum(run.falls() for run in counters)
    report.check(whole and falls == 0, f"{len(counters)} series that are always there never fall")
    for answer in ["published", "delivered"]:
        (run,) = window.runs(f"sse_{answer}_total")
        last = run.values[-1]
        report.check(last == tally[answer], f"{answer}: {last:.0f}, tally {tally[answer]}")
    (keys,) = window.runs("sse_drops_keys")
    report.check(max(keys.values) <= CAPACITY, f"keys: at most {max(keys.values):.0f}")
    removals = window.runs("sse_drops_removals_total")
    causes = {run.labels["cause"]: round(run.values[-1]) for run in removals}
    by_all = len(causes) == 3 and all(causes.values())
    report.check(by_all, f"sessions went by each cause: {causes}")
    rejected = sum(run.values[-1] for run in window.runs("sse_drops_rejections_total"))
    report.note(f"calls that were rejected: {rejected:.0f}")


def check_promtool(report, metrics):
    """promtool reads another format than the server's, and is content but for one difference.

    In OpenMetrics the family `x` has the sample `x_total`; the older format has the help under the
    sample's name.
    """
    print("promtool check metrics")
    counters = re.findall(r"^# TYPE (\S+) counter$", metrics, re.MULTILINE)
    known = sorted(f"{counter}_total no help text" for counter in counters)
    complaints = promtool(metrics)
    report.check(complaints == known, f"known complaints, and no other: {len(known)}")
    for complaint in complaints:
        if complaint not in known:
            report.note(complaint)
    older = re.sub(
        r"^# (HELP|TYPE) (\S+)",
        lambda line: line[0] + "_total" * (line[2] in counters),
        metrics,
        flags=re.MULTILINE,
    )
    complaints = promtool(older)
    verdict = complaints or "content"
    report.check(not complaints, f"with the help under the sample's name: {verdict}")


def promtool(metrics):
    command = ["promtool", "check", "metrics"]
    run = subprocess.run(command, input=metrics, capture_output=True, text=True, timeout=60)
    complaints = sorted((run.stdout + run.stderr).splitlines())
    if bool(complaints) != bool(run.returncode):
        complaints.append(f"exit code {run.returncode}")
    return complaints


if __name__ == "__main__":
    main()
