#!/usr/bin/env bash
# Builds the C interface and installs it: libraries, headers, files for pkg-config and CMake.
set -euo pipefail
unset CDPATH # with it, cd prints

usage() {
    cat <<'END'
usage: capi/install.sh [options]

  --prefix DIR    where to install (default /usr/local)
  --libdir NAME   folder for libraries inside the prefix (default lib), such as lib/x86_64-linux-gnu
  --destdir DIR   put everything below this folder, as if it were / (for packages)
  --from DIR      take libstepscope.so and libstepscope.a from here instead of building them
  --shared-only   no archive
  --static-only   no shared library
  --uninstall     remove what was installed with the same prefix, libdir and destdir
  -h, --help      this text

Builds with `cargo build --release --locked`; CARGO names another cargo, CARGO_TARGET_DIR another
build folder. Prints each file it puts in place; the list is kept in LIBDIR/cmake/stepscope/installed.txt.
END
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

prefix=/usr/local libdir=lib destdir='' from='' shared=1 static=1 uninstall=''

parse() {
    while [ $# -gt 0 ]; do
        case $1 in
        --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
        esac
        case $1 in
        --prefix | --libdir | --destdir | --from)
            [ $# -ge 2 ] && [ -n "$2" ] || fail "$1 needs a value; see --help"
            printf -v "${1#--}" %s "$2"
            shift
            ;;
        --shared-only) static='' ;;
        --static-only) shared='' ;;
        --uninstall) uninstall=1 ;;
        -h | --help)
            usage
            exit 0
            ;;
        *) fail "unknown option $1; see --help" ;;
        esac
        shift
    done
    [ -n "$shared$static" ] || fail "--shared-only and --static-only leave nothing to install"
    case $libdir in
    /* | . | ./* | */./* | */. | *..* | *[!A-Za-z0-9._/+-]*) fail "--libdir is a folder inside the prefix, such as lib64, not $libdir" ;;
    esac
    libdir=${libdir%/}
    prefix=$(absolute "$prefix")
    [ -z "$destdir" ] || destdir=$(absolute "$destdir")
    base=$destdir$prefix
    list=$libdir/cmake/stepscope/installed.txt
}

absolute() {
    case $1 in
    /) ;;
    /*) printf %s "${1%/}" ;;
    *) printf %s "$PWD/${1%/}" ;;
    esac
}

# The first value that a pattern finds in a file of the sources: nothing is typed here a second time.
from_source() {
    local value
    value=$(sed -n "$2" "$root/$1" | sed -n 1p)
    [ -n "$value" ] || fail "$1 does not say what it should ($2)"
    printf %s "$value"
}

facts() {
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
    version=$(from_source Cargo.toml '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p')
    url=$(from_source Cargo.toml '/^\[workspace.package\]/,/^\[/s/^repository = "\(.*\)"$/\1/p')
    description=$(from_source capi/Cargo.toml 's/^description = "\(.*\)"$/\1/p')
    soname=$(from_source capi/build.rs 's/.*-soname,\(libstepscope\.so\.[0-9]*\)".*/\1/p')
    # What `--print native-static-libs` says for Linux with glibc; tests/package.rs asks rustc again.
    system=' -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc'
}

# Both before the build, which takes minutes.
check_source() {
    if [ -z "$from" ]; then
        command -v "${CARGO:-cargo}" >/dev/null ||
            fail "${CARGO:-cargo} is missing: install Rust (https://rustup.rs)," \
                "or name a folder with built libraries by --from"
        return
    fi
    [ -z "$shared" ] || [ -f "$from/libstepscope.so" ] || fail "$from has no libstepscope.so"
    [ -z "$static" ] || [ -f "$from/libstepscope.a" ] || fail "$from has no libstepscope.a"
}

check_writable() {
    mkdir -p "$base/$libdir/cmake/stepscope" "$base/$libdir/pkgconfig" "$base/include" 2>/dev/null &&
        [ -w "$base/$libdir" ] && [ -w "$base/include" ] ||
        fail "cannot write to $base: choose another --prefix, or run with the rights to write there"
}

build() {
    local target
    target=$(absolute "${CARGO_TARGET_DIR:-$root/target}")
    # A target of the machine's settings would put the libraries elsewhere, and old ones be taken.
    rm -f "$target"/release/libstepscope.{so,a}
    (cd "$root" && env -u CARGO_BUILD_TARGET "${CARGO:-cargo}" build --release --locked -p stepscope-capi --target-dir "$target") ||
        fail "the build failed; see above"
    from=$target/release
    check_source
}

# Puts one file in its place: mode, source, place inside the prefix.
put() {
    install -m "$1" "$2" "$base/$3" || fail "cannot write $base/$3"
    written "$3"
}

link() {
    ln -sfn "$1" "$base/$2" || fail "cannot write $base/$2"
    written "$2"
}

written() {
    printf '%s\n' "$1" >>"$base/$list"
    printf '%s\n' "$prefix/$1"
}

# Fills a template and puts it in its place inside the prefix, from where it must find its way up.
fill() {
    local up always='' private=$system
    up=$(printf %s "${2%/*}" | sed 's|[^/][^/]*|..|g')
    # Without a shared library the archive is what -lstepscope finds.
    [ -n "$shared" ] || { always=$system private=''; }
    [ -n "$static" ] || private=''
    sed -e "s|@UP@|$up|g" -e "s|@LIBDIR@|$libdir|g" -e "s|@VERSION@|$version|g" \
        -e "s|@MAJOR@|${version%%.*}|g" -e "s|@SONAME@|$soname|g" -e "s|@URL@|$url|g" \
        -e "s|@DESCRIPTION@|$description|g" -e "s|@SYSTEM_LIBS@|$system|g" \
        -e "s|@LIBS_ALWAYS@|$always|g" -e "s|@LIBS_PRIVATE@|$private|g" \
        -e "s|@CMAKE_LIBS@|$(printf %s "${system# -l}" | sed 's/ -l/;/g')|g" \
        "$root/capi/packaging/$1" >"$base/$2" || fail "cannot write $base/$2"
    chmod 644 "$base/$2"
    written "$2"
}

remove_old() {
    local file
    [ -f "$base/$list" ] || return 1
    while IFS= read -r file; do
        rm -f "$base/$file"
    done <"$base/$list"
    rm -f "$base/$list"
}

install_all() {
    local header
    remove_old || true
    if [ -n "$shared" ]; then
        put 755 "$from/libstepscope.so" "$libdir/libstepscope.so.$version"
        link "libstepscope.so.$version" "$libdir/$soname"
        link "$soname" "$libdir/libstepscope.so"
    fi
    for header in capi/include/stepscope.h capi/include/stepscope.hpp kernels/stepscope.cuh; do
        put 644 "$root/$header" "include/${header##*/}"
    done
    fill stepscope.pc.in "$libdir/pkgconfig/stepscope.pc"
    if [ -n "$static" ]; then
        put 644 "$from/libstepscope.a" "$libdir/libstepscope.a"
        fill stepscope-static.pc.in "$libdir/pkgconfig/stepscope-static.pc"
    fi
    fill stepscopeConfig.cmake.in "$libdir/cmake/stepscope/stepscopeConfig.cmake"
    fill stepscopeConfigVersion.cmake.in "$libdir/cmake/stepscope/stepscopeConfigVersion.cmake"
}

parse "$@"
if [ -n "$uninstall" ]; then
    remove_old || fail "nothing is installed in $base: there is no $base/$list"
    rmdir "$base/$libdir/cmake/stepscope" 2>/dev/null || true
    exit 0
fi
facts
check_source
check_writable
[ -n "$from" ] || build
install_all
