"""Sessions that come and go, publishers, and what the publishers were answered."""

import http.client
import json
import random
import socket
import threading
import time
from collections import Counter

# Sessions in which a client listens and does not read, and the names that they take in turn.
SLOW_CLIENTS = 40
SLOW_NAMES = [f"slow-{n}" for n in range(80)]
STAY_SECONDS = (2.0, 16.0)
# Names that nobody listens to. Which of them are popular moves on, so that each comes back.
POPULAR_NAMES = [f"popular-{n}" for n in range(120)]
TURN_SECONDS = 0.25
PUBLISHERS = 2
EVENTS_A_SECOND = 500
SMALL = b"an event"
# A few of these are more than the sockets of a client that does not read take in.
LARGE = b"x" * 1_000_000


class Tally(Counter):
    """The sums of the server's answers, by their names, and `published`."""


class Publisher(threading.Thread):
    """Publishes until it is told to stop; a failure is kept in `failure`."""

    def __init__(self, address, stage, stop):
        super().__init__()
        self.connection = http.client.HTTPConnection(*address, timeout=30)
        self.stage, self.stop = stage, stop
        self.tally = Tally()
        self.failure = None
        self.strangers = 0

    def run(self):
        try:
            while not self.stop.is_set():
                self.publish_one()
                time.sleep(PUBLISHERS / EVENTS_A_SECOND)
        except Exception as failure:  # told by the main thread
            self.failure = failure
        finally:
            self.connection.close()

    def publish_one(self):
        kind = random.random()
        if kind < 0.45:
            turn = int(time.monotonic() / TURN_SECONDS) + int(random.expovariate(0.1))
            self.publish("/" + POPULAR_NAMES[turn % len(POPULAR_NAMES)])
        elif kind < 0.65:
            self.strangers += 1
            self.publish(f"/stranger-{self.name}-{self.strangers}")
        elif kind < 0.98:
            name, has_room = self.stage.one()
            while has_room:
                answer = self.publish("/" + name, LARGE)
                has_room = answer["delivered"]
                if answer["dropped"]:
                    self.stage.set_full(name)
            self.publish("/" + name)
        else:
            self.publish("")

    def publish(self, session, event=SMALL):
        self.connection.request("POST", "/publish" + session, event)
        response = self.connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"publishing was answered {response.status}: {body!r}")
        answer = json.loads(body)
        self.tally.update(answer, published=1)
        return answer


class Stage(threading.Thread):
    """Clients that do not read. Each stays for some seconds in a session, and leaves it."""

    def __init__(self, address, stop):
        super().__init__()
        self.address, self.stop = address, stop
        self.lock = threading.Lock()
        self.clients = {}  # by session: the socket, and when it leaves
        self.full = set()
        self.came = 0
        self.failure = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.leave()
                self.come()
                time.sleep(0.05)
        except Exception as failure:  # told by the main thread
            self.failure = failure
        finally:
            for client, _ in self.clients.values():
                client.close()

    def leave(self):
        now = time.monotonic()
        for name in [name for name, (_, until) in self.clients.items() if until < now]:
            with self.lock:
                client, _ = self.clients.pop(name)
                self.full.discard(name)
            client.close()

    def come(self):
        while len(self.clients) < SLOW_CLIENTS:
            name = random.choice([name for name in SLOW_NAMES if name not in self.clients])
            client = self.listen(name)
            with self.lock:
                self.clients[name] = client, time.monotonic() + random.uniform(*STAY_SECONDS)
            self.came += 1

    def listen(self, name):
        client = socket.socket()
        client.settimeout(30)
        # Before connecting, or the window is already larger.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(self.address)
        client.sendall(f"GET /events/{name} HTTP/1.1\r\nHost: churn\r\n\r\n".encode())
        head = client.recv(1024)
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a client was answered {head!r}")
        return client

    def one(self):
        """A name, and whether a client is there whose buffers still have room.

        Few of the names are chosen often, so that they are the ones with the most drops.
        """
        name = SLOW_NAMES[int(len(SLOW_NAMES) * random.random() ** 2)]
        with self.lock:
            return name, name in self.clients and name not in self.full

    def set_full(self, name):
        with self.lock:
            if name in self.clients:
                self.full.add(name)


def churn(address, seconds):
    """Runs the load; the publishers' tally when the last of them has its last answer."""
    stop = threading.Event()
    stage = Stage(address, stop)
    publishers = [Publisher(address, stage, stop) for _ in range(PUBLISHERS)]
    threads = [stage, *publishers]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline and all(thread.is_alive() for thread in threads):
            time.sleep(0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for thread in threads:
        if thread.failure:
            raise thread.failure
    return sum((publisher.tally for publisher in publishers), Tally())
