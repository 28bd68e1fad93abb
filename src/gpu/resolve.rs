//! From a ticket to the time of its step. No driver call, no lock, no allocation.

use super::inner::Inner;
use super::layout::{ALIVE, TIME_MASK, time_between};
use super::map::{HostTime, Map};
use super::slot::{self, Words};
use super::ticket::{State, StepTicket};
use super::words::{LATE, Lost, Resolution, StepTime};
use crate::record::Time;
use std::sync::atomic::Ordering;

/// What the stamps of a step say now. May be asked again: pending and foreign may become done.
pub(super) fn resolve(inner: &Inner, ticket: &StepTicket) -> Resolution {
    match ticket.state {
        State::Void => {
            return Resolution::Lost(Lost::of(ticket.lost).unwrap_or(Lost::Unavailable));
        }
        State::Open => return Resolution::Lost(Lost::NotEnded),
        State::Ended => {}
    }
    match inner.region.magic() {
        _ if ticket.owner != inner.owner() => return Resolution::Lost(Lost::WrongOwner),
        ALIVE => {}
        0 => return Resolution::Lost(Lost::Forked),
        _ => return Resolution::Lost(Lost::Detached),
    }
    let Some(book) = inner.lane(ticket.lane) else { return Resolution::Lost(Lost::WrongOwner) };
    let words = inner.region.slot(inner.slot(ticket.lane, ticket.seq));
    let prev = (ticket.prev != 0).then(|| (ticket.prev, inner.tag(ticket.prev)));
    let prev_end = prev.map(|(seq, _)| inner.region.slot(inner.slot(ticket.lane, seq))[3]);
    let read = slot::read(&book.issued, words, prev_end);
    match slot::judge(&read, ticket.seq, ticket.tag, prev, inner.slots.into()) {
        Words::Overwritten => Resolution::Lost(Lost::Overwritten),
        Words::Foreign => Resolution::Lost(Lost::Foreign),
        Words::Pending => Resolution::Pending,
        Words::Ready { begin, end, marks, prev_end } => {
            timed(&inner.map.read(), ticket, [begin, end], marks, prev_end)
        }
    }
}

/// The words on the host's clock, if that makes sense.
fn timed(
    map: &Map,
    ticket: &StepTicket,
    [begin, end]: [u64; 2],
    marks: [Option<u64>; 2],
    prev_end: Option<u64>,
) -> Resolution {
    if map.epoch != ticket.epoch {
        return Resolution::Lost(Lost::ClockJump);
    }
    let gpu_ns = time_between(begin, end);
    let (host_begin, host_end) = (map.host(begin), map.host(end));
    let now = Time::now().as_nanos() as i64;
    let before_it_was_launched = host_begin.ns + host_begin.error_ns < ticket.host_begin as i64;
    if gpu_ns < 0 || before_it_was_launched || host_end.ns - host_end.error_ns > now {
        return Resolution::Lost(Lost::Acausal);
    }
    let [mark_a, mark_b] = marks.map(|word| word.map(|word| map.host(word)));
    let all = [Some(host_begin), Some(host_end), mark_a, mark_b];
    let error_ns = all.into_iter().flatten().map(|time| time.error_ns).max().unwrap_or(0);
    let idle = prev_end.map(|prev_end| time_between(prev_end, begin));
    Resolution::Done(StepTime {
        begin: time(host_begin),
        end: time(host_end),
        mark_a: mark_a.map(time),
        mark_b: mark_b.map(time),
        error_ns: error_ns as u64,
        gpu_begin: begin & TIME_MASK,
        gpu_ns: gpu_ns as u64,
        idle_before_ns: idle.and_then(|ns| u64::try_from(ns).ok()),
    })
}

fn time(at: HostTime) -> Time {
    Time::from_nanos(at.ns.max(0) as u64)
}

/// `resolve`, and one count in the lane's books; what is pending now stays lost.
pub(super) fn settle(inner: &Inner, ticket: &StepTicket) -> Resolution {
    let resolution = resolve(inner, ticket);
    match resolution {
        Resolution::Done(_) => {
            if let Some(book) = inner.lane(ticket.lane) {
                book.done.fetch_add(1, Ordering::Relaxed);
            }
        }
        Resolution::Pending => {
            if let Some(book) = inner.lane(ticket.lane) {
                book.late.fetch_add(1, Ordering::Relaxed);
            }
            inner.device.stamps.lost[LATE].add(1)
        }
        Resolution::Lost(why) => count_lost(inner, ticket.lane, why),
    }
    resolution
}

/// Books a lost step under the lane it was begun on.
pub(super) fn count_lost(inner: &Inner, lane: u16, why: Lost) {
    let number = why as usize - 1;
    if let Some(book) = inner.lane(lane) {
        book.lost[number].fetch_add(1, Ordering::Relaxed);
    }
    inner.device.stamps.lost[number].add(1)
}
