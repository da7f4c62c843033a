#!/usr/bin/env bats
# Building the Lambda function, with a compiler that is played: which one is called, what is accepted of what it made, and the zip.
# The real build is scripts/test.sh's, and tests/operator runs what comes of it.

# shellcheck disable=SC2154,SC2016 # the first are of helpers.bash; the others are for the programs played
load helpers.bash

setup() {
  setup_clone
  # zig is not here, whatever this machine has.
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
    folder=$CLONE/target/lambda
    [[ $* != *--target* ]] || folder=$CLONE/target/$(sed "s/.*--target \([^ ]*\)\.2\.34$/\1/" <<<"$*")/lambda
    mkdir -p "$folder" && printf "\177ELF, made by cargo %s" "$1" >"$folder/bootstrap"'
}

# stub NAME SCRIPT: a program for the PATH.
stub() {
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$BATS_TEST_TMPDIR/bin/$1"
  chmod +x "$BATS_TEST_TMPDIR/bin/$1"
}

install_zig() { stub cargo-zigbuild 'exit 1'; }

install_library() { mkdir -p "$SYSROOT/lib/rustlib/$1"; }

@test "the zip is the binary, for Lambda, and tells size and SHA-256" {
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

@test "the same binary is packed to the same bytes, whenever, wherever and by whomever" {
  scripts/build-lambda.sh
  cp target/lambda/bootstrap.zip "$BATS_TEST_TMPDIR/before.zip"
  (umask 077 && TZ=Asia/Tokyo scripts/build-lambda.sh)
  touch -d 2001-01-01 target/lambda/bootstrap
  cmp target/lambda/bootstrap.zip "$BATS_TEST_TMPDIR/before.zip"
  rm -r target
  scripts/build-lambda.sh
  cmp target/lambda/bootstrap.zip "$BATS_TEST_TMPDIR/before.zip"
}

@test "the compiler is told to forget where the sources lie" {
  RUSTFLAGS='-C opt' run scripts/build-lambda.sh
  exits 0
  grep -q -x -F "RUSTFLAGS=-C opt --remap-path-prefix=/home/me/.cargo=cargo --remap-path-prefix=$clone=edgetap" "$LOG"
}

@test "a dry run builds nothing" {
  run scripts/build-lambda.sh --dry-run
  exits 0
  has 'would run: cargo build --locked --profile lambda --bin bootstrap'
  has 'nothing was built'
  [[ ! -s $LOG && ! -e target ]]
}

@test "another architecture is refused" {
  for arguments in '--arch mips' '--arch' '--arch=arm64'; do
    # shellcheck disable=SC2086 # they are words
    run scripts/build-lambda.sh $arguments
    exits 2
  done
  run scripts/build-lambda.sh --arch mips
  has '--arch is x86_64 or arm64'
  [[ ! -s $LOG ]]
}

@test "what cross-building needs is told at once, with the commands that bring it" {
  run scripts/build-lambda.sh --arch arm64
  exits 2
  has 'pip install cargo-zigbuild==0.24.0 ziglang==0.17.0'
  has 'rustup target add aarch64-unknown-linux-gnu'
  [[ ! -s $LOG ]]
}

@test "for arm64, zig links against the older library" {
  install_zig
  install_library aarch64-unknown-linux-gnu
  HEADER=AArch64 run scripts/build-lambda.sh --arch arm64
  exits 0
  grep -q -x 'zigbuild --locked --profile lambda --bin bootstrap --target aarch64-unknown-linux-gnu.2.34' "$LOG"
  [[ $(<target/lambda/architecture) == arm64 ]]
  has 'target/lambda/bootstrap.zip: arm64'
}

@test "from another system, and where this one's library is too new, zig builds too" {
  install_zig
  install_library x86_64-unknown-linux-gnu
  SYSTEM=Darwin run scripts/build-lambda.sh
  exits 0
  has_not 'Building again'
  run grep -c '^build ' "$LOG"
  [[ $output == 0 ]]

  stub readelf 'case $*:$HEADER in --file-header*) echo "  Machine: $HEADER" ;; *unknown-linux*) echo GLIBC_2.34 ;; *) echo GLIBC_2.39 ;; esac'
  run scripts/build-lambda.sh
  exits 0
  has 'built here, the function needs glibc 2.39; Amazon Linux 2023 has 2.34. Building again'
  has 'needs glibc 2.34'
}

@test "what Amazon Linux 2023 cannot run is never packed" {
  SYMBOLS='GLIBC_2.4 GLIBC_2.35' run scripts/build-lambda.sh
  exits 2
  has 'needs glibc 2.35'
  install_zig
  install_library x86_64-unknown-linux-gnu
  SYMBOLS='GLIBC_2.4 GLIBC_2.35' run scripts/build-lambda.sh
  exits 1
  has 'needs glibc 2.35, and Amazon Linux 2023 has 2.34'
  HEADER=AArch64 run scripts/build-lambda.sh
  exits 1
  has 'is for AArch64, not for x86_64'
  [[ ! -e target/lambda/bootstrap.zip ]]
}
