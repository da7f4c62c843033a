"""Takes AWS's Runtime Interface Emulator for Lambda out of the wheel of aws-sam-cli; PyPI has no smaller source.

Usage: install_emulator.py FILE, the program to write. emulator.txt pins the wheel; HASHES pins the program in it.
"""

import hashlib
import pathlib
import platform
import subprocess
import sys
import tempfile
import zipfile

# SHA-256 of the program by machine, in the wheel's words.
HASHES = {
    "arm64": "ec2e5d09633d853834c008b1ef264bf834b258a94d551d2b2074966494b39a21",
    "x86_64": "6b1e686e62ab2baf5759c412c4864276ef2a88b094fca53ec070637ccba9b9a5",
}


def is_wanted(program, machine):
    return hashlib.sha256(program).hexdigest() == HASHES[machine]


def download(machine):
    wanted = pathlib.Path(__file__).with_name("emulator.txt")
    with tempfile.TemporaryDirectory() as directory:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run(
            [*pip, "--only-binary=:all:", "--require-hashes", f"--requirement={wanted}", f"--dest={directory}"], check=True
        )
        (wheel,) = pathlib.Path(directory).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(f"samcli/local/rapid/aws-lambda-rie-{machine}")


def main():
    file = pathlib.Path(sys.argv[1])
    machine = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    if file.exists() and is_wanted(file.read_bytes(), machine):
        print("already installed")
        return
    program = download(machine)
    if not is_wanted(program, machine):
        sys.exit("error: the emulator in the wheel is not the pinned one: its SHA-256 differs from that in install_emulator.py")
    file.unlink(missing_ok=True)  # a running program cannot be written to
    file.write_bytes(program)
    file.chmod(0o755)


main()
