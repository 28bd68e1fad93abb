//! Interprets one launch of a kernel.
//!
//! Blocks run one after the other. The threads of a block run one after the other too, each as far as the next
//! barrier; when all that have not returned wait there, all go on. That is exact for kernels whose threads talk only
//! across `bar.sync`. A thread that spins on another thread of its own launch would spin for ever.

use super::{
    Address, Arithmetic, Comparison, Instruction, Kernel, Operand, Operation, Special, Type, Update,
};

/// Why a kernel was stopped. The driver makes it the context's sticky error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No memory of the context at that address.
    IllegalAddress,
    /// The address is no multiple of the access's size.
    Misaligned,
    /// The context ended while the kernel ran.
    Stopped,
}

/// What a kernel reaches outside its registers.
pub trait Machine {
    /// The GPU's clock.
    fn timer_ns(&self) -> u64;
    /// Reads `bytes` bytes.
    fn load(&self, address: u64, bytes: u32) -> Result<u64, Fault>;
    /// Writes `bytes` bytes; `system`: with system scope, so that the host may read it.
    fn store(&self, address: u64, bytes: u32, value: u64, system: bool) -> Result<(), Fault>;
    /// Replaces the value by `update` of it, atomically, and gives the old one.
    fn update(&self, address: u64, bytes: u32, update: &dyn Fn(u64) -> u64) -> Result<u64, Fault>;
    /// False once the context has ended: endless loops stop then.
    fn goes_on(&self) -> bool;
}

/// The shape of a launch and the bytes of its arguments.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// All arguments, at the offsets of the kernel's parameters.
    pub arguments: Vec<u8>,
}

impl Kernel {
    /// Runs all blocks of `launch`.
    pub fn run(&self, launch: &Launch, machine: &dyn Machine) -> Result<(), Fault> {
        every_index(launch.grid)
            .try_for_each(|block_index| self.run_block(block_index, launch, machine))
    }

    fn run_block(
        &self,
        block_index: [u32; 3],
        launch: &Launch,
        machine: &dyn Machine,
    ) -> Result<(), Fault> {
        let place = Place { block_index, launch, machine };
        let mut threads: Vec<Thread> = every_index(launch.block)
            .map(|index| Thread {
                index,
                registers: vec![0; self.register_count],
                next: 0,
                finished: false,
            })
            .collect();
        while threads.iter().any(|thread| !thread.finished) {
            for thread in threads.iter_mut().filter(|thread| !thread.finished) {
                thread.run_to_barrier(&self.code, &place)?;
            }
        }
        Ok(())
    }
}

/// All indices below `size`, x fastest.
fn every_index(size: [u32; 3]) -> impl Iterator<Item = [u32; 3]> {
    let [width, height, depth] = size;
    (0..depth).flat_map(move |z| (0..height).flat_map(move |y| (0..width).map(move |x| [x, y, z])))
}

/// Where a thread runs: its block, the launch, the outside.
struct Place<'a> {
    block_index: [u32; 3],
    launch: &'a Launch,
    machine: &'a dyn Machine,
}

struct Thread {
    index: [u32; 3],
    registers: Vec<u64>,
    next: usize,
    finished: bool,
}

/// What an instruction does to the flow of its thread.
enum Flow {
    Next,
    Jump(usize),
    Barrier,
    Finish,
}

impl Thread {
    /// Runs until the thread returns or has passed its own side of a barrier.
    fn run_to_barrier(&mut self, code: &[Instruction], place: &Place) -> Result<(), Fault> {
        while let Some(instruction) = code.get(self.next) {
            let here = self.next;
            self.next += 1;
            let skipped = instruction
                .guard
                .is_some_and(|guard| (self.registers[guard.predicate] != 0) != guard.wanted);
            if skipped {
                continue;
            }
            match self.perform(&instruction.operation, place)? {
                Flow::Next => {}
                Flow::Jump(target) => {
                    if target <= here && !place.machine.goes_on() {
                        return Err(Fault::Stopped);
                    }
                    self.next = target;
                }
                Flow::Barrier => return Ok(()),
                Flow::Finish => break,
            }
        }
        self.finished = true;
        Ok(())
    }

    fn perform(&mut self, operation: &Operation, place: &Place) -> Result<Flow, Fault> {
        match *operation {
            Operation::Load { to, at, of } => {
                let loaded = place.machine.load(self.address(at, place), of.bytes())?;
                self.registers[to] = loaded;
            }
            Operation::Store { at, value, of, system } => {
                let value = of.truncate(self.value(value, place));
                place.machine.store(self.address(at, place), of.bytes(), value, system)?;
            }
            Operation::Atomic { update, to, at, value, of } => {
                let value = of.truncate(self.value(value, place));
                let address = self.address(at, place);
                let replace = |old| updated(update, old, value, of);
                self.registers[to] = place.machine.update(address, of.bytes(), &replace)?;
            }
            Operation::LoadParameter { to, offset, of } => {
                let bytes = &place.launch.arguments[offset..offset + of.bytes() as usize];
                let mut wide = [0; 8];
                wide[..bytes.len()].copy_from_slice(bytes);
                self.registers[to] = u64::from_le_bytes(wide);
            }
            Operation::Branch(target) => return Ok(Flow::Jump(target)),
            Operation::Barrier => return Ok(Flow::Barrier),
            Operation::Return => return Ok(Flow::Finish),
            Operation::Sleep(length) => {
                let length_ns = self.value(length, place);
                std::thread::sleep(std::time::Duration::from_nanos(length_ns));
            }
            // Kernels run on one host thread each, and the accesses above are sequentially consistent.
            Operation::Fence => {}
            ref pure => self.compute(pure, place),
        }
        Ok(Flow::Next)
    }

