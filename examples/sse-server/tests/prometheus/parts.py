"""The server and Prometheus, as processes of their own."""

import contextlib
import http.client
import json
import pathlib
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse

SCRAPE_CONFIG = """\
scrape_configs:
  - job_name: sse
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs:
      - targets: ["{host}:{port}"]
"""


class Missing(Exception):
    """A program is not there, and how to get it."""


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed: apt-get install prometheus")


def need_file(binary):
    if not pathlib.Path(binary).is_file():
        raise Missing(f"there is no {binary}: cargo build --release -p sse-server, or name another")


@contextlib.contextmanager
def sse_server(binary, *flags):
    """The address of a server on a free port."""
    process = subprocess.Popen(
        [binary, "--port", "0", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with ending(process):
        line = process.stdout.readline()
        host, colon, port = line.strip().removeprefix("listening on http://").rpartition(":")
        if not colon:
            raise RuntimeError(f"{binary} did not start")
        yield host, int(port)


@contextlib.contextmanager
def prometheus(directory, target):
    """A Prometheus that scrapes `target` each second."""
    config = directory / "prometheus.yml"
    config.write_text(SCRAPE_CONFIG.format(host=target[0], port=target[1]))
    address = "127.0.0.1", free_port()
    log = directory / "prometheus.log"
    with log.open("wb") as to:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address={address[0]}:{address[1]}",
            ],
            stdout=to,
            stderr=to,
        )
    with ending(process):
        api = Api(address)
        deadline = time.monotonic() + 60
        while not api.is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Prometheus did not start:\n{log.read_text()}")
            time.sleep(0.1)
        yield api


@contextlib.contextmanager
def ending(process):
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(address, path):
    connection = http.client.HTTPConnection(*address, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


class Api:
    """Prometheus' HTTP API."""

    def __init__(self, address):
        self.address = address

    def is_ready(self):
        try:
            return get(self.address, "/-/ready")[0] == 200
        except OSError:
            return False

    def query(self, promql, at):
        """The result of an instant query."""
        query = urllib.parse.urlencode({"query": promql, "time": f"{at:.3f}"})
        status, body = get(self.address, f"/api/v1/query?{query}")
        if status != 200:
            raise RuntimeError(f"{promql}: {body}")
        return json.loads(body)["data"]["result"]

    def number(self, promql, at):
        """The value of a query that gives one."""
        (one,) = self.query(promql, at)
        return float(one["value"][1])
