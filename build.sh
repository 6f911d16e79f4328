#!/usr/bin/env bash
# Sets up what is missing, builds, tests and serves gpt2-web. `./build.sh help` lists the commands.
set -euo pipefail
caller="$PWD"
cd "$(dirname "${BASH_SOURCE[0]}")"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/gpt2-web"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
tools="$cache/tools"
wasm_target=wasm32-unknown-unknown
# just the features that rustc uses: with more, wasm-opt writes what browsers do not read yet
wasm_features=(bulk-memory bulk-memory-opt mutable-globals nontrapping-float-to-int sign-ext reference-types multivalue simd)
export PATH="$tools/bin:$PATH"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'build.sh: %s\n' "$*" >&2; exit 1; }

usage() {
  cat <<'TEXT'
./build.sh serve [port]  set up, build, and open the page on localhost (default port 8000)
./build.sh test          set up, and run every test: native, in the browser, and the page end to end
./build.sh test hosts    build and open an app in every host, the large ones (Next.js, Deno, Bun) too
./build.sh build         build the package into www/dist
./build.sh check         format, lints, types, and whether docs/api is current
./build.sh docs          write docs/api, the reference, anew from the types and their docstrings
./build.sh fuzz [sec]    fuzz what reads a file of a checkpoint or the cache, so long each (default 60 seconds)
./build.sh bench [WHAT]  measure: page (the default), load, lookup, peers, xl (in headless Chromium; www/bench/ has their options),
                         cpu (the kernels, natively), batch (several texts at once, natively), gpu (the GPU engine through Vulkan), quality (what formats cost)
./build.sh bench load    measure loading: time, bytes fetched and stored, memory (see www/bench/load.mjs)
./build.sh bench lookup  measure look-up drafts, and several texts at once, through the whole package (see www/bench/lookup.mjs)
./build.sh train [...]   train a model: `train --text FOLDER --out RUN` makes the demo model (docs/training.md)
./build.sh learn ...     what the trainer can do: train, distil, prune, two-bits, score, plot (--help tells it)
./build.sh pack          leave the npm package in dist/, and tell what it weighs
./build.sh help          this text
TEXT
}

# ---- setting up: each step does nothing where its tool is there already

need_rust() {
  command -v cargo >/dev/null || die "Rust is missing: install it from https://rustup.rs"
  rustc --print target-libdir --target "$wasm_target" 2>/dev/null | xargs test -d ||
    { say "adding the Rust target $wasm_target"; rustup target add "$wasm_target"; }
}

