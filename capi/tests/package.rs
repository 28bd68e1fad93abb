//! What `install.sh` installs: outside programs find it through pkg-config and CMake, with every
//! compiler, shared and static, and still do when the folder was moved.
#![allow(missing_docs)]

mod common;

use common::{STRICT, TempDir, done, first_tool, library, root, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn script(args: &[&str], prefix: &Path) -> Command {
    let mut script = Command::new(root().join("install.sh"));
    script.args(args).arg("--prefix").arg(prefix);
    script
}

/// Installs the libraries of this build; the files that the script says it wrote.
fn install(prefix: &Path, args: &[&str]) -> Vec<PathBuf> {
    let out = done("install.sh", script(args, prefix).arg("--from").arg(library()));
    String::from_utf8(out.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// What a command that must fail complains about.
fn complaint(command: &mut Command) -> String {
    let out = command.output().unwrap();
    assert!(!out.status.success(), "{command:?} should have failed");
    // CMake breaks its lines where it likes.
    let words = String::from_utf8(out.stderr).unwrap();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Files and links below a folder, as paths inside it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    let mut open = vec![folder.to_path_buf()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => found.push(entry.path().strip_prefix(folder).unwrap().to_path_buf()),
            }
        }
    }
    found.sort();
    found
}

/// The programs of somebody else: copies, away from the sources.
fn outside(folder: &TempDir) -> PathBuf {
    let project = folder.path().join("outside");
    fs::create_dir_all(&project).unwrap();
    let examples = root().parent().unwrap().join("examples");
    fs::copy(examples.join("c/engine.c"), project.join("engine.c")).unwrap();
    fs::copy(examples.join("cpp/engine.cpp"), project.join("engine.cpp")).unwrap();
    fs::copy(root().join("tests/cmake/CMakeLists.txt"), project.join("CMakeLists.txt")).unwrap();
    project
}

fn is_ok(out: &Output) {
    let text = String::from_utf8_lossy(&out.stdout);
    let last = text.lines().last().unwrap_or_default();
    let value: serde_json::Value = serde_json::from_str(last).unwrap();
    assert_eq!(value["ok"], true, "{text}");
    assert!(value["tokens"].as_u64().unwrap() > 100, "{text}");
}

/// Does the program ask for the shared library when it starts?
fn is_shared(program: &Path) -> bool {
    let out = done("readelf", Command::new("readelf").arg("-d").arg(program));
    String::from_utf8(out.stdout).unwrap().contains("[libstepscope.so.0]")
}

/// C and C++ compilers that belong together.
fn compilers() -> Vec<(&'static str, &'static str)> {
    let pairs = [
        (first_tool(&["gcc"]), first_tool(&["g++"])),
        (first_tool(&["clang", "clang-14"]), first_tool(&["clang++", "clang++-14"])),
    ];
    pairs.into_iter().filter_map(|(c, cpp)| Some((c?, cpp?))).collect()
}

fn pkg_config(prefix: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("pkg-config");
    command.env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")).args(args);
    command
}

fn pkg_config_says(prefix: &Path, args: &[&str]) -> Vec<String> {
    let said = done("pkg-config", &mut pkg_config(prefix, args));
    String::from_utf8(said.stdout).unwrap().split_whitespace().map(String::from).collect()
}

/// Compiles one of the programs with what pkg-config says, once, and links and runs it for each of
/// the packages; whether the programs are shared.
fn through_pkg_config(
    project: &Path,
    prefix: &Path,
    (compiler, standard): (&str, &str),
    packages: &[&[&str]],
) -> Vec<bool> {
    let source = if standard.starts_with("c++") { "engine.cpp" } else { "engine.c" };
    let (object, program) = (project.join("engine.o"), project.join("engine"));
    let what = format!("{compiler} -std={standard}");
    let mut compile = Command::new(compiler);
    compile.arg(format!("-std={standard}")).args(STRICT).arg("-c").arg(project.join(source));
    compile.args(pkg_config_says(prefix, &["--cflags", "stepscope"])).arg("-o").arg(&object);
    done(&what, &mut compile);
    let one = |package: &&[&str]| {
        let mut link = Command::new(compiler);
        let libs = pkg_config_says(prefix, &[&["--libs"], *package].concat());
        done(&what, link.arg(&object).args(libs).arg("-o").arg(&program));
        let mut run = Command::new(&program);
        is_ok(&done(&what, run.env("LD_LIBRARY_PATH", prefix.join("lib"))));
        is_shared(&program)
    };
    packages.iter().map(one).collect()
}

#[test]
fn pkg_config_leads_every_compiler_to_it_and_still_does_after_a_move() {
    if !tool("pkg-config") || !tool("readelf") {
        return;
    }
    let folder = TempDir::new("pkg-config");
    let (first, moved) = (folder.path().join("first"), folder.path().join("moved"));
    let project = outside(&folder);
    install(&first, &[]);
    let builds = |prefix: &Path, how: (&str, &str)| {
        let both = [&["stepscope"][..], &["stepscope-static"]];
        assert_eq!(through_pkg_config(&project, prefix, how, &both), [true, false], "{how:?}");
    };
    for (c, cpp) in compilers() {
        for how in [(c, "c11"), (cpp, "c++17"), (cpp, "c++20")] {
            builds(&first, how)
        }
    }
    fs::rename(&first, &moved).unwrap();
    compilers().into_iter().for_each(|(c, _)| builds(&moved, (c, "c11")));
    let version = done("pkg-config", &mut pkg_config(&moved, &["--modversion", "stepscope"]));
    assert_eq!(String::from_utf8(version.stdout).unwrap().trim(), VERSION);
    let newer = complaint(&mut pkg_config(&moved, &["--print-errors", "stepscope >= 9"]));
    assert!(newer.contains("9") && newer.contains(VERSION), "{newer}");
}

#[test]
fn an_archive_alone_is_found_with_its_system_libraries() {
    if !tool("pkg-config") || !tool("readelf") {
        return;
    }
    let folder = TempDir::new("static-only");
    let (prefix, project) = (folder.path().join("prefix"), outside(&folder));
    install(&prefix, &["--static-only"]);
    let packages = [&["stepscope"][..], &["--static", "stepscope"], &["stepscope-static"]];
    let shared = through_pkg_config(&project, &prefix, ("cc", "c11"), &packages);
    assert_eq!(shared, [false, false, false]);
}

#[test]
fn with_both_installed_the_system_libraries_are_for_static_linking_only() {
    if !tool("pkg-config") {
        return;
    }
    let folder = TempDir::new("private");
    install(folder.path(), &[]);
    let dl = "-ldl".to_string();
    assert!(!pkg_config_says(folder.path(), &["--libs", "stepscope"]).contains(&dl));
    assert!(pkg_config_says(folder.path(), &["--static", "--libs", "stepscope"]).contains(&dl));
}

/// What rustc says that its standard library needs, which is all that this library needs.
#[test]
fn the_system_libraries_are_those_that_rustc_names() {
    let folder = TempDir::new("native-libs");
    let source = folder.path().join("nothing.rs");
    fs::write(&source, "").unwrap();
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--crate-type", "staticlib", "--print", "native-static-libs", "--out-dir"]);
    let out = done("rustc", rustc.arg(folder.path()).arg(&source));
    let said = String::from_utf8(out.stderr).unwrap();
    let named = said.lines().find_map(|line| line.split_once("native-static-libs: "));
    let script = fs::read_to_string(root().join("install.sh")).unwrap();
    let ours = script.lines().find_map(|line| line.trim().strip_prefix("system=' "));
    assert_eq!(ours.unwrap().trim_end_matches('\''), named.unwrap().1.trim());
}

/// Two engines as plugins of one process, each with an archive of its own inside.
#[test]
fn engines_with_archives_of_their_own_live_in_one_process() {
    if !tool("nm") {
        return;
    }
    let folder = TempDir::new("plugins");
    install(folder.path(), &["--static-only"]);
    let at = |name: &str| folder.path().join(name);
    let compile = |source: &str, to: &str, flags: &[&str]| {
        let mut cc = Command::new("cc");
        cc.arg("-std=c11").args(STRICT).arg("-I").arg(at("include")).args(["-o"]).arg(at(to));
        cc.arg(root().join("tests/c").join(source)).args(flags);
        done(source, &mut cc);
    };
    let archive = at("lib/libstepscope.a");
    // As the guide says: nothing of the archive is to be seen, and the plugin stays loaded.
    let hidden = ["-Wl,--exclude-libs,libstepscope.a", "-Wl,-z,nodelete"];
    let system = ["-shared", "-fPIC", "-lgcc_s", "-lpthread", "-ldl", "-lm"];
    for plugin in ["one.so", "two.so"] {
        let flags = [&[archive.to_str().unwrap()][..], &hidden, &system].concat();
        compile("plugin.c", plugin, &flags);
        let mut nm = Command::new("nm");
        let out = done("nm", nm.args(["-D", "--defined-only"]).arg(at(plugin)));
        let seen = String::from_utf8(out.stdout).unwrap();
        assert!(seen.contains("plugin_run") && !seen.contains("stepscope_"), "{seen}");
    }
    compile("plugins.c", "plugins", &["-ldl"]);
    let out = done("plugins", Command::new(at("plugins")).args([at("one.so"), at("two.so")]));
    assert_eq!(String::from_utf8(out.stdout).unwrap(), "survived\n");
}

fn configure(project: &Path, build: &Path, args: &[String]) -> Command {
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(project).arg("-B").arg(build).args(["-G", "Unix Makefiles"]).args(args);
    cmake
}

/// Configures, builds and runs programs of the project with a pair of compilers.
fn through_cmake(project: &Path, package: &Path, (c, cpp): (&str, &str), standards: &[&str]) {
    let build = project.join(format!("build-{c}"));
    let _ = fs::remove_dir_all(&build);
    let args = [
        format!("-DCMAKE_C_COMPILER={c}"),
        format!("-DCMAKE_CXX_COMPILER={cpp}"),
        format!("-Dstepscope_DIR={}", package.display()),
    ];
    done("cmake", &mut configure(project, &build, &args));
    let programs: Vec<String> =
        standards.iter().flat_map(|s| ["shared", "static"].map(|k| format!("{s}-{k}"))).collect();
    let mut make = Command::new("cmake");
    make.arg("--build").arg(&build).arg("-j2").arg("--target").args(&programs);
    done("cmake --build", &mut make);
    for name in programs {
        // CMake leaves the way to a shared library in the program.
        is_ok(&done(&name, &mut Command::new(build.join(&name))));
        assert_eq!(is_shared(&build.join(&name)), name.ends_with("shared"));
    }
}

#[test]
fn cmake_finds_it_for_every_compiler_and_still_does_after_a_move() {
    if !tool("cmake") || !tool("make") || !tool("readelf") {
        return;
    }
    let folder = TempDir::new("cmake");
    let (first, moved) = (folder.path().join("first"), folder.path().join("moved to here"));
    let project = outside(&folder);
    install(&first, &["--libdir", "lib/deep/er"]);
    let package = "lib/deep/er/cmake/stepscope";
    for pair in compilers() {
        through_cmake(&project, &first.join(package), pair, &["c11", "cxx17", "cxx20"]);
    }
    fs::rename(&first, &moved).unwrap();
    for pair in compilers() {
        through_cmake(&project, &moved.join(package), pair, &["c11"]);
    }
}

#[test]
fn cmake_refuses_what_is_not_there_and_says_why() {
    if !tool("cmake") || !tool("make") {
        return;
    }
    let folder = TempDir::new("cmake-refuses");
    let (prefix, project) = (folder.path().join("prefix"), outside(&folder));
    install(&prefix, &["--shared-only"]);
    let build = project.join("build");
    let wanted = |version: &str, kinds: &str| {
        let args = [
            // It must search again: what one found before is not asked for its version.
            "-Ustepscope_DIR".into(),
            format!("-DCMAKE_PREFIX_PATH={}", prefix.display()),
            format!("-DWANTED={version}"),
            format!("-DKINDS={kinds}"),
        ];
        configure(&project, &build, &args)
    };
    for fine in [VERSION, "0", "0.0.1", "0.1...<1", "0.1...0.1.0"] {
        done(fine, &mut wanted(fine, "shared"));
    }
    for other in ["9.0", "0.2", "0.2...1", "0.0.1...<0.1"] {
        let said = complaint(&mut wanted(other, "shared"));
        assert!(said.contains("compatible with requested version"), "{said}");
        assert!(said.contains(&format!("version: {VERSION}")), "{said}");
    }
    let said = complaint(&mut wanted(VERSION, "shared;static"));
    assert!(said.contains("no component static"), "{said}");
}

#[test]
fn an_installed_folder_names_no_place_and_goes_away_without_a_rest() {
    let folder = TempDir::new("uninstall");
    let stage = folder.path().join("a stage with blanks");
    let prefix = Path::new("/opt/some where");
    let staged = ["--destdir", stage.to_str().unwrap(), "--libdir=lib64"];
    fs::create_dir_all(&stage).unwrap();
    fs::write(stage.join("foreign"), "").unwrap();
    let said = install(prefix, &staged);
    let at = |path: &Path| stage.join(path.strip_prefix("/").unwrap());
    for path in &said {
        assert!(at(path).exists(), "{}", path.display());
        if path.extension().is_some_and(|own| own == "pc" || own == "cmake") {
            let text = fs::read_to_string(at(path)).unwrap();
            assert!(!text.contains("some where") && !text.contains("with blanks"), "{text}");
            assert!(!text.contains('@'), "{text}");
        }
    }
    let inside = at(prefix);
    let links = ["libstepscope.so", "libstepscope.so.0"].map(|l| inside.join("lib64").join(l));
    let targets = links.map(|link| fs::read_link(link).unwrap());
    assert_eq!(targets[0], Path::new("libstepscope.so.0"));
    assert_eq!(targets[1], PathBuf::from(format!("libstepscope.so.{VERSION}")));
    // The list itself is not said, and is there.
    assert_eq!(files(&stage).len(), said.len() + 2);

    // A second installation leaves nothing of the first behind.
    install(prefix, &[&staged[..], &["--static-only"]].concat());
    assert!(!inside.join("lib64/libstepscope.so.0").is_symlink());
    done("uninstall", script(&staged, prefix).arg("--uninstall"));
    assert_eq!(files(&stage), [Path::new("foreign")]);
    let twice = complaint(script(&staged, prefix).arg("--uninstall"));
    assert!(twice.contains("nothing is installed"), "{twice}");
}

#[test]
fn the_script_says_what_is_wrong_and_leaves_nothing() {
    let folder = TempDir::new("install-errors");
    let prefix = folder.path().join("prefix");
    let no_cargo = complaint(script(&[], &prefix).env("CARGO", "/nowhere/cargo"));
    assert!(no_cargo.contains("/nowhere/cargo is missing: install Rust"), "{no_cargo}");
    // A folder that even the superuser cannot make.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let locked = complaint(&mut script(&[], &file.join("prefix")));
    assert!(locked.contains("cannot write to") && locked.contains("another --prefix"), "{locked}");
    let from = folder.path().to_str().unwrap();
    for (args, says) in [
        (&["--frum", "x"][..], "unknown option --frum; see --help"),
        (&["--libdir"], "--libdir needs a value"),
        (&["--libdir", "/usr/lib"], "inside the prefix"),
        (&["--libdir", "../lib"], "inside the prefix"),
        (&["--static-only", "--shared-only"], "nothing to install"),
        (&["--from", from], "has no libstepscope.so"),
        (&["--static-only", "--from", from], "has no libstepscope.a"),
    ] {
        let mut command = Command::new(root().join("install.sh"));
        let said = complaint(command.arg("--prefix").arg(&prefix).args(args));
        assert!(said.contains(says), "{args:?}: {said}");
    }
    assert!(!prefix.exists());
    let help = done("--help", Command::new(root().join("install.sh")).arg("--help"));
    assert!(String::from_utf8(help.stdout).unwrap().contains("--static-only"));
}
