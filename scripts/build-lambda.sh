#!/usr/bin/env bash
# Builds the Lambda function: target/lambda/bootstrap.zip, which Terraform uploads.
#
# Usage: scripts/build-lambda.sh [--arch x86_64 | --arch arm64] [--dry-run]
#
#   --arch      the function's architecture; default: this machine's
#   --dry-run   build nothing; show the commands
#
# It runs on Amazon Linux 2023, whose C library is glibc 2.34: that nothing newer is needed is checked. Where this machine builds for
# itself that is so with most; otherwise, and for another architecture or from another system than Linux, cargo-zigbuild links
# against the older library. It and its linker come from PyPI:
#
#   python3 -m venv target/zig && target/zig/bin/pip install cargo-zigbuild==0.24.0 ziglang==0.17.0
#
# The same compiler makes of the same sources the same zip, byte for byte. Its size and SHA-256 are printed.
#
# Exit status: 0 built, 1 it failed, 2 something is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# What Amazon Linux 2023 has.
readonly GLIBC=2.34
# As Cargo.toml has it.
readonly PROFILE=lambda
readonly FOLDER=target/lambda

main() {
  case $(uname -m) in
    aarch64 | arm64) machine=arm64 ;;
    *) machine=x86_64 ;;
  esac
  arch=$machine
  read_arguments "$@"
  need_tools cargo rustc python3 readelf
  refuse_on_problems
  target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  forget_paths

  if [[ $arch == "$machine" && $(uname -s) == Linux ]]; then
    build_here || build_with_zig
  else
    build_with_zig
  fi
  if ((dry_run)); then
    say 'This was a dry run: nothing was built.'
    return
  fi
  pack
}

read_arguments() {
  while (($#)); do
    case $1 in
      --arch)
        [[ ${2:-} == x86_64 || ${2:-} == arm64 ]] || usage_error '--arch is x86_64 or arm64'
        arch=$2
        shift
        ;;
      --dry-run) dry_run=1 ;;
      -h | --help) print_help ;;
      *) usage_error "what is $1?" ;;
    esac
    shift
  done
}

# Where the sources lie on this machine is nobody's business, and would make each machine's zip another one.
forget_paths() {
  export RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$PWD=edgetap"
}

# For this machine with its own linker: false where the result needs too new a C library.
build_here() {
  binary=$target/$PROFILE/bootstrap
  run cargo build --locked --profile "$PROFILE" --bin bootstrap
  ((dry_run)) && return
  check_architecture
  local newest
  newest=$(newest_glibc)
  is_at_least "$GLIBC" "$newest" && return
  note "built here, the function needs glibc $newest; Amazon Linux 2023 has $GLIBC. Building again, against that one"
  return 1
}

build_with_zig() {
  local triple=x86_64-unknown-linux-gnu
  if [[ $arch == arm64 ]]; then triple=aarch64-unknown-linux-gnu; fi
  PATH=$PWD/target/zig/bin:$PATH
  command -v cargo-zigbuild >/dev/null \
    || problem 'cargo-zigbuild is not installed: python3 -m venv target/zig && target/zig/bin/pip install cargo-zigbuild==0.24.0 ziglang==0.17.0'
  [[ -d $(rustc --print sysroot)/lib/rustlib/$triple ]] || problem "Rust's library for $triple is missing: rustup target add $triple"
  refuse_on_problems
  binary=$target/$triple/$PROFILE/bootstrap
  run cargo zigbuild --locked --profile "$PROFILE" --bin bootstrap --target "$triple.$GLIBC"
  ((dry_run)) && return
  check_architecture
  local newest
  newest=$(newest_glibc)
  is_at_least "$GLIBC" "$newest" || die "$binary needs glibc $newest, and Amazon Linux 2023 has $GLIBC"
}

run() {
  if ((dry_run)); then
    show_command 'would run' "$@"
  else
    "$@" || die "${*:1:2} fails"
  fi
}

check_architecture() {
  local machine
  machine=$(LC_ALL=C readelf --file-header "$binary" | sed -n 's/^ *Machine: *//p')
  case $arch:$machine in
    x86_64:*X86-64* | arm64:*AArch64*) ;;
    *) die "$binary is for $machine, not for $arch" ;;
  esac
}

newest_glibc() {
  LC_ALL=C readelf --version-info --wide "$binary" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -t . -k 1,1n -k 2,2n | tail -n 1
}

# With fixed time and mode: what zip tools write besides differs from build to build. setup-tfvars.sh reads for what it is.
pack() {
  mkdir -p "$FOLDER"
  python3 - "$binary" "$FOLDER/bootstrap.zip" <<'END'
import sys, zipfile
binary, path = sys.argv[1:]
entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
entry.external_attr, entry.create_system, entry.compress_type = 0o100755 << 16, 3, zipfile.ZIP_DEFLATED
with zipfile.ZipFile(path, "w") as archive, open(binary, "rb") as file:
    archive.writestr(entry, file.read(), compresslevel=9)
END
  printf '%s\n' "$arch" >"$FOLDER/architecture"
  python3 - "$FOLDER/bootstrap.zip" "$arch" "$(newest_glibc)" <<'END'
import hashlib, sys
path, arch, glibc = sys.argv[1:]
content = open(path, "rb").read()
print(f"{path}: {arch}, needs glibc {glibc}\nsize    {len(content):,} bytes\nSHA-256 {hashlib.sha256(content).hexdigest()}")
END
}

main "$@"
