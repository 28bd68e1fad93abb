//! Request traces: when requests arrive and how long they are. Prompts themselves are in no trace.
//!
//! Two public formats are read, told apart by their content:
//!
//! * CSV with the columns `TIMESTAMP`, `ContextTokens`, `GeneratedTokens` (Azure LLM inference
//!   traces): lengths only, so no two prompts share a prefix;
//! * JSONL with `timestamp` (ms), `input_length`, `output_length` and, optionally, `hash_ids`, one
//!   id per 512 prompt tokens (Mooncake): equal ids are equal prefixes.

use serde::Deserialize;
use std::io;
use std::path::Path;

/// Prompt tokens that one hash id of a trace stands for.
pub const HASH_TOKENS: u32 = 512;

/// Longer prompts or answers than any model takes: a column was mixed up.
const TOKENS_MAX: i64 = 10_000_000;

/// Later arrivals than any trace has: the unit was mixed up.
const MS_MAX: f64 = 366.0 * 86_400e3;

/// The Mooncake traces give arrivals in steps of three seconds, about nine requests in each. As
/// they stand they would be bursts that no client sent.
const JSONL_RESOLUTION_NS: u64 = 3_000_000_000;

/// One request of a trace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TraceRequest {
    /// Arrival, from the trace's first request.
    pub at_ns: u64,
    /// Tokens of the prompt, at least 1.
    pub prompt: u32,
    /// Tokens of the answer, at least 1.
    pub output: u32,
    /// Ids of the prompt's blocks of [`HASH_TOKENS`]; equal ids are equal prefixes. Empty if the
    /// trace has none.
    pub blocks: Vec<u64>,
}

/// A workload: requests in order of arrival.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// What it is called: the file's name without its ending.
    pub name: String,
    /// The requests, by arrival.
    pub requests: Vec<TraceRequest>,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// No request is in it.
    #[error("{file}:1: no request is in it; the cut may have been too short")]
    Empty {
        /// The file.
        file: String,
    },
    /// A line cannot be used.
    #[error("{file}:{line}: {fault}")]
    Line {
        /// The file.
        file: String,
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        fault: LineFault,
    },
}

