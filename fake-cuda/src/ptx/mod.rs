//! A small part of PTX: what the stamp kernels and simple integer kernels of tests need.
//!
//! [`parse`] turns text into [`Kernel`]s once, when a module is loaded; [`Kernel::run`] interprets one launch. The
//! two meet in the types of this file. What an instruction may do to the outside is behind [`Machine`].
//!
//! Not modelled: floating point, shared, local and constant memory, vectors, calls, and any opcode not listed in
//! `parse.rs`. A text that uses one is refused when it is loaded, never half understood.

mod parse;
mod run;

pub use parse::parse;
pub use run::{Fault, Launch, Machine};

use std::collections::HashMap;

/// An entry of a module, ready to run.
#[derive(Debug)]
pub struct Kernel {
    /// Where each parameter lies in the argument bytes, in the order of the launch.
    pub parameters: Vec<Parameter>,
    register_count: usize,
    code: Vec<Instruction>,
}

impl Kernel {
    /// Size of all arguments together.
    pub fn argument_bytes(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.length)
    }
}

/// The entries of a module, by name.
pub type Kernels = HashMap<String, std::sync::Arc<Kernel>>;

/// One parameter of an entry.
#[derive(Debug)]
pub struct Parameter {
    name: String,
    /// Byte offset in the argument bytes.
    pub offset: usize,
    /// Bytes.
    pub length: usize,
}

/// Index into a thread's registers; predicates are registers too, of value 0 or 1.
type Register = usize;

#[derive(Clone, Debug)]
struct Instruction {
    guard: Option<Guard>,
    operation: Operation,
}

/// `@%p` or `@!%p`: the instruction runs only if the predicate has the wanted value.
#[derive(Clone, Copy, Debug)]
struct Guard {
    predicate: Register,
    wanted: bool,
}

/// How an instruction reads its operands: so many low bits, and whether they have a sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Type {
    bits: u32,
    signed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Operand {
    Register(Register),
    Immediate(u64),
    Special(Special),
}

/// Registers that the hardware fills. The number is the axis: x, y, z.
#[derive(Clone, Copy, Debug)]
enum Special {
    GlobalTimer,
    ThreadIndex(usize),
    BlockIndex(usize),
    BlockSize(usize),
    GridSize(usize),
}

/// `[base + offset]`
#[derive(Clone, Copy, Debug)]
struct Address {
    base: Operand,
    offset: u64,
}

#[derive(Clone, Copy, Debug)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Minimum,
    Maximum,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
enum Update {
    /// An ordinary operation of the old value and the operand.
    Arithmetic(Arithmetic),
    /// `old >= limit ? 0 : old + 1`
    IncrementUpTo,
    Exchange,
}

#[derive(Clone, Debug)]
enum Operation {
    Move { to: Register, from: Operand, of: Type },
    Not { to: Register, from: Operand, of: Type },
    LoadParameter { to: Register, offset: usize, of: Type },
    Load { to: Register, at: Address, of: Type },
    Store { at: Address, value: Operand, of: Type, system: bool },
    Atomic { update: Update, to: Register, at: Address, value: Operand, of: Type },
    Compute { kind: Arithmetic, to: Register, left: Operand, right: Operand, of: Type },
    MultiplyWide { to: Register, left: Operand, right: Operand, of: Type },
    MultiplyAdd { to: Register, factors: [Operand; 2], plus: Operand, of: Type },
    Compare { kind: Comparison, to: Register, left: Operand, right: Operand, of: Type },
    Select { to: Register, yes: Operand, no: Operand, when: Register, of: Type },
    Convert { to: Register, from: Operand, source: Type, target: Type },
    Branch(usize),
    Barrier,
    Sleep(Operand),
    Fence,
    Return,
}
