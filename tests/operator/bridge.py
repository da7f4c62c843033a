"""`edgetap bridge`, the local bridge with its OAuth server, plays the platform."""

import atexit
import re
import signal
import subprocess
import threading


class Bridge:
    """A bridge so slow that one log takes several seconds."""

    def __init__(self, program, secret):
        command = [program, "bridge", "--listen", "127.0.0.1:0", "--client-id", "id", "--client-secret", secret, "--delay", "1s"]
        self.program = program
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        atexit.register(self.process.kill)
        self.lines, self.settings = [], {}
        for line in self.process.stdout:
            if setting := re.fullmatch(r"(BRIDGE_\w+)=(.*)", line.rstrip("\n")):
                self.settings[setting[1]] = setting[2]
            if len(self.settings) == 4:
                break
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def transactions(self):
        """One line per transaction in the order of arrival: method, status, URL, client.

        Without repeated batches: if an invocation ends before the response to a request, the bridge may have accepted
        the batch, and receives it again with the same key.
        """
        shown, repeated = [], False
        for line in self.lines:
            if line.startswith("  "):
                shown += [] if repeated else [line.strip()]
            else:  # "2 transactions, 1,234 bytes, key 0123456789ab…, repeated"
                repeated = line.rstrip().endswith(", repeated")
        return shown

    def stop(self):
        """Ends the bridge and returns the number of requests that were not in the wire format."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=10)
        self.reader.join()
        (invalid,) = re.findall(r"(\d+) not in the wire format", "".join(self.lines))
        return int(invalid)


def expected(transactions):
    """Returns how the bridge shows the transactions of an `.expected.json`, up to the client."""
    lines = []
    for wanted in transactions:
        origin = f"{wanted.get('scheme', 'https')}://{wanted['host']}" if "host" in wanted else ""
        lines.append(f"{wanted['method']:<7} {wanted.get('status', '-'):>3}  {origin}{wanted['target']}  from {wanted['client_ip']}")
    return lines


def different(shown, wanted):
    """Returns the pairs of lines that differ, as far as the bridge shows them: it cuts long lines and ends them with "…"."""
    pairs = [(line.removesuffix("…"), start) for line, start in zip(shown, wanted, strict=True)]
    return [(line, start) for line, start in pairs if line[: len(start)] != start[: len(line)]]
