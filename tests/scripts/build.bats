#!/usr/bin/env bats
# Building the Lambda function with stubs of the compilers: which one is called, which binaries are
# accepted, and the zip. scripts/test.sh makes the real build, and tests/operator runs its result.

# shellcheck disable=SC2154,SC2016 # helpers.bash sets variables; the stubs expand the others
load helpers.bash

setup() {
  setup_clone
  # Hide a zig that this machine may have.
  export PATH=$BATS_TEST_TMPDIR/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
  export LOG=$BATS_TEST_TMPDIR/cargo.log SYSROOT=$BATS_TEST_TMPDIR/sysroot CLONE=$clone
  export SYSTEM=Linux HARDWARE=x86_64 HEADER='Advanced Micro Devices X86-64' SYMBOLS='GLIBC_2.2.5 GLIBC_2.4 GLIBC_2.34' CARGO_HOME=/home/me/.cargo
  unset RUSTFLAGS
  : >"$LOG"
  mkdir -p "$BATS_TEST_TMPDIR/bin"
  stub uname 'case $1 in -m) echo "$HARDWARE" ;; *) echo "$SYSTEM" ;; esac'
  stub rustc 'echo "$SYSROOT"'
  stub readelf 'case $1 in --file-header) echo "  Machine:   $HEADER" ;; *) printf "  %s\n" $SYMBOLS ;; esac'
  stub cargo '[[ $1 == metadata ]] && printf "{\"target_directory\":\"%s/target\",\"x\":1}\n" "$CLONE" && exit
    printf "%s\nRUSTFLAGS=%s\n" "$*" "$RUSTFLAGS" >>"$LOG"
    directory=$CLONE/target/lambda
    [[ $* != *--target* ]] || directory=$CLONE/target/$(sed "s/.*--target \([^ ]*\)\.2\.34$/\1/" <<<"$*")/lambda
    mkdir -p "$directory" && printf "\177ELF, made by cargo %s" "$1" >"$directory/bootstrap"'
}

# stub NAME SCRIPT: puts a program on the PATH.
stub() {
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$BATS_TEST_TMPDIR/bin/$1"
  chmod +x "$BATS_TEST_TMPDIR/bin/$1"
}

install_zig() { stub cargo-zigbuild 'exit 1'; }

install_library() { mkdir -p "$SYSROOT/lib/rustlib/$1"; }

@test "zip contains the binary, size and SHA-256 are printed" {
  run scripts/build-lambda.sh
  exits 0
  has 'target/lambda/bootstrap.zip: x86_64, needs glibc 2.34'
  has "$(sha256sum target/lambda/bootstrap.zip | cut -d ' ' -f 1)"
  has "size    $(stat -c %s target/lambda/bootstrap.zip) bytes"
  grep -q -x 'build --locked --profile lambda --bin bootstrap' "$LOG"
  [[ $(<target/lambda/architecture) == x86_64 ]]
  run python3 -c 'import zipfile; print([(e.filename, oct(e.external_attr >> 16)) for e in zipfile.ZipFile("target/lambda/bootstrap.zip").infolist()])'
  has "[('bootstrap', '0o100755')]"
}

@test "same binary gives the same zip at any time and place" {
  scripts/build-lambda.sh
  cp target/lambda/bootstrap.zip "$BATS_TEST_TMPDIR/before.zip"
  (umask 077 && TZ=Asia/Tokyo scripts/build-lambda.sh)
  touch -d 2001-01-01 target/lambda/bootstrap
  cmp target/lambda/bootstrap.zip "$BATS_TEST_TMPDIR/before.zip"
  rm -r target
  scripts/build-lambda.sh
  cmp target/lambda/bootstrap.zip "$BATS_TEST_TMPDIR/before.zip"
}

@test "compiler flags remove source paths from the binary" {
  RUSTFLAGS='-C opt' run scripts/build-lambda.sh
  exits 0
  grep -q -x -F "RUSTFLAGS=-Ctarget-cpu=x86-64-v3 -C opt --remap-path-prefix=/home/me/.cargo=cargo --remap-path-prefix=$clone=edgetap" "$LOG"
}

@test "dry run builds nothing" {
  run scripts/build-lambda.sh --dry-run
  exits 0
  has 'would run: cargo build --locked --profile lambda --bin bootstrap'
  has 'nothing was built'
  [[ ! -s $LOG ]]
  [[ ! -e target ]]
}

@test "flags are those of the build, and nothing is built" {
  run scripts/build-lambda.sh --flags
  exits 0
  [[ ! -s $LOG && ! -e target ]]
  local flags=$output
  run scripts/build-lambda.sh --flags --dry-run
  exits 2
  scripts/build-lambda.sh
  grep -q -x -F "RUSTFLAGS=$flags" "$LOG"
}

@test "unknown architecture is rejected" {
  for arguments in '--arch mips' '--arch' '--arch=arm64'; do
    # shellcheck disable=SC2086 # options are separate words
    run scripts/build-lambda.sh $arguments
    exits 2
  done
  run scripts/build-lambda.sh --arch mips
  has '--arch must be x86_64 or arm64'
  [[ ! -s $LOG ]]
}

@test "missing cross-build tools are reported with commands" {
  run scripts/build-lambda.sh --arch arm64
  exits 2
  has 'pip install cargo-zigbuild==0.24.0 ziglang==0.17.0'
  has 'rustup target add aarch64-unknown-linux-gnu'
  [[ ! -s $LOG ]]
}

@test "arm64 build links with zig against glibc 2.34" {
  install_zig
  install_library aarch64-unknown-linux-gnu
  HEADER=AArch64 run scripts/build-lambda.sh --arch arm64
  exits 0
  grep -q -x 'zigbuild --locked --profile lambda --bin bootstrap --target aarch64-unknown-linux-gnu.2.34' "$LOG"
  [[ $(<target/lambda/architecture) == arm64 ]]
  has 'target/lambda/bootstrap.zip: arm64'
}

@test "macOS and a newer glibc build with zig" {
  install_zig
  install_library x86_64-unknown-linux-gnu
  SYSTEM=Darwin run scripts/build-lambda.sh
  exits 0
  has_not 'building again'
  run grep -c '^build ' "$LOG"
  [[ $output == 0 ]]

  stub readelf 'case $*:$HEADER in --file-header*) echo "  Machine: $HEADER" ;; *unknown-linux*) echo GLIBC_2.34 ;; *) echo GLIBC_2.39 ;; esac'
  run scripts/build-lambda.sh
  exits 0
  has 'needs glibc 2.39, but Amazon Linux 2023 has 2.34; building again with cargo-zigbuild'
  has 'needs glibc 2.34'
}

@test "binary that Amazon Linux 2023 cannot run is not packed" {
  SYMBOLS='GLIBC_2.4 GLIBC_2.35' run scripts/build-lambda.sh
  exits 2
  has 'needs glibc 2.35'
  install_zig
  install_library x86_64-unknown-linux-gnu
  SYMBOLS='GLIBC_2.4 GLIBC_2.35' run scripts/build-lambda.sh
  exits 1
  has 'needs glibc 2.35, but Amazon Linux 2023 has 2.34'
  HEADER=AArch64 run scripts/build-lambda.sh
  exits 1
  has 'was built for AArch64, not for x86_64'
  [[ ! -e target/lambda/bootstrap.zip ]]
}
