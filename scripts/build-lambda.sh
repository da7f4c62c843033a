#!/usr/bin/env bash
# Builds the Lambda function: target/lambda/bootstrap.zip, which Terraform uploads.
#
# Usage: scripts/build-lambda.sh [--arch x86_64 | --arch arm64] [--dry-run | --flags]
#
#   --arch      architecture of the function; by default that of this machine
#   --dry-run   build nothing; show the commands
#   --flags     build nothing; print the compiler's flags (RUSTFLAGS), for programs that are built alike
#
# Lambda runs the function on Amazon Linux 2023, which has glibc 2.34. The script checks that the
# binary needs nothing newer. If this machine's own linker produces such a binary, cargo build is
# enough. Otherwise, and for another architecture or on macOS, cargo-zigbuild links against
# glibc 2.34. Install it and its linker from PyPI:
#
#   python3 -m venv target/zig && target/zig/bin/pip install cargo-zigbuild==0.24.0 ziglang==0.17.0
#
# For x86_64, the function needs a CPU with AVX2 (x86-64-v3), which all of Lambda's have: elsewhere
# it logs that and ends. Set RUSTFLAGS='-C target-cpu=x86-64' for a CPU without it.
#
# The same compiler and sources always give the same zip, byte for byte. The script prints its size
# and SHA-256.
#
# Exit status: 0 if the zip was built, 1 if the build failed, 2 if a tool is missing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# The glibc of Amazon Linux 2023.
readonly GLIBC=2.34
# The profile in Cargo.toml.
readonly PROFILE=lambda
readonly OUTPUT=target/lambda

main() {
  case $(uname -m) in
    aarch64 | arm64) machine=arm64 ;;
    *) machine=x86_64 ;;
  esac
  arch=$machine flags=0
  read_arguments "$@"
  ((flags && dry_run)) && usage_error '--flags and --dry-run exclude each other'
  need_tools cargo rustc python3 readelf
  refuse_on_problems
  target=$(cargo metadata --locked --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
  choose_cpu
  forget_paths
  if ((flags)); then
    printf '%s\n' "$RUSTFLAGS"
    return
  fi

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
        [[ ${2:-} == x86_64 || ${2:-} == arm64 ]] || usage_error '--arch must be x86_64 or arm64'
        arch=$2
        shift
        ;;
      --dry-run) dry_run=1 ;;
      --flags) flags=1 ;;
      -h | --help) print_help ;;
      *) usage_error "unknown option: $1" ;;
    esac
    shift
  done
}

# Lets the compiler use AVX2 and the other instructions of x86-64-v3, which saves 2% of the time for a
# log. What RUSTFLAGS says of the CPU comes later and wins. src/cpu.rs checks the CPU.
choose_cpu() {
  [[ $arch == x86_64 ]] || return 0
  export RUSTFLAGS="-Ctarget-cpu=x86-64-v3${RUSTFLAGS:+ $RUSTFLAGS}"
}

# Removes this machine's paths from the binary, so that it reveals none and every machine builds the
# same zip.
forget_paths() {
  export RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo --remap-path-prefix=$PWD=edgetap"
}

# Builds with this machine's linker. Returns 1 if the binary needs a newer glibc than Lambda has.
build_here() {
  binary=$target/$PROFILE/bootstrap
  run cargo build --locked --profile "$PROFILE" --bin bootstrap
  ((dry_run)) && return
  check_architecture
  local newest
  newest=$(newest_glibc)
  is_at_least "$GLIBC" "$newest" && return
  note "with this machine's linker the function needs glibc $newest, but Amazon Linux 2023 has $GLIBC; building again with cargo-zigbuild"
  return 1
}

build_with_zig() {
  local triple=x86_64-unknown-linux-gnu
  if [[ $arch == arm64 ]]; then triple=aarch64-unknown-linux-gnu; fi
  PATH=$PWD/target/zig/bin:$PATH
  command -v cargo-zigbuild >/dev/null \
    || problem 'cargo-zigbuild is not installed' \
      'run python3 -m venv target/zig && target/zig/bin/pip install cargo-zigbuild==0.24.0 ziglang==0.17.0'
  [[ -d $(rustc --print sysroot)/lib/rustlib/$triple ]] || problem "Rust's standard library for $triple is not installed" "run rustup target add $triple"
  refuse_on_problems
  binary=$target/$triple/$PROFILE/bootstrap
  run cargo zigbuild --locked --profile "$PROFILE" --bin bootstrap --target "$triple.$GLIBC"
  ((dry_run)) && return
  check_architecture
  local newest
  newest=$(newest_glibc)
  is_at_least "$GLIBC" "$newest" || die "$binary needs glibc $newest, but Amazon Linux 2023 has $GLIBC"
}

run() {
  if ((dry_run)); then
    show_command 'would run' "$@"
  else
    "$@" || die "${*:1:2} failed"
  fi
}

check_architecture() {
  local machine
  machine=$(LC_ALL=C readelf --file-header "$binary" | sed -n 's/^ *Machine: *//p')
  case $arch:$machine in
    x86_64:*X86-64* | arm64:*AArch64*) ;;
    *) die "$binary was built for $machine, not for $arch" ;;
  esac
}

newest_glibc() {
  LC_ALL=C readelf --version-info --wide "$binary" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -t . -k 1,1n -k 2,2n | tail -n 1
}

# Writes the zip with a fixed time and mode, because zip tools record those of the build. Also
# writes the architecture, for setup-tfvars.sh.
pack() {
  mkdir -p "$OUTPUT"
  python3 - "$binary" "$OUTPUT/bootstrap.zip" <<'END'
import sys, zipfile
binary, path = sys.argv[1:]
entry = zipfile.ZipInfo("bootstrap", (1980, 1, 1, 0, 0, 0))
entry.external_attr, entry.create_system, entry.compress_type = 0o100755 << 16, 3, zipfile.ZIP_DEFLATED
with zipfile.ZipFile(path, "w") as archive, open(binary, "rb") as file:
    archive.writestr(entry, file.read(), compresslevel=9)
END
  printf '%s\n' "$arch" >"$OUTPUT/architecture"
  python3 - "$OUTPUT/bootstrap.zip" "$arch" "$(newest_glibc)" <<'END'
import hashlib, sys
path, arch, glibc = sys.argv[1:]
content = open(path, "rb").read()
print(f"{path}: {arch}, needs glibc {glibc}\nsize    {len(content):,} bytes\nSHA-256 {hashlib.sha256(content).hexdigest()}")
END
}

main "$@"