/// What is wrong with one line of a trace, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// Bytes that are no text.
    #[error("not UTF-8; save the trace as plain UTF-8 text, unpacked")]
    NotText,
    /// A header without a column that is needed.
    #[error(
        "no column {0}; the header must name TIMESTAMP, ContextTokens and GeneratedTokens, or every line must be a JSON object"
    )]
    NoColumn(&'static str),
    /// A line with fewer cells than the header.
    #[error("no value for {0}; was the line cut off?")]
    NoValue(&'static str),
    /// A number that is none.
    #[error("{column} is {value:?}; write a whole number of tokens")]
    NoNumber {
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
    },
    /// A time that is none.
    #[error("TIMESTAMP is {0:?}; write YYYY-MM-DD HH:MM:SS with up to nine digits behind a point")]
    NoTime(String),
    /// A negative time, or one beyond a year.
    #[error("timestamp is {0} ms; write milliseconds since the trace's start, at most a year")]
    AbsurdTime(f64),
    /// A length that no request has.
    #[error("{column} is {tokens}; write a number of tokens between 1 and {TOKENS_MAX}")]
    AbsurdLength {
        /// The column.
        column: &'static str,
        /// What stands there.
        tokens: i64,
    },
    /// Hash ids that do not cover the prompt.
    #[error(
        "{found} hash_ids for {prompt} prompt tokens; give one per {HASH_TOKENS} tokens begun, or none"
    )]
    WrongBlocks {
        /// Ids in the line.
        found: usize,
        /// Tokens of the prompt.
        prompt: u32,
    },
    /// An arrival before the one in the line above.
    #[error("arrives before the request above it; sort the trace by time")]
    Unsorted,
    /// A line that is no JSON object of the expected fields.
    #[error("{0}; a line is {{\"timestamp\":ms,\"input_length\":n,\"output_length\":n}}")]
    Json(#[from] serde_json::Error),
    /// A line that is no CSV.
    #[error("{0}; quote cells that hold a comma or a quote")]
    Csv(#[from] csv::Error),
}

/// A request and the line it stands in.
type Numbered = (u64, TraceRequest);

impl Trace {
    /// Ten minutes of a production chat service with shared prefixes (Mooncake, FAST 2025).
    pub fn builtin_mooncake() -> Trace {
        let text = include_str!("../traces/mooncake_fast25_conversation_first10min.jsonl");
        Trace::parse("mooncake_conversation", text.as_bytes()).expect("a test reads it")
    }

    /// Twenty minutes of a production chat service (Azure 2023), without prefixes.
    pub fn builtin_azure() -> Trace {
        let text = include_str!("../traces/azure_llm_2023_conv_first20min.csv");
        Trace::parse("azure_conversation", text.as_bytes()).expect("a test reads it")
    }

    /// Reads a file of either format.
    ///
    /// # Errors
    /// [`TraceError`] names the file, the line, what is wrong and what to do.
    pub fn load(path: &Path) -> Result<Trace, TraceError> {
        let file = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|source| TraceError::Read { file: file.clone(), source })?;
        let trace = Trace::parse(&file, &bytes)?;
        let name = path.file_stem().map_or(file, |stem| stem.to_string_lossy().into_owned());
        Ok(Trace { name, ..trace })
    }

    fn parse(file: &str, bytes: &[u8]) -> Result<Trace, TraceError> {
        let at_line = |(line, fault)| TraceError::Line { file: file.into(), line, fault };
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let before = &bytes[..error.valid_up_to()];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count() as u64;
            at_line((line, LineFault::NotText))
        })?;
        // Some tools put a mark before UTF-8 text.
        let text = text.trim_start_matches('\u{feff}');
        let is_json = text.trim_start().starts_with('{');
        let numbered = if is_json { parse_jsonl(text) } else { parse_csv(text) };
        let numbered = numbered.and_then(in_order).map_err(at_line)?;
        let mut requests: Vec<_> = numbered.into_iter().map(|(_, request)| request).collect();
        let Some(first_ns) = requests.first().map(|first| first.at_ns) else {
            return Err(TraceError::Empty { file: file.into() });
        };
        for request in &mut requests {
            request.at_ns -= first_ns
        }
        if is_json {
            spread(&mut requests, JSONL_RESOLUTION_NS)
        }
        Ok(Trace { name: file.into(), requests })
    }

    /// After this time the trace starts again: its last arrival and one mean gap.
    pub(crate) fn period_ns(&self) -> u64 {
        let last_ns = self.requests.last().map_or(0, |last| last.at_ns);
        let gaps = self.requests.len().saturating_sub(1).max(1) as u64;
        // At least a millisecond, so that a trace of one moment does not repeat for ever in it.
        last_ns + (last_ns / gaps).max(1_000_000)
    }
}

fn in_order(requests: Vec<Numbered>) -> Result<Vec<Numbered>, (u64, LineFault)> {
    match requests.windows(2).find(|pair| pair[0].1.at_ns > pair[1].1.at_ns) {
        Some(pair) => Err((pair[1].0, LineFault::Unsorted)),
        None => Ok(requests),
    }
}

/// Spreads requests of one moment evenly until the next one, at most over the trace's resolution.
fn spread(requests: &mut [TraceRequest], resolution_ns: u64) {
    let mut from = 0;
    while from < requests.len() {
        let at_ns = requests[from].at_ns;
        let to = from + requests[from..].iter().take_while(|r| r.at_ns == at_ns).count();
        let next_ns = requests.get(to).map_or(u64::MAX, |next| next.at_ns);
        let room_ns = (next_ns - at_ns).min(resolution_ns);
        let count = (to - from) as u64;
        for (place, request) in requests[from..to].iter_mut().enumerate() {
            request.at_ns += room_ns * place as u64 / count
        }
        from = to
    }
}

fn length(column: &'static str, tokens: i64) -> Result<u32, LineFault> {
    if (1..=TOKENS_MAX).contains(&tokens) {
        Ok(tokens as u32)
    } else {
        Err(LineFault::AbsurdLength { column, tokens })
    }
}

