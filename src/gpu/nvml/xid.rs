//! What an XID error means for a worker: one table, by NVIDIA's published catalogue.
//!
//! Source: NVIDIA, "Analyzing Xid Errors with the Xid Catalog" (docs.nvidia.com/deploy/xid-errors),
//! its table of immediate actions, read in November 2026. The class follows the action:
//!
//! | class | the catalogue's immediate action |
//! |---|---|
//! | fatal | reset the GPU, restart the machine or the VM; or a memory error that no one corrected |
//! | app | restart the application: its work is lost, the device goes on |
//! | notice | ignore; or the code alone does not decide |
//!
//! Where we differ from the rule the row says why. A fatal one pages somebody and stays on until
//! the process restarts, so a code that does not decide by itself is a notice.

use crate::record::Tally;

/// First code, last code, class, meaning. Ascending, without overlap.
type Row = (u64, u64, Tally, &'static str);

const FATAL: Tally = Tally::XidFatal;
const APP: Tally = Tally::XidApp;
const NOTICE: Tally = Tally::XidNotice;

const XIDS: &[Row] = &[
    (8, 8, APP, "GPU stopped processing this channel"),
    (11, 11, APP, "invalid or corrupted push buffer"),
    (13, 13, APP, "compute or graphics exception, mostly an access out of bounds"),
    (14, 14, NOTICE, "error injected for a test"),
    (25, 25, APP, "invalid or illegal push buffer"),
    (31, 31, APP, "GPU memory page fault"),
    (32, 32, APP, "corrupted push buffer; if it repeats, look at the PCIe link"),
    (37, 38, NOTICE, "driver firmware error"),
    (39, 41, APP, "copy engine exception"),
    // To be ignored, says the action; but its text calls it an application's fault.
    (43, 43, APP, "channel stopped after a fault of the application"),
    (44, 44, NOTICE, "engine fault during a context switch"),
    // Follows whatever ended the application: a signal, a reset, another XID.
    (45, 45, APP, "channels removed because the application ended"),
    (46, 46, FATAL, "GPU stopped processing, reset needed"),
    // A workflow by which memory it was; its text wants a reset in any case.
    (48, 48, FATAL, "uncorrectable (double-bit) memory error"),
    (54, 54, NOTICE, "auxiliary power is not connected to the board"),
    (60, 60, APP, "video processor exception"),
    (62, 62, FATAL, "internal micro-controller halted"),
    // The repair itself; the error that led to it has an XID of its own.
    (63, 63, NOTICE, "memory row remapping (or page retirement) recorded"),
    (64, 64, FATAL, "memory row remapping (or page retirement) failed"),
    (66, 67, NOTICE, "illegal access by the driver"),
    (68, 68, APP, "video decoder exception"),
    (69, 69, APP, "engine class error"),
    (70, 72, APP, "copy engine error"),
    // A workflow by its registers; its text wants a reset or a reboot to clear it.
    (74, 74, FATAL, "NVLink error"),
    (75, 77, APP, "copy engine error"),
    (78, 78, NOTICE, "a vGPU did not start"),
    (79, 79, FATAL, "GPU has fallen off the bus"),
    (80, 80, APP, "corrupted data sent to the GPU"),
    (82, 82, APP, "JPEG engine error"),
    (83, 84, APP, "video decoder error"),
    (85, 85, APP, "copy engine error"),
    (86, 86, APP, "optical flow engine exception"),
    (88, 89, APP, "video decoder error"),
    (92, 92, NOTICE, "high rate of corrected (single-bit) memory errors"),
    (93, 93, NOTICE, "InfoROM wear limit reached"),
    // Restart the application, says the action. But nobody's code did it: uncorrectable memory took
    // the context away, and the text wants a reset soon.
    (94, 94, FATAL, "uncorrectable memory error, contained to one application"),
    (95, 95, FATAL, "uncorrectable memory error, not contained"),
    (96, 98, APP, "video decoder error"),
    (99, 105, APP, "JPEG engine error"),
    (106, 107, NOTICE, "test message of the management bus"),
    (109, 109, FATAL, "context switch timed out, reset needed"),
    (110, 110, FATAL, "security fault"),
    (119, 119, FATAL, "GPU system processor (GSP) does not answer"),
    (120, 120, FATAL, "GPU system processor (GSP) error"),
    (121, 121, NOTICE, "corrected errors on the link to the CPU (C2C)"),
    (126, 135, APP, "copy engine error"),
    (136, 136, FATAL, "NVLink training failed"),
    // To be ignored, says the action; but its text calls it an illegal peer access of the application.
    (137, 137, APP, "illegal access to a peer's memory over NVLink"),
    (139, 139, APP, "optical flow engine error"),
    (140, 140, FATAL, "uncorrectable memory error that could not be repaired"),
    (141, 141, NOTICE, "CUDA fast path error"),
    (142, 142, NOTICE, "video encoder error"),
    (143, 143, FATAL, "GPU initialization error"),
    // Fatal or not by registers that the event does not carry; a dead link also ends the engine's
    // own collective calls.
    (144, 150, NOTICE, "NVLink 5 error; the kernel log says how bad"),
    (151, 151, FATAL, "key rotation error, the VM must be restarted"),
    // Tells the action that another XID needs, and also when none is needed any more.
    (154, 154, NOTICE, "the GPU's recovery action changed; the kernel log says to what"),
    // A reset, says the action; but intended link-downs and sleep raise it too.
    (155, 155, NOTICE, "an NVLink went down by software"),
    (156, 156, FATAL, "a resource was retired, reset needed"),
    (157, 157, NOTICE, "a resource could not be retired"),
    (158, 158, FATAL, "fatal timeout of the GPU"),
    (159, 159, NOTICE, "error on the link to the CPU (C2C)"),
    (160, 161, NOTICE, "channel retirement"),
    (162, 165, NOTICE, "power smoothing changed"),
    // No action is published; the name says that it is fatal.
    (167, 167, FATAL, "fatal PCIe timeout"),
    (168, 168, NOTICE, "less GPU memory because of errors"),
    (169, 169, NOTICE, "security micro-controller halted"),
    // Come with 48 and tell which memory it was.
    (171, 171, FATAL, "uncorrectable error in device memory"),
    (172, 172, FATAL, "uncorrectable error in on-chip memory"),
];

fn row(code: u64) -> Option<&'static Row> {
    XIDS.iter().find(|(first, last, ..)| (*first..=*last).contains(&code))
}

