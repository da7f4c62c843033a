"""`edgetap bridge`: the embedded bridge with its OAuth server, as the platform."""

import atexit
import re
import signal
import subprocess
import threading


class Bridge:
    """Slow enough that a log takes it several seconds."""

    def __init__(self, program, secret):
        command = [program, "bridge", "--listen", "127.0.0.1:0", "--client-id", "id", "--client-secret", secret, "--delay", "1s"]
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
        """A line each, as they came: method, status, URL, client. A post given up at the end of an invocation may have been accepted,
        and comes again: the bridge knows it by its key."""
        shown, again = [], False
        for line in self.lines:
            if line.startswith("  "):
                shown += [] if again else [line.strip()]
            else:
                again = line.rstrip().endswith(", again")
        return shown

    def stop(self):
        """Its last line: how much of what came."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=10)
        self.reader.join()
        return self.lines[-1]


def expected(transactions):
    """How the bridge shows the transactions of an `.expected.json`, up to the client."""
    lines = []
    for told in transactions:
        url = f"{told.get('scheme', 'https')}://{told.get('host', '-')}{told['target']}"
        lines.append(f"{told['method']:<7} {told.get('status', '-'):>3}  {url}  from {told['client_ip']}"[:150])
    return lines
