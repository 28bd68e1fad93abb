//! Maintainers' tasks, run as `cargo xtask <task>`: rebuilds generated files that need more than cargo.

mod cupti;
mod ptx;

use std::process::ExitCode;

/// A family of generated files: what to call it, and how to rebuild it (or, with `true`, only to compare).
type Task = (&'static str, fn(check: bool) -> Result<(), String>);

/// Everything `regenerate` rebuilds. A new family is one module and one row here.
const TASKS: &[Task] = &[("ptx", ptx::regenerate), ("cupti", cupti::regenerate)];

const USAGE: &str = "\
usage: cargo xtask regenerate [--check] [TASK]...

  regenerate          rebuilds the generated files and writes them
  regenerate --check  writes nothing, fails if a file differs from what would be written

  tasks (default: all):
    ptx    the PTX in kernels/ from the CUDA C++ beside it; needs clang 14
    cupti  src/gpu/cupti/binding.rs from NVIDIA's headers on PyPI; needs bindgen and libclang";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<(), String> {
    let Some(("regenerate", rest)) =
        arguments.split_first().map(|(task, rest)| (task.as_str(), rest))
    else {
        return Err(USAGE.to_owned());
    };
    let check = rest.iter().any(|word| word == "--check");
    let names: Vec<&String> = rest.iter().filter(|word| *word != "--check").collect();
    if let Some(name) = names.iter().find(|name| TASKS.iter().all(|(task, _)| task != **name)) {
        return Err(format!("no task `{name}`\n\n{USAGE}"));
    }
    // Every task runs, so that one run names everything that is stale.
    let failures: Vec<String> = TASKS
        .iter()
        .filter(|(task, _)| names.is_empty() || names.iter().any(|name| name == task))
        .filter_map(|(_, regenerate)| regenerate(check).err())
        .collect();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::run;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_unknown_task_is_named_and_the_usage_shown() {
        let message = run(&words("regenerate nonsense")).unwrap_err();
        assert!(message.contains("no task `nonsense`") && message.contains("usage:"), "{message}");
    }

    #[test]
    fn no_task_shows_the_usage() {
        assert!(run(&[]).unwrap_err().starts_with("usage:"));
    }
}