#[derive(Deserialize)]
struct JsonLine {
    timestamp: f64,
    input_length: i64,
    output_length: i64,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

impl JsonLine {
    fn request(self) -> Result<TraceRequest, LineFault> {
        let prompt = length("input_length", self.input_length)?;
        let output = length("output_length", self.output_length)?;
        if !(0.0..=MS_MAX).contains(&self.timestamp) {
            return Err(LineFault::AbsurdTime(self.timestamp));
        }
        let found = self.hash_ids.len();
        if found != 0 && found != prompt.div_ceil(HASH_TOKENS) as usize {
            return Err(LineFault::WrongBlocks { found, prompt });
        }
        let at_ns = (self.timestamp * 1e6).round() as u64;
        Ok(TraceRequest { at_ns, prompt, output, blocks: self.hash_ids })
    }
}

fn parse_jsonl(text: &str) -> Result<Vec<Numbered>, (u64, LineFault)> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            let request = serde_json::from_str::<JsonLine>(line)
                .map_err(LineFault::from)
                .and_then(JsonLine::request);
            request.map(|request| (number, request)).map_err(|fault| (number, fault))
        })
        .collect()
}

/// Column names of the CSV format, in the order of its fields below.
const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

fn parse_csv(text: &str) -> Result<Vec<Numbered>, (u64, LineFault)> {
    if text.trim().is_empty() {
        return Ok(vec![]);
    }
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| (1, error.into()))?.clone();
    let mut places = [0; COLUMNS.len()];
    for (place, column) in places.iter_mut().zip(COLUMNS) {
        let found = header.iter().position(|name| name == column);
        *place = found.ok_or((1, LineFault::NoColumn(column)))?
    }
    let mut requests = vec![];
    for record in reader.records() {
        let record = record.map_err(|error| {
            (error.position().map_or(1, |position| position.line()), error.into())
        })?;
        let line = record.position().map_or(1, |position| position.line());
        let request = csv_request(&record, places).map_err(|fault| (line, fault))?;
        requests.push((line, request))
    }
    Ok(requests)
}

fn csv_request(record: &csv::StringRecord, places: [usize; 3]) -> Result<TraceRequest, LineFault> {
    let cell = |i: usize| record.get(places[i]).ok_or(LineFault::NoValue(COLUMNS[i]));
    let tokens = |i: usize| {
        let value = cell(i)?;
        let no_number = |_| LineFault::NoNumber { column: COLUMNS[i], value: value.into() };
        length(COLUMNS[i], value.parse().map_err(no_number)?)
    };
    let time = cell(0)?;
    let at_ns = time_ns(time).ok_or_else(|| LineFault::NoTime(time.into()))?;
    Ok(TraceRequest { at_ns, prompt: tokens(1)?, output: tokens(2)?, blocks: vec![] })
}

