//! Where things are, which compilers there are, and what the built library and its header promise.
#![allow(dead_code, missing_docs)] // each test binary uses its own part

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with libstepscope.so and libstepscope.a of this build.
pub fn library() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let deps = exe.parent().unwrap();
    assert!(deps.join("libstepscope.so").exists(), "no library in {}", deps.display());
    deps.to_path_buf()
}

/// Is this program there? Says so and skips where it is missing, unless `STEPSCOPE_REQUIRE_TOOLS=1`.
pub fn tool(name: &str) -> bool {
    let found = Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success());
    if !found {
        let required = std::env::var("STEPSCOPE_REQUIRE_TOOLS").is_ok_and(|v| v == "1");
        assert!(!required, "{name} is missing and STEPSCOPE_REQUIRE_TOOLS=1");
        println!("skipped: {name} is missing");
    }
    found
}

/// The first of these that is there.
pub fn first_tool(names: &[&'static str]) -> Option<&'static str> {
    let there = names.iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success())
    });
    if there.is_none() {
        assert!(!tool(names[0]));
    }
    there.copied()
}

/// A folder of one test, removed with what is in it.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> TempDir {
        let path = std::env::temp_dir().join(format!("stepscope-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        TempDir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Warnings that a user's project may have turned on, as errors.
pub const STRICT: [&str; 8] =
    ["-Wall", "-Wextra", "-Werror", "-pedantic", "-Wshadow", "-Wconversion", "-Wundef", "-g"];

/// What a compiler is asked for.
pub struct Build<'a> {
    pub compiler: &'a str,
    pub standard: &'a str,
    pub flags: &'a [&'a str],
    pub linked_static: bool,
}

impl Build<'_> {
    /// Compiles a program against the header and the library of this build.
    pub fn compile(&self, source: &Path, to: &Path) {
        let library = library();
        let mut command = Command::new(self.compiler);
        command.arg(format!("-std={}", self.standard)).args(STRICT).args(self.flags);
        command.arg("-I").arg(root().join("include")).arg(source).arg("-o").arg(to);
        if self.linked_static {
            command.arg(library.join("libstepscope.a"));
            command.args(["-lpthread", "-ldl", "-lm", "-lgcc_s"]);
        } else {
            command.arg("-L").arg(&library).arg("-lstepscope").arg("-lpthread");
            command.arg(format!("-Wl,-rpath,{}", library.display()));
        }
        done(
            &format!("{} -std={} {}", self.compiler, self.standard, source.display()),
            &mut command,
        );
    }
}

/// Runs to success; says everything it said otherwise.
pub fn done(what: &str, command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|why| panic!("{what}: {why}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        out.status.success(),
        "{what}: {}\n{}\n{}",
        out.status,
        text(&out.stdout),
        text(&out.stderr)
    );
    out
}

/// A program that runs by the name the library will have once it is installed.
pub fn run(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", soname_folder());
    command
}

/// The build leaves `libstepscope.so`; programs ask for its SONAME.
fn soname_folder() -> PathBuf {
    let library = library();
    let link = library.join("libstepscope.so.0");
    // Another test binary may have made it just now.
    let _ = std::os::unix::fs::symlink("libstepscope.so", &link);
    assert!(link.exists());
    library
}

/// Symbols, and what a C compiler reads in the header, one a line.
pub fn abi() -> BTreeSet<String> {
    let mut lines = symbols();
    lines.extend(read_by_c());
    lines
}

/// What the shared library exports.
pub fn symbols() -> BTreeSet<String> {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--defined-only"]).arg(library().join("libstepscope.so"));
    let out = String::from_utf8(done("nm", &mut nm).stdout).unwrap();
    let names = out.lines().filter_map(|line| line.split_whitespace().last());
    names.map(|name| format!("symbol {name}")).collect()
}

fn header() -> String {
    std::fs::read_to_string(root().join("include/stepscope.h")).unwrap()
}

/// Names of the numbers that the header defines.
fn number_names() -> Vec<String> {
    let header = header();
    let defines = header.lines().filter_map(|line| line.strip_prefix("#define STEPSCOPE_"));
    let named = defines.filter_map(|rest| rest.split_once(' '));
    named.map(|(name, _)| format!("STEPSCOPE_{name}")).collect()
}

/// Structs and their fields, from the header's text.
fn fields() -> Vec<(String, Vec<String>)> {
    let header = header();
    let mut found = vec![];
    for part in header.split("typedef struct ").skip(1) {
        // An opaque handle has no body.
        let Some((name, rest)) = part.split_once(" {\n") else { continue };
        if name.contains(';') {
            continue;
        }
        let body = rest.split("\n}").next().unwrap();
        let code = body.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let field = |line: &str| {
            let last = line.trim_end_matches(';').rsplit([' ', '*']).next().unwrap();
            last.split('[').next().unwrap().to_string()
        };
        found.push((name.to_string(), code.map(field).collect()))
    }
    found
}

/// The header's numbers, sizes, alignments, and the fields' offsets and widths, as a C compiler
/// reads them.
pub fn read_by_c() -> BTreeSet<String> {
    let folder = TempDir::new("layouts");
    let mut code = String::from("#include \"stepscope.h\"\n#include <stdio.h>\nint main(void) {\n");
    let structs = fields();
    assert!(structs.len() >= 12, "{structs:?}");
    let mut say = |what: &str, value: String| {
        code += &format!("printf(\"{what} %lld\\n\", (long long){value});\n");
    };
    for name in number_names() {
        say(&format!("number {name}"), format!("({name})"))
    }
    for (name, fields) in structs {
        say(&format!("size {name}"), format!("sizeof({name})"));
        say(&format!("align {name}"), format!("_Alignof({name})"));
        for field in fields {
            say(&format!("offset {name}.{field}"), format!("offsetof({name}, {field})"));
            say(&format!("width {name}.{field}"), format!("sizeof((({name} *)0)->{field})"))
        }
    }
    let (source, program) = (folder.path().join("layouts.c"), folder.path().join("layouts"));
    std::fs::write(&source, code + "return 0; }\n").unwrap();
    let compiler = Build { compiler: "cc", standard: "c11", flags: &[], linked_static: false };
    compiler.compile(&source, &program);
    let out = done("layouts", &mut run(&program));
    String::from_utf8(out.stdout).unwrap().lines().map(String::from).collect()
}
