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
# terraform/ as it was before its resources moved to terraform/modules/edgetap.
EARLIER = REPOSITORY / "tests/operator/earlier-terraform.tar.gz"
# Part of every secret. Must not appear in outputs, state and logs.
CANARY = "CANARY"


class Machine:
    """A clone in `directory`. `state` is Terraform's state file, which operators share like a backend; None without Terraform.

    With `earlier`, its Terraform files are those of the layout before terraform/modules.
    """

    def __init__(self, directory, state, environment, earlier=False):
        self.directory = directory
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "scripts", "terraform"]
        listed = subprocess.run(listing, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
        for name in filter(None, listed.split("\0")):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, directory / name)
        module = directory / "terraform/modules/edgetap"
        if earlier:
            module = directory / "terraform"
            shutil.rmtree(module)
            shutil.unpack_archive(EARLIER, directory)
        shutil.copy(REPOSITORY / "tests/operator/moto_override.tf", directory / "terraform")
        shutil.copy(REPOSITORY / "tests/operator/moto_module_override.tf", module)
        if not earlier:
            shutil.copy(REPOSITORY / "tests/operator/moto_backfill_override.tf", module)
        if state:
            (directory / "terraform/state_override.tf").write_text(f'terraform {{\n  backend "local" {{\n    path = "{state}"\n  }}\n}}\n')
        self.state = state
        # Excludes the settings of this machine and of scripts/test.sh.
        foreign = ("AWS_", "BRIDGE_", "TF_VAR_", "TF_AUTO_APPROVE")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        plugins = directory.parent / ".terraform"
        plugins.mkdir(exist_ok=True)
        waits = {"EDGETAP_CONFLICT_WAIT_MAX": "0", "EDGETAP_SEARCH_WAIT": "0", "EDGETAP_VERIFY_INTERVAL": "1"}
        self.environment = inherited | environment | waits | {"TF_PLUGIN_CACHE_DIR": str(plugins)}
        if state:
            self.terraform("init", "-lockfile=readonly")

    def copy(self, name, other):
        """Copies a file from another machine."""
        (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(other.directory / name, self.directory / name)

    def write(self, name, text):
        (self.directory / name).parent.mkdir(parents=True, exist_ok=True)
        (self.directory / name).write_text(text)

    def delete(self, *names):
        for name in names:
            (self.directory / name).unlink()

    def run(self, *command, status=0, environment=()):
        """Runs a command, checks its exit status, and returns its output."""
        files = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        done = subprocess.run(command, cwd=self.directory, env=self.environment | dict(environment), **files, text=True, check=False)
        contains_no_secret(done.stdout)
        if self.state and self.state.exists():
            contains_no_secret(self.state.read_text())
        assert done.returncode == status, f"{' '.join(command)}: exit status {done.returncode} instead of {status}\n{done.stdout}"
        return done.stdout

    def script(self, name, *arguments, status=0, environment=()):
        return self.run(f"scripts/{name}.sh", *arguments, status=status, environment=environment)

    def terraform(self, command, *arguments, status=0):
        options = ["-no-color"] if command == "show" else ["-no-color", "-input=false"]
        return self.run("terraform", "-chdir=terraform", command, *options, *arguments, status=status)

    def terraform_error(self, *arguments):
        """Returns the output of a Terraform command that must fail, in one line."""
        return " ".join(self.terraform(*arguments, status=1).split())

    def shows_no_change(self):
        self.terraform("plan", "-detailed-exitcode")

    def changes_no_resource(self):
        self.terraform("plan", "-out=unchanged")
        changes = json.loads(self.terraform("show", "-json", "unchanged"))["resource_changes"]
        changed = [change for change in changes if change["change"]["actions"] != ["no-op"]]
        assert changes and not changed, changed

    def resources(self):
        root = json.loads(self.terraform("show", "-json"))["values"]["root_module"]
        return [resource for module in root["child_modules"] for resource in module["resources"]]


def contains_no_secret(text):
    assert CANARY not in text, "a secret appears in the output"


def keep_aws_warm(directory):
    """Returns environment variables that put a warm AWS CLI first on the PATH (tests/scripts/warm_aws.py explains why).

    Returns nothing if the AWS CLI is not a Python package; it then only takes longer.
    """
    # The Python on the PATH has the AWS CLI, not the one that runs this test.
    finding = ["python3", "-c", "import awscli, sys; print(sys.executable)"]
    found = subprocess.run(finding, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return {}
    python, program, socket = found.stdout.strip(), REPOSITORY / "tests/scripts/warm_aws.py", directory / "aws.socket"
    server = subprocess.Popen([python, program, "serve", socket])
    atexit.register(server.wait)
    atexit.register(server.terminate)
    for _ in range(100):
        if socket.exists():
            break
        time.sleep(0.2)
    else:
        sys.exit("error: the warm AWS CLI did not start")
    (directory / "bin").mkdir()
    (directory / "bin/aws").write_text(f"#!{python} -IS\n{program.read_text()}")
    (directory / "bin/aws").chmod(0o755)
    return {"WARM_AWS": str(socket), "PATH": f"{directory / 'bin'}:{os.environ['PATH']}"}