    /// The instructions that only change registers.
    fn compute(&mut self, operation: &Operation, place: &Place) {
        let value = |operand| self.value(operand, place);
        let (to, result) = match *operation {
            Operation::Move { to, from, of } => (to, of.truncate(value(from))),
            Operation::Not { to, from, of } => (to, of.truncate(!value(from))),
            Operation::Compute { kind, to, left, right, of } => {
                (to, computed(kind, value(left), value(right), of))
            }
            Operation::MultiplyWide { to, left, right, of } => {
                let product = of.extend(value(left)).wrapping_mul(of.extend(value(right)));
                (to, product as u64)
            }
            Operation::MultiplyAdd { to, factors: [left, right], plus, of } => {
                let product = value(left).wrapping_mul(value(right));
                (to, of.truncate(product.wrapping_add(value(plus))))
            }
            Operation::Compare { kind, to, left, right, of } => {
                (to, u64::from(compared(kind, value(left), value(right), of)))
            }
            Operation::Select { to, yes, no, when, of } => {
                let chosen = if self.registers[when] != 0 { yes } else { no };
                (to, of.truncate(value(chosen)))
            }
            Operation::Convert { to, from, source, target } => {
                (to, target.truncate(source.extend(value(from)) as u64))
            }
            _ => unreachable!("perform() handles every other operation"),
        };
        self.registers[to] = result;
    }

    fn address(&self, at: Address, place: &Place) -> u64 {
        self.value(at.base, place).wrapping_add(at.offset)
    }

    fn value(&self, operand: Operand, place: &Place) -> u64 {
        match operand {
            Operand::Register(register) => self.registers[register],
            Operand::Immediate(value) => value,
            Operand::Special(Special::GlobalTimer) => place.machine.timer_ns(),
            Operand::Special(Special::ThreadIndex(axis)) => self.index[axis].into(),
            Operand::Special(Special::BlockIndex(axis)) => place.block_index[axis].into(),
            Operand::Special(Special::BlockSize(axis)) => place.launch.block[axis].into(),
            Operand::Special(Special::GridSize(axis)) => place.launch.grid[axis].into(),
        }
    }
}

impl Type {
    pub(super) fn bytes(self) -> u32 {
        self.bits.div_ceil(8)
    }

    /// The low bits of `value`, the others zero.
    fn truncate(self, value: u64) -> u64 {
        if self.bits == 64 { value } else { value & ((1 << self.bits) - 1) }
    }

    /// The number that the low bits of `value` stand for.
    fn extend(self, value: u64) -> i128 {
        let value = self.truncate(value);
        let negative = self.signed && value >> (self.bits - 1) != 0;
        i128::from(value) - if negative { 1 << self.bits } else { 0 }
    }
}

fn computed(kind: Arithmetic, left: u64, right: u64, of: Type) -> u64 {
    let (a, b) = (of.extend(left), of.extend(right));
    let result = match kind {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a.wrapping_mul(b),
        // The hardware has no trap for a division by zero: all bits are set.
        Arithmetic::Divide => a.checked_div(b).unwrap_or(-1),
        Arithmetic::Remainder => a.checked_rem(b).unwrap_or(-1),
        Arithmetic::Minimum => a.min(b),
        Arithmetic::Maximum => a.max(b),
        Arithmetic::And => a & b,
        Arithmetic::Or => a | b,
        Arithmetic::Xor => a ^ b,
        // The distance is always an unsigned 32-bit number, and one beyond the width shifts everything out.
        Arithmetic::ShiftLeft if right & 0xFFFF_FFFF >= u64::from(of.bits) => 0,
        Arithmetic::ShiftLeft => a << (right & 0xFFFF_FFFF),
        Arithmetic::ShiftRight => a >> (right & 0xFFFF_FFFF).min(64),
    };
    of.truncate(result as u64)
}

fn compared(kind: Comparison, left: u64, right: u64, of: Type) -> bool {
    let (a, b) = (of.extend(left), of.extend(right));
    match kind {
        Comparison::Equal => a == b,
        Comparison::NotEqual => a != b,
        Comparison::Less => a < b,
        Comparison::LessOrEqual => a <= b,
        Comparison::Greater => a > b,
        Comparison::GreaterOrEqual => a >= b,
    }
}

fn updated(update: Update, old: u64, value: u64, of: Type) -> u64 {
    match update {
        Update::Arithmetic(kind) => computed(kind, old, value, of),
        Update::IncrementUpTo if old >= value => 0,
        Update::IncrementUpTo => of.truncate(old + 1),
        Update::Exchange => value,
    }
}
