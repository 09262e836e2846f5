"""Tokens a second of one client, of eight at once, and what 64 leave behind.

    python tests/benchmarks/serve_load.py RUN [--seconds 60]

Replies are streamed, as long as the context allows: at a high temperature they seldom end by themselves. The server is a process of
its own, whose memory, threads and open files are counted before and after.
"""

import argparse
import json
import threading
import time
from collections import Counter
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
from voice_latency import server

TEXT = "Tell me a long story about a cat, a dog and a red circle."


class Client(threading.Thread):
    """Asks again and again until its time is up."""

    def __init__(self, address: str, until: float, number: int) -> None:
        super().__init__()
        self._address, self._until, self._number = address, until, number
        self.tokens = 0
        self.outcomes: Counter[str] = Counter()

    def run(self) -> None:
        while time.monotonic() < self._until:
            self._number += 1
            body = {
                "model": "omnictl",
                "messages": [{"role": "user", "content": TEXT}],
                "stream": True,
                "temperature": 2.0,
                "seed": self._number,
            }
            headers = {"Content-Type": "application/json"}
            asked = Request(f"http://{self._address}/v1/chat/completions", json.dumps(body).encode(), headers)
            try:
                with urlopen(asked, timeout=300) as response:
                    for line in response:
                        if time.monotonic() > self._until:
                            self.outcomes["cut"] += 1
                            return
                        self.tokens += line.startswith(b'data: {"id"')
                self.outcomes["200"] += 1
            except HTTPError as error:
                self.outcomes[str(error.code)] += 1
                time.sleep(min(2.0, float(error.headers.get("Retry-After", "1"))))


def crowd(address: str, number: int, seconds: float) -> tuple[float, Counter[str]]:
    """Chunks of text a second in all, each of one token or a few, and what became of the requests."""
    until = time.monotonic() + seconds
    clients = [Client(address, until, 10_000 * each) for each in range(number)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    return sum(client.tokens for client in clients) / seconds, sum((client.outcomes for client in clients), Counter())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    with server(given.run) as (address, pid):
        process = psutil.Process(pid)

        def state() -> str:
            memory = process.memory_info().rss / 2**20
            return f"{memory:.0f} MiB, {process.num_threads()} threads, {process.num_fds()} files"

        crowd(address, 8, 5)
        alone, _ = crowd(address, 1, given.seconds)
        print(f"one client: {alone:.0f} chunks/s; {state()}")
        together, outcomes = crowd(address, 8, given.seconds)
        print(f"eight: {together:.0f} chunks/s, {together / alone:.2f} times as many; {dict(outcomes)}; {state()}")
        many, outcomes = crowd(address, 64, given.seconds)
        print(f"64: {many:.0f} chunks/s; {dict(outcomes)}; {state()}")
        time.sleep(3)
        print(f"afterwards: {state()}")


if __name__ == "__main__":
    main()