/// Nanoseconds since the epoch of `2023-11-16 18:15:46.6805900`.
fn time_ns(text: &str) -> Option<u64> {
    let text = text.trim_end_matches('Z').trim_end_matches("+00:00");
    let (date, time) = text.split_once([' ', 'T'])?;
    let [year, month, day] = whole_numbers(date, '-')?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = whole_numbers(clock, ':')?;
    let is_date =
        (1970..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    // 60: a leap second.
    let is_time = hour < 24 && minute < 60 && second <= 60;
    let is_fraction =
        (1..=9).contains(&fraction.len()) && fraction.bytes().all(|b| b.is_ascii_digit());
    if !(is_date && is_time && is_fraction) {
        return None;
    }
    let nanos = fraction.parse::<u64>().ok()? * 10u64.pow(9 - fraction.len() as u32);
    let seconds = days_since_epoch(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1_000_000_000 + nanos)
}

fn whole_numbers<const N: usize>(text: &str, separator: char) -> Option<[u64; N]> {
    let numbers: Option<Vec<u64>> = text.split(separator).map(|part| part.parse().ok()).collect();
    numbers?.try_into().ok()
}

/// Days in the proleptic Gregorian calendar; years count from March, so that the leap day is last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: impl AsRef<[u8]>) -> String {
        Trace::parse("t", text.as_ref()).expect_err("a fault").to_string()
    }

    #[test]
    fn the_shipped_traces_are_whole() {
        let mooncake = Trace::builtin_mooncake();
        assert_eq!(mooncake.requests.len(), 1_750);
        assert!(
            mooncake.requests.iter().all(|r| r.blocks.len() == r.prompt.div_ceil(512) as usize)
        );
        let azure = Trace::builtin_azure();
        assert_eq!(azure.requests.len(), 5_985);
        // 18:15:46.68059 to 18:35:46.429381
        assert_eq!(azure.requests[5_984].at_ns, 1_199_748_791_000);
        for trace in [mooncake, azure] {
            assert_eq!(trace.requests[0].at_ns, 0);
            assert!(trace.requests.is_sorted_by_key(|r| r.at_ns))
        }
    }

    #[test]
    fn requests_of_one_moment_are_spread_until_the_next() {
        let line = |ms| format!("{{\"timestamp\":{ms},\"input_length\":1,\"output_length\":1}}\n");
        let text: String = [0, 0, 3_000, 3_000, 3_000, 9_000].map(line).concat();
        let trace = Trace::parse("t", text.as_bytes()).unwrap();
        let at_ms: Vec<_> = trace.requests.iter().map(|r| r.at_ns / 1_000_000).collect();
        assert_eq!(at_ms, [0, 1_500, 3_000, 4_000, 5_000, 9_000]);
    }

    #[test]
    fn csv_columns_may_stand_in_any_order_among_others() {
        let text = "GeneratedTokens,x,TIMESTAMP,ContextTokens\n5,,2024-02-29 23:59:59.5,7\n\
                    6,,2024-03-01T00:00:00Z,8\n";
        let trace = Trace::parse("t", text.as_bytes()).unwrap();
        let lengths: Vec<_> = trace.requests.iter().map(|r| (r.prompt, r.output)).collect();
        assert_eq!(lengths, [(7, 5), (8, 6)]);
        assert_eq!(trace.requests[1].at_ns, 500_000_000);
    }

    #[test]
    fn days_are_those_of_the_calendar() {
        assert_eq!(days_since_epoch(1970, 1, 1), 0);
        assert_eq!(days_since_epoch(2000, 2, 29), 11_016);
        assert_eq!(days_since_epoch(2023, 11, 16), 19_677);
    }

    #[test]
    fn a_fault_names_file_line_and_remedy() {
        const HEAD: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
        const GOOD: &str = "2023-11-16 18:15:46.68,374,44\n";
        const JSON: &str = "{\"timestamp\":5,\"input_length\":600,\"output_length\":2}\n";
        let csv = |line: &str| fault([HEAD, GOOD, line].concat());
        let json = |line: &str| fault([JSON, line].concat());
        let cases = [
            (fault(""), "t:1: no request is in it"),
            (fault("\n \n"), "t:1: no request is in it"),
            (fault(HEAD), "t:1: no request is in it"),
            (fault([HEAD.as_bytes(), b"\xff\n"].concat()), "t:2: not UTF-8"),
            (fault("TIMESTAMP,ContextTokens\n"), "t:1: no column GeneratedTokens"),
            (csv("2023-11-16 18:15:47\n"), "t:3: no value for ContextTokens"),
            (csv("2023-11-16 18:15:47,x,1\n"), "t:3: ContextTokens is \"x\"; write a whole"),
            (csv("2023-11-16 18:15:47,-3,1\n"), "t:3: ContextTokens is -3; write a number"),
            (csv("2023-11-16 18:15:47,3,0\n"), "t:3: GeneratedTokens is 0; write a number"),
            (csv("2023-13-16 18:15:47,3,1\n"), "t:3: TIMESTAMP is \"2023-13-16 18:15:47\"; write"),
            (csv("2023-11-16 18:15:40,3,1\n"), "t:3: arrives before the request above it; sort"),
            (json("{\"timestamp\":4"), "t:2: EOF while parsing"),
            (json("{\"timestamp\":6,\"input_length\":1}"), "t:2: missing field `output_length`"),
            (json(&JSON.replace("600", "20000000")), "t:2: input_length is 20000000; write"),
            (json(&JSON.replace("600", "-1")), "t:2: input_length is -1; write"),
            (json(&JSON.replace(":5", ":-5")), "t:2: timestamp is -5 ms; write"),
            (json(&JSON.replace(":5", ":4")), "t:2: arrives before the request above it"),
            (json(&JSON.replace('}', ",\"hash_ids\":[1]}")), "t:2: 1 hash_ids for 600 prompt"),
        ];
        for (said, wanted) in cases {
            assert!(said.starts_with(wanted), "{said:?} does not start with {wanted:?}")
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Trace::load(Path::new("/no/such/trace.csv")).expect_err("no file");
        assert!(error.to_string().starts_with("/no/such/trace.csv: cannot be read: "));
    }
}