/// The count that an XID code belongs to: [`Tally::XidFatal`], [`Tally::XidApp`] or
/// [`Tally::XidNotice`]. A code that nobody published is a notice.
pub fn xid_class(code: u64) -> Tally {
    row(code).map_or(NOTICE, |(_, _, class, _)| *class)
}

/// What an XID code means, in a few words; `None` if it is not in NVIDIA's catalogue.
pub fn xid_meaning(code: u64) -> Option<&'static str> {
    row(code).map(|(.., meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_without_overlap() {
        for pair in XIDS.windows(2) {
            assert!(pair[0].1 < pair[1].0, "{pair:?}");
        }
        assert!(XIDS.iter().all(|(first, last, ..)| first <= last));
    }

    #[test]
    fn a_device_that_needs_a_reset_is_fatal_and_an_illegal_access_is_not() {
        for code in [48, 62, 64, 74, 79, 94, 95, 109, 119, 120, 140, 143] {
            assert_eq!(xid_class(code), Tally::XidFatal, "{code}");
        }
        for code in [13, 31, 43, 45, 68, 100, 137] {
            assert_eq!(xid_class(code), Tally::XidApp, "{code}");
        }
        for code in [63, 92, 121, 145, 154] {
            assert_eq!(xid_class(code), Tally::XidNotice, "{code}");
        }
    }

    #[test]
    fn a_code_that_nobody_published_is_a_notice_without_a_meaning() {
        for code in [0, 1, 61, 999, u64::MAX] {
            assert_eq!((xid_class(code), xid_meaning(code)), (Tally::XidNotice, None), "{code}");
        }
        assert_eq!(xid_meaning(79), Some("GPU has fallen off the bus"));
    }
}
