//! What `gpu_real` can be told.

use clap::Parser;
use std::ffi::OsString;
use std::path::PathBuf;

/// Measure stepscope's GPU part on this machine's card
///
/// Every row runs in a process of its own. A table goes to stderr, one JSON object to stdout. Exit
/// code 0: no line failed, or there is no card and the reason was said; 1: a line failed; 2: the
/// arguments cannot be used. The whole takes about 20 minutes.
#[derive(Parser, Clone, Debug)]
#[command(name = "gpu_real", version)]
pub struct Args {
    /// Fewer and shorter runs, about 2 minutes; says so in the result
    #[arg(long)]
    pub quick: bool,
    /// Only these rows, by number
    #[arg(long, value_name = "N,N", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=15))]
    pub only: Vec<u8>,
    /// The CUDA driver's library; libcuda.so.1 by default
    #[arg(long, value_name = "FILE")]
    pub driver: Option<PathBuf>,
    /// CUPTI's library; searched for by default
    #[arg(long, value_name = "FILE")]
    pub cupti: Option<PathBuf>,
    /// NVML's library; libnvidia-ml.so.1 by default
    #[arg(long, value_name = "FILE")]
    pub nvml: Option<PathBuf>,
    /// CUDA's number of the card
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub device: u16,
    /// Judge the fake driver's times as if they were a card's
    #[arg(long, hide = true)]
    pub judge: bool,
    /// Other stamp kernels, to see that the rows notice
    #[arg(long, hide = true)]
    pub stamps: Option<PathBuf>,
    /// What a process started by this program does
    #[arg(long, hide = true)]
    pub part: Option<String>,
}

impl Args {
    /// The arguments for a process that does `part` under the same settings.
    pub fn for_part(&self, part: &str) -> Vec<OsString> {
        let mut words: Vec<OsString> =
            vec!["--part".into(), part.into(), "--device".into(), self.device.to_string().into()];
        if self.quick {
            words.push("--quick".into())
        }
        if self.judge {
            words.push("--judge".into())
        }
        let files = [
            ("--driver", &self.driver),
            ("--cupti", &self.cupti),
            ("--nvml", &self.nvml),
            ("--stamps", &self.stamps),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                words.extend([name.into(), file.into()])
            }
        }
        words
    }

    /// `full`, or `quick` with `--quick`.
    pub fn sized<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Is this row asked for?
    pub fn wants(&self, row: u8) -> bool {
        self.only.is_empty() || self.only.contains(&row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_gets_the_settings_back() {
        let words = ["gpu_real", "--quick", "--driver", "/x.so", "--device", "3", "--only", "1,5"];
        let args = Args::parse_from(words);
        assert!(args.wants(5) && !args.wants(2));
        let again =
            Args::parse_from(std::iter::once("gpu_real".into()).chain(args.for_part("row:5")));
        assert_eq!(again.part.as_deref(), Some("row:5"));
        assert_eq!((again.quick, again.driver, again.device), (true, args.driver, 3));
    }
}
