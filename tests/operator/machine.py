"""An operator's machine: a clone of the project, Terraform and the AWS CLI."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
# What no output, state and log may hold.
CANARY = "CANARY"


class Machine:
    """`state` is where Terraform keeps its state, as a backend that operators share."""

    def __init__(self, folder, state, environment):
        self.folder = folder
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "scripts", "terraform"]
        listed = subprocess.run(listing, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
        shutil.copy(REPOSITORY / "tests/operator/moto_override.tf", folder / "terraform")
        (folder / "terraform/state_override.tf").write_text(f'terraform {{\n  backend "local" {{\n    path = "{state}"\n  }}\n}}\n')
        self.state = state
        # Neither settings of this machine nor scripts/test.sh's go in.
        foreign = ("AWS_", "BRIDGE_", "TF_VAR_", "TF_AUTO_APPROVE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        plugins = folder.parent / ".terraform"
        plugins.mkdir(exist_ok=True)
        waits = {"EDGETAP_CONFLICT_WAIT_MAX": "0", "EDGETAP_SEARCH_WAIT": "0", "EDGETAP_VERIFY_INTERVAL": "1"}
        self.environment = inherited | environment | waits | {"TF_PLUGIN_CACHE_DIR": str(plugins)}
        self.terraform("init", "-lockfile=readonly")

    def write(self, name, text):
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text)

    def forget(self, *names):
        for name in names:
            (self.folder / name).unlink()

    def run(self, *command, status=0, environment=()):
        """Runs a command, which must end with that exit status, and gives what it said."""
        files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=self.folder, env=self.environment | dict(environment), **files, text=True, check=False)
        holds_no_canary(done.stdout)
        if self.state.exists():
            holds_no_canary(self.state.read_text())
        assert done.returncode == status, f"{' '.join(command)}: exit status {done.returncode}, not {status}\n{done.stdout}"
        return done.stdout

    def script(self, name, *arguments, status=0, environment=()):
        return self.run(f"scripts/{name}.sh", *arguments, status=status, environment=environment)

    def terraform(self, verb, *arguments, status=0):
        options = ["-no-color"] if verb == "show" else ["-no-color", "-input=false"]
        return self.run("terraform", "-chdir=terraform", verb, *options, *arguments, status=status)

    def refused(self, *arguments):
        """What Terraform says when it refuses, in one line."""
        return " ".join(self.terraform(*arguments, status=1).split())

    def shows_no_change(self):
        self.terraform("plan", "-detailed-exitcode")

    def resources(self):
        return json.loads(self.terraform("show", "-json"))["values"]["root_module"]["resources"]


def holds_no_canary(text):
    assert CANARY not in text, "a secret is told"


def keep_aws_warm(folder):
    """What puts the AWS CLI first on the PATH, kept warm (tests/scripts/warm_aws.py says why); nothing where it is not in Python:
    that one just takes longer."""
    # The AWS CLI's Python is the one on the PATH, not the one that runs this.
    finding = ["python3", "-c", "import awscli, sys; print(sys.executable)"]
    found = subprocess.run(finding, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return {}
    python, program, socket = found.stdout.strip(), REPOSITORY / "tests/scripts/warm_aws.py", folder / "aws.socket"
    server = subprocess.Popen([python, program, "serve", socket])
    atexit.register(server.wait)
    atexit.register(server.terminate)
    for _ in range(100):
        if socket.exists():
            break
        time.sleep(0.2)
    else:
        sys.exit("the AWS CLI does not start")
    (folder / "bin").mkdir()
    (folder / "bin/aws").write_text(f"#!{python} -IS\n{program.read_text()}")
    (folder / "bin/aws").chmod(0o755)
    return {"WARM_AWS": str(socket), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
