//! Why there are no CUPTI times, in words that say what to do.

use super::binding::{ERROR_MULTIPLE_SUBSCRIBERS, ERROR_NOT_COMPATIBLE};

/// Why CUPTI gives no graph times. A value to log: stamps and serving go on without it.
///
/// Every reason is final for the process or the object that got it; none is worth a retry.
///
/// # Example
/// Each reason is one sentence that names the cause and what remains: for code 39, "CUPTI is held
/// by another tool (error 39): step times come from stamps only."
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CuptiUnavailable {
    /// The options say [`Off`](super::Cupti::Off).
    #[error("CUPTI is off in the options: step times come from stamps only.")]
    Off,
    /// Without a real driver CUPTI is not touched: 13.2 recurses until it crashes when asked anything.
    #[error("No NVIDIA driver that CUPTI can work with: step times come from stamps only.")]
    NoDriver,
    /// Graphs captured or instantiated before CUPTI started are not traced as graphs.
    #[error(
        "CUPTI must start before the engine captures its first graph: \
         start it directly after attaching; step times come from stamps only."
    )]
    TooLate,
    /// This process has a subscription already; CUPTI's callbacks cannot tell two apart.
    #[error(
        "CUPTI serves another Stepscope of this process: use that one's graph times, \
         or drop it first; step times come from stamps only."
    )]
    InUse,
    /// No library under any known name or folder, or not under the one in the options.
    #[error(
        "libcupti.so.13 or libcupti.so.12 was not found: install the CUDA toolkit or the wheel \
         nvidia-cuda-cupti, or name the file in the options; step times come from stamps only."
    )]
    LibraryMissing,
    /// The library that was found lacks a function that is needed.
    #[error(
        "The CUPTI that was found has no {0}: name the libcupti of CUDA 12 or 13 in the options; \
         step times come from stamps only."
    )]
    SymbolMissing(&'static str),
    /// CUPTI's version number is not among those whose records are known.
    #[error(
        "CUPTI of version {0} is unknown (12.0 to 13.5 are known): name one of those in the \
         options or update stepscope; step times come from stamps only."
    )]
    Version(u32),
    /// CUPTI does not admit us as its subscriber: 39 or 14.
    #[error("{}", refusal(*.0))]
    Refused(u32),
    /// Any other call that failed.
    #[error("{name} failed with CUPTI's error {code}: step times come from stamps only.")]
    Call {
        /// The function's name.
        name: &'static str,
        /// CUPTI's result code.
        code: u32,
    },
}

fn refusal(code: u32) -> String {
    let cause = match code {
        ERROR_MULTIPLE_SUBSCRIBERS => "CUPTI is held by another tool",
        ERROR_NOT_COMPATIBLE => "CUPTI cannot work beside what else profiles this process",
        _ => "CUPTI refuses a subscriber",
    };
    format!("{cause} (error {code}): step times come from stamps only.")
}

#[cfg(test)]
mod tests {
    use super::CuptiUnavailable;

    #[test]
    fn a_held_cupti_says_so_with_its_code() {
        assert_eq!(
            CuptiUnavailable::Refused(39).to_string(),
            "CUPTI is held by another tool (error 39): step times come from stamps only."
        );
        assert!(CuptiUnavailable::Refused(14).to_string().contains("(error 14)"));
    }

    #[test]
    fn every_reason_says_what_remains() {
        use CuptiUnavailable as U;
        let call = U::Call { name: "cuptiActivityEnable", code: 999 };
        for reason in [
            U::Off,
            U::NoDriver,
            U::TooLate,
            U::InUse,
            U::LibraryMissing,
            U::SymbolMissing("cuptiSubscribe"),
            U::Version(99),
            U::Refused(39),
            U::Refused(14),
            call,
        ] {
            let words = reason.to_string();
            assert!(words.ends_with("step times come from stamps only."), "{words}");
        }
        assert!(call.to_string().contains("cuptiActivityEnable failed with CUPTI's error 999"));
    }
}
