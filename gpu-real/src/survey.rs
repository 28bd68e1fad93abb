//! The whole run: is there a card, each row in a process of its own, the table, the JSON.

use crate::args::Args;
use crate::child::{self, How};
use crate::driver::Driver;
use crate::numbers::date;
use crate::report::{Row, Verdict};
use crate::rows::{Plan, ROWS};
use serde::Serialize;
use std::ffi::{CStr, c_char};

/// `CUresult`s that mean "there is no card here" and not "it is broken".
const STUB_LIBRARY: i32 = 34;
const NO_DEVICE: i32 = 100;

/// What the last line of stdout is.
#[derive(Serialize)]
struct Report {
    program: &'static str,
    /// Version of stepscope that was measured.
    stepscope: &'static str,
    date: String,
    quick: bool,
    /// The repository's fake driver: no time in here means anything.
    fake_driver: bool,
    card: Option<Card>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    ok: bool,
    passed: Vec<u8>,
    failed: Vec<u8>,
    not_judged: Vec<u8>,
    /// Rows of which nothing could be measured here; their lines say why.
    not_measured: Vec<u8>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Card {
    name: String,
    pci_bus_id: String,
    /// As CUDA counts: 13000 is 13.0.
    driver_version: i32,
    /// What the kernel module says of itself, where it does.
    kernel_module: Option<String>,
    compute: String,
}

/// Why there is nothing to measure: no card here, or one that does not work.
enum Absent {
    NoCard(String),
    Broken(String),
}

/// Runs what `args` ask for; false = something failed.
pub fn run(args: &Args) -> bool {
    let mut report = Report {
        program: "gpu_real",
        stepscope: env!("CARGO_PKG_VERSION"),
        date: date(),
        quick: args.quick,
        fake_driver: false,
        card: None,
        skipped: None,
        error: None,
        ok: true,
        passed: vec![],
        failed: vec![],
        not_judged: vec![],
        not_measured: vec![],
        rows: vec![],
    };
    match find(args) {
        Ok((card, fake)) => {
            report.fake_driver = fake;
            report.head(&card);
            report.card = Some(card);
            for plan in ROWS.iter().filter(|plan| args.wants(plan.number)) {
                report.add(measure(args, plan, fake))
            }
        }
        Err(Absent::NoCard(why)) => {
            eprintln!("skipped: {why}");
            report.skipped = Some(why)
        }
        Err(Absent::Broken(why)) => {
            eprintln!("failed: {why}");
            report.ok = false;
            report.error = Some(why)
        }
    }
    report.end();
    report.ok
}

/// The card that was asked for, and whether it is the fake one.
fn find(args: &Args) -> Result<(Card, bool), Absent> {
    // A library that was named and is no driver is a mistake, not a machine without one.
    let absent = if args.driver.is_some() { Absent::Broken } else { Absent::NoCard };
    let driver = Driver::load(args.driver.as_deref()).map_err(absent)?;
    let broken = |refused: crate::driver::Refused| match refused.code {
        STUB_LIBRARY | NO_DEVICE => Absent::NoCard(refused.to_string()),
        _ => Absent::Broken(refused.to_string()),
    };
    let (mut count, mut device, mut version, mut compute) = (0, 0, 0, [0, 0]);
    let (mut name, mut pci) = ([0 as c_char; 128], [0 as c_char; 32]);
    // SAFETY: each writes one value of its signature's type, or text of at most the length given.
    unsafe {
        driver.cuInit(0).map_err(broken)?;
        driver.cuDeviceGetCount(&mut count).map_err(broken)?;
        if count <= i32::from(args.device) {
            let why = format!("no card number {}: the driver shows {count}", args.device);
            return Err(Absent::NoCard(why));
        }
        driver.cuDeviceGet(&mut device, args.device.into()).map_err(broken)?;
        driver.cuDriverGetVersion(&mut version).map_err(broken)?;
        driver.cuDeviceGetName(name.as_mut_ptr(), 128, device).map_err(broken)?;
        driver.cuDeviceGetPCIBusId(pci.as_mut_ptr(), 32, device).map_err(broken)?;
        // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        for (value, attribute) in compute.iter_mut().zip([75, 76]) {
            driver.cuDeviceGetAttribute(value, attribute, device).map_err(broken)?
        }
    }
    let fake = driver.is_fake();
    let module = std::fs::read_to_string("/proc/driver/nvidia/version").ok();
    let card = Card {
        name: text(&name),
        pci_bus_id: text(&pci),
        driver_version: version,
        kernel_module: module
            .filter(|_| !fake)
            .and_then(|text| text.lines().next().map(str::to_owned)),
        compute: format!("{}.{}", compute[0], compute[1]),
    };
    Ok((card, fake))
}

fn text(text: &[c_char]) -> String {
    let bytes: Vec<u8> = text.iter().map(|c| *c as u8).collect();
    CStr::from_bytes_until_nul(&bytes)
        .map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}

/// One row, in a process of its own: what it does to its context or process is its own affair.
fn measure(args: &Args, plan: &Plan, fake: bool) -> Row {
    let failed = |why: String| {
        let mut row = Row::new(plan.number, plan.title, fake);
        row.holds("the row's process ends well", false, why);
        row
    };
    match child::run(args, &format!("row:{}", plan.number), plan.limit) {
        Ok(ended) if ended.how == How::Code(0) => {
            serde_json::from_str(&ended.last).unwrap_or_else(|error| failed(error.to_string()))
        }
        Ok(ended) => failed(format!("{:?}", ended.how)),
        Err(error) => failed(format!("{error:#}")),
    }
}

impl Report {
    fn head(&self, card: &Card) {
        eprintln!(
            "{}, compute {}, driver {}, {}; stepscope {}, {}{}{}",
            card.name,
            card.compute,
            card.driver_version,
            card.pci_bus_id,
            self.stepscope,
            self.date,
            if self.quick { "; QUICK: scaled-down counts and times" } else { "" },
            if self.fake_driver { "; FAKE DRIVER: no time means anything" } else { "" },
        )
    }

    fn add(&mut self, row: Row) {
        eprint!("{}", row.table());
        match row.verdict() {
            Verdict::Pass => self.passed.push(row.row),
            Verdict::Fail => self.failed.push(row.row),
            Verdict::NotJudged => self.not_judged.push(row.row),
            Verdict::Reported | Verdict::Skipped => self.not_measured.push(row.row),
        }
        self.ok &= row.verdict() != Verdict::Fail;
        self.rows.push(row)
    }

    fn end(&self) {
        if self.card.is_some() {
            eprintln!("passed {:?}, failed {:?}", self.passed, self.failed)
        }
        match serde_json::to_string(self) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("no JSON: {error}"),
        }
    }
}