need_wasm_bindgen() { # the CLI must be of the very version that the crate is locked to
  local version log="$cache/wasm-bindgen.log"
  version=$(sed -n '/^name = "wasm-bindgen"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock)
  [ "$(wasm-bindgen --version 2>/dev/null)" = "wasm-bindgen $version" ] && return
  say "installing wasm-bindgen-cli $version"
  # its own lock file first; a registry may lag behind what that names
  local install=(env -u CARGO_TARGET_DIR cargo install wasm-bindgen-cli --version "$version" --force --root "$tools")
  mkdir -p "$cache"
  "${install[@]}" --locked >"$log" 2>&1 && return
  if grep -q 'failed to select a version\|no matching package' "$log"; then
    say "the lock file's crates cannot all be had from this registry; installing without it"
  else
    cat "$log" >&2
    say "this failed; trying once more, without the lock file"
  fi
  "${install[@]}"
}

need_cargo_fuzz() {
  local version=0.13.2
  [ "$(cargo-fuzz fuzz --version 2>/dev/null)" = "cargo-fuzz $version" ] && return
  { command -v "${CXX:-c++}" >/dev/null; } ||
    die "a C++ compiler is missing: libFuzzer, which fuzz/ is linked with, is built from source"
  say "installing cargo-fuzz $version"
  env -u CARGO_TARGET_DIR cargo install cargo-fuzz --version "$version" --force --root "$tools" --locked
}

need_node() {
  command -v node >/dev/null || die "Node.js 20 or later is missing: https://nodejs.org"
  [ "$(node -p 'process.versions.node.split(".")[0] >= 20')" = true ] || die "Node.js 20 or later is needed, found $(node --version)"
  need_packages www
}

need_packages() { # FOLDER: those of its lock file
  [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ] && return
  say "installing the npm packages of $1"
  (cd "$1" && npm ci --no-fund --no-audit && touch node_modules/.package-lock.json)
}

# What the types of the adapters are held against. Installed, with what they depend on, they would take hundreds of megabytes.
need_foreign_types() {
  local package version name
  while read -r package version name; do
    [ "$(cat "www/foreign-types/$name/fetched-version" 2>/dev/null)" = "$version" ] && continue
    say "fetching the types of $package $version"
    local staging=www/foreign-types/$name.new
    rm -rf "$staging" "www/foreign-types/$name"
    mkdir -p "$staging"
    (cd "$staging" && npm pack --silent "$package@$version" </dev/null >/dev/null)
    tar -xzf "$staging"/*.tgz -C "$staging" --strip-components=1
    rm "$staging"/*.tgz
    printf '%s\n' "$version" >"$staging/fetched-version"
    mv "$staging" "www/foreign-types/$name"
  done <<'LIST'
@huggingface/transformers 4.3.1 transformers
openai 7.57.0 openai
LIST
}

# Checkouts may share a target folder, and cargo compares times only, so one checkout could get the other's build. When the
# folder was last used by another checkout, all sources count as changed.
own_sources() {
  local mark="$CARGO_TARGET_DIR/checkout"
  [ "$(cat "$mark" 2>/dev/null)" = "$PWD" ] && return
  find src tests kernels benches fuzz learn -name '*.rs' -exec touch {} +
  mkdir -p "$CARGO_TARGET_DIR"
  printf '%s\n' "$PWD" >"$mark"
}

find_first() { # the first of its arguments that can be run
  local candidate
  for candidate in "$@"; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null; then command -v "$candidate"; return; fi
  done
  return 1
}

find_browser() {
  CHROMIUM=$(find_first "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" "/Applications/Chromium.app/Contents/MacOS/Chromium") &&
    CHROMEDRIVER=$(find_first "${CHROMEDRIVER:-}" chromedriver)
}

need_browser() {
  if ! find_browser; then
    command -v apt-get >/dev/null ||
      die "Chrome and chromedriver are missing: install both (macOS: brew install --cask google-chrome chromedriver)," \
        "or name them in CHROMIUM and CHROMEDRIVER"
    say "installing chromium and chromium-driver"
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    { $sudo apt-get update -q && $sudo apt-get install -qy chromium chromium-driver && find_browser; } ||
      die "chromium cannot be installed here: install Chrome and chromedriver, or name them in CHROMIUM and CHROMEDRIVER"
  fi
  export CHROMIUM CHROMEDRIVER
}

# Firefox and WebKit, in which the tests of www/test/browsers run as well. Where one cannot be had its tests are skipped, or
# fail in CI; they tell so themselves.
need_other_browsers() {
  local package sudo="" is_updated=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  command -v apt-get >/dev/null || return 0
  for package in $(other_browsers_missing); do
    say "installing $package"
    [ -n "$is_updated" ] || $sudo apt-get update -q || true
    is_updated=1
    $sudo apt-get install -qy --no-install-recommends "$package" || say "$package cannot be installed here"
  done
}

other_browsers_missing() { # Debian's packages for what is not there
  find_first "${FIREFOX:-}" firefox-esr firefox >/dev/null || echo firefox-esr
  find_first "${WEBKIT_DRIVER:-}" WebKitWebDriver >/dev/null || echo webkit2gtk-driver
  find_first "${XVFB:-}" Xvfb >/dev/null || echo xvfb
}

need_vulkan() { # tests/gpu wants an adapter; Mesa's software one will do
  [ "$(uname)" = Linux ] && command -v apt-get >/dev/null || return 0
  ls /usr/share/vulkan/icd.d/*.json >/dev/null 2>&1 && return
  say "installing Mesa's software Vulkan"
  local sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get install -qy mesa-vulkan-drivers ||
    { $sudo apt-get update -q && $sudo apt-get install -qy mesa-vulkan-drivers; } ||
    say "Mesa cannot be installed: without a Vulkan adapter the tests of the GPU engine are skipped, or fail in CI"
}

# ---- building

build_wasm() { # the module of the models, small for visitors whose model runs on the CPU, and full
  need_rust
  need_wasm_bindgen
  own_sources
  say "compiling to WebAssembly (the first time takes a minute or two)"
  build_page_module gpt2_web gpt2-web page-small --no-default-features --features page
  build_page_module gpt2_web_full gpt2-web page
  build_page_module gpt2_learn gpt2-learn-web learn # what learns, fetched by those who do
}

# Each build has a target folder of its own: a cdylib has one name, and the tests build it with the reference in it.
build_page_module() { # NAME CRATE FOLDER [FLAG...]
  local name="$1" crate="$2" target_dir="$CARGO_TARGET_DIR/$3"
  shift 3
  cargo build --locked --release --package "$crate" --lib --target "$wasm_target" --target-dir "$target_dir" "$@"
  local wasm="$target_dir/$wasm_target/release/${crate//-/_}.wasm"
  if [ "www/wasm/${name}_bg.wasm" -nt "$wasm" ]; then return; fi
  # wasm-ld wraps every export in a run of all constructors unless they are called by hand: see src/web/mod.rs
  if grep -q command_export "$wasm"; then
    die "the wasm has command_export wrappers: every call would run the constructors again"
  fi
  local staging=www/wasm.new # moved into place when all is done, the module last, so that an interrupted run is done again
  rm -rf "$staging" "www/wasm/${name}_bg.wasm"
  wasm-bindgen --target web --out-dir "$staging" --out-name "$name" "$wasm"
  say "optimising $name"
  www/node_modules/.bin/wasm-opt -O2 --strip-debug --strip-producers "${wasm_features[@]/#/--enable-}" \
    "$staging/${name}_bg.wasm" -o "$staging/optimised"
  rm "$staging/${name}_bg.wasm"
  mkdir -p www/wasm
  mv "$staging/optimised" "www/wasm/${name}_bg.wasm.new"
  mv "$staging"/* www/wasm/
  mv "www/wasm/${name}_bg.wasm.new" "www/wasm/${name}_bg.wasm"
  rmdir "$staging"
}

build_kernels() { # the CPU kernels, a small module for each kind of browser: relaxed SIMD or not, shared memory or not
  local target_dir="$CARGO_TARGET_DIR/kernels" simd threads name wasm
  for simd in "" -relaxed; do
    for threads in "" -threads; do
      name="kernels$simd$threads"
      local features=+simd128,+bulk-memory,+mutable-globals flags="-C link-arg=--import-memory" kind=module
      [ -z "$simd" ] || features+=,+relaxed-simd
      if [ -n "$threads" ]; then
        features+=,+atomics
        kind=threads
        flags+=" -C link-arg=--shared-memory -C link-arg=--max-memory=4294967296 -C link-arg=--export=__stack_pointer"
      fi
      # rustc warns that +atomics is not stable yet, which is known; other words are shown when it fails
      RUSTFLAGS="-C target-feature=$features $flags" CARGO_TARGET_DIR="$target_dir/$name" cargo rustc --locked --quiet -p gpt2-kernels \
        --lib --release --crate-type cdylib --features "$kind" --target "$wasm_target" 2>"$cache/kernels.log" ||
        { cat "$cache/kernels.log" >&2; die "the kernels do not compile"; }
      wasm="$target_dir/$name/$wasm_target/release/gpt2_kernels.wasm"
      [ "www/wasm/$name.wasm" -nt "$wasm" ] && continue
      say "optimising $name"
      # nothing of ours lies in the first kilobyte, so constants may move into the addresses
      www/node_modules/.bin/wasm-opt -O3 --low-memory-unused --strip-debug --strip-producers --strip-target-features \
        "${wasm_features[@]/#/--enable-}" --enable-relaxed-simd --enable-threads "$wasm" -o "www/wasm/$name.new"
      mv "www/wasm/$name.new" "www/wasm/$name.wasm"
    done
  done
}

build() {
  need_node
  build_wasm
  build_kernels
  (cd www && node build.mjs)
}

# ---- commands

run_fuzz() { # SECONDS [FLAG...]: so long for each target; the flags are libFuzzer's
  local seconds="$1" target found
  shift
  need_rust
  need_cargo_fuzz
  own_sources
  # coverage works on the stable compiler; only the sanitizers, of which safe code has little to fear, are nightly's
  local fuzz=(env CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz" cargo fuzz)
  "${fuzz[@]}" build --sanitizer none
  for target in $("${fuzz[@]}" list); do
    say "fuzzing $target for $seconds s"
    found=$(mktemp -d) # what reached something new; only fuzz/corpus is kept, and it only grows by what was a bug
    "${fuzz[@]}" run --sanitizer none "$target" "$found" "fuzz/corpus/$target" -- \
      -max_total_time="$seconds" -dict=fuzz/dictionary.txt -max_len=8192 -timeout=10 -rss_limit_mb=1024 \
      -verbosity=0 -print_funcs=0 -print_final_stats=1 "$@" 2>&1 | grep -v '# Uses: \|ecommended dictionary'
    rm -rf "$found"
  done
}

run_check() {
  need_node
  need_rust
  own_sources
  cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || rustup component add rustfmt clippy
  say "cargo fmt"
  cargo fmt --all --check
  cargo fmt --check --manifest-path fuzz/Cargo.toml
  say "cargo clippy"
  cargo clippy --locked --workspace --all-targets --features burn -- -D warnings
  cargo clippy --locked --lib --target "$wasm_target" -- -D warnings
  cargo clippy --locked --lib --target "$wasm_target" --no-default-features --features page -- -D warnings
  cargo clippy --locked --test web --features burn --target "$wasm_target" -- -D warnings
  say "cargo doc"
  RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --lib --workspace --features burn
  say "biome"
  (cd www && npx biome check --error-on-warnings)
  if LC_ALL=C.UTF-8 grep -rnE '.{121}' www/src; then die "lines of www/src are longer than 120 characters"; fi
  [ -f www/wasm/gpt2_web_bg.wasm ] || build_wasm
  say "tsc"
  (cd www && npx tsc && npx tsc -p src/cli)
  need_foreign_types
  (cd www && npx tsc -p test/types)
  check_docs
  # the package is ES modules alone, so nothing is asked of what CommonJS would see
  say "publint and are-the-types-wrong"
  local package
  package=$(package_file)
  [ -f "$package" ] || run_pack
  (cd www && npx publint run --strict "../$package" && npx attw "../$package" --profile esm-only)
}

build_docs() { # FOLDER: writes the reference into it
  need_packages docs/typedoc
  (cd docs/typedoc && npx typedoc --logLevel Warn --out "$1")
}

check_docs() {
  say "docs/api"
  local fresh
  fresh=$(mktemp -d)
  build_docs "$fresh"
  diff -r docs/api "$fresh" || die "docs/api is not what the types say: run ./build.sh docs"
  rm -rf "$fresh"
}

package_file() { printf 'dist/gpt2-web-%s.tgz\n' "$(cd www && node -p 'require("./package.json").version')"; }

run_test_hosts() {
  need_browser
  run_pack
  need_packages www/test/hosts
  need_packages www/test/hosts/heavy
  (cd www && node --test --test-concurrency=1 --test-reporter=spec \
    test/hosts.test.mjs test/policies.test.mjs test/hosts/heavy.test.mjs)
}

run_test() {
  need_browser
  need_other_browsers
  need_packages www/test/hosts
  need_vulkan
  run_pack
  run_check
  [ -n "${CI:-}" ] || [ -d "${GPT2_WEB_SHARED:-../shared}" ] ||
    say "SKIPPING tests/foreign.rs and tests/quality.rs: the files that they read are not here (tests/README.md)"
  say "native tests"
  cargo test --locked --workspace --features burn
  run_fuzz 10 -seed=1
  # a test on the software GPU compiles every pipeline first, which takes the runner's 20 seconds and more
  export WASM_BINDGEN_TEST_TIMEOUT=300
  say "WebAssembly tests in headless Chromium"
  node www/test/webdriver.mjs "$CARGO_TARGET_DIR/webdriver.json"
  WASM_BINDGEN_TEST_WEBDRIVER_JSON="$CARGO_TARGET_DIR/webdriver.json" \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner \
    cargo test --locked --release --features burn --target "$wasm_target" --test web
  say "the kernels' tests as WebAssembly with relaxed SIMD"
  WASM_BINDGEN_TEST_WEBDRIVER_JSON="$CARGO_TARGET_DIR/webdriver.json" RUSTFLAGS="-C target-feature=+simd128,+relaxed-simd" \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=wasm-bindgen-test-runner CARGO_TARGET_DIR="$CARGO_TARGET_DIR/kernels/test" \
    cargo test --locked -p gpt2-kernels --target "$wasm_target" --test oracle
  say "the page and the package, end to end"
  (cd www && npm test)
  say "all tests passed"
}

# The program is called from where the caller is, so that paths mean what they say.
run_learn() { # train [OPTION...], or learn COMMAND [OPTION...]
  command -v cargo >/dev/null || die "Rust is missing: install it from https://rustup.rs"
  own_sources
  [ "$1" = train ] || shift
  local features=()
  # Burn takes ten minutes to build, and only its devices need it
  [[ " $* " == *" --device"* ]] && features=(--features burn)
  cargo build --locked --quiet -p gpt2-learn --bin learn "${features[@]}"
  cd "$caller"
  exec "$CARGO_TARGET_DIR/debug/learn" "$@"
}

run_bench() {
  case "${1:-page}" in
    quality) GPT2_WEB_QUALITY_ALL=1 cargo test --locked --features burn --test quality -- --nocapture ;;
    cpu) shift; cargo bench --locked -p gpt2-kernels -- "$@" ;;
    batch) shift; cargo bench --locked -p gpt2-kernels -- 'batch of' "$@" ;;
    gpu) shift; cargo bench --locked --profile dev --bench gpu -- "$@" ;;
    xl) shift; need_browser; run_pack; exec node www/bench/xl.mjs "$@" ;;
    peers) shift; need_browser; run_pack; exec node www/bench/peers.mjs "$@" ;;
    load) shift; need_browser; build; exec node www/bench/load.mjs "$@" ;;
    lookup) shift; need_browser; build; exec node www/bench/lookup.mjs "$@" ;;
    page) shift || true; need_browser; build; exec node www/bench/bench.mjs "$@" ;;
    *) die "no such bench: $1 (page, load, lookup, peers, xl, cpu, batch, gpu, quality)" ;;
  esac
}

run_pack() {
  build
  mkdir -p dist
  local staging
  staging=$(mktemp -d)
  cp -R www/package.json www/dist README.md CHANGELOG.md LICENSE "$staging"
  node www/third-party.mjs "$staging/THIRD_PARTY"
  rm -rf "$staging"/dist/page* "$staging"/dist/types/page
  (cd "$staging" && npm pack --silent) | tail -n 1
  mv "$staging"/*.tgz dist/
  rm -rf "$staging"
  say "$(package_file)"
  node www/sizes.mjs
}

case "${1:-help}" in
  serve) build; exec node www/serve.mjs "${2:-8000}" ;; # not `&&`: that would turn `set -e` off inside
  test)
    case "${2:-all}" in
      all) run_test ;;
      hosts) run_test_hosts ;;
      *) die "no such tests: $2 (hosts; without a word, all)" ;;
    esac
    ;;
  build) build ;;
  check) run_check ;;
  docs)
    need_node
    build_docs ../api
    ;;
  fuzz) run_fuzz "${2:-60}" ;;
  bench) shift; run_bench "$@" ;;
  train | learn) run_learn "$@" ;;
  pack) run_pack ;;
  help | -h | --help) usage ;;
  *) usage >&2; die "no such command: $1" ;;
esac
