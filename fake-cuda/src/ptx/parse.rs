//! Reads PTX text into kernels, and refuses what the interpreter does not know.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Address, Arithmetic, Comparison, Guard, Instruction, Kernel, Kernels, Operand, Operation,
    Parameter, Register, Special, Type, Update,
};

const VERSION: &str = "6.0";
const TARGET: &str = "sm_70";

/// The kernels of a module, or a sentence that names what is not known.
pub fn parse(text: &str) -> Result<Kernels, String> {
    let text = without_comments(text);
    require_directive(&text, ".version", VERSION)?;
    require_directive(&text, ".target", TARGET)?;
    let mut kernels = HashMap::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once(".entry") {
        if let Some(word) = [".func", ".global", ".const", ".shared"]
            .into_iter()
            .find(|word| before.split_whitespace().any(|found| found == *word))
        {
            return Err(format!("`{word}` outside an entry is not modelled"));
        }
        let (name, after) = after.split_once('(').ok_or("an .entry has no parameter list")?;
        let (list, after) = after.split_once(')').ok_or("a parameter list does not end")?;
        let (_, after) = after.split_once('{').ok_or("an .entry has no body")?;
        let (body, after) = after.split_once('}').ok_or("a body does not end")?;
        let kernel = Body::new(list)?.read(body)?;
        kernels.insert(name.trim().to_owned(), Arc::new(kernel));
        rest = after;
    }
    Ok(kernels)
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        kept.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    kept.push_str(rest);
    kept.lines().flat_map(|line| [line.split("//").next().unwrap_or(""), "\n"]).collect()
}

fn require_directive(text: &str, directive: &str, wanted: &str) -> Result<(), String> {
    let mut words = text.split_whitespace().skip_while(|word| *word != directive).skip(1);
    match words.next() {
        Some(found) if found == wanted => Ok(()),
        found => {
            Err(format!("{directive} {} (only {wanted} is known)", found.unwrap_or("missing")))
        }
    }
}

/// An entry while it is read: names so far.
struct Body {
    parameters: Vec<Parameter>,
    registers: HashMap<String, Register>,
    labels: HashMap<String, usize>,
}

impl Body {
    fn new(list: &str) -> Result<Body, String> {
        let mut parameters: Vec<Parameter> = Vec::new();
        for declared in list.split(',').map(str::trim).filter(|declared| !declared.is_empty()) {
            let (name, length, align) = parameter(declared)?;
            let end = parameters.last().map_or(0, |last| last.offset + last.length);
            parameters.push(Parameter { name, offset: end.next_multiple_of(align), length });
        }
        Ok(Body { parameters, registers: HashMap::new(), labels: HashMap::new() })
    }

    fn read(mut self, body: &str) -> Result<Kernel, String> {
        // Branches go forward too, so all names are collected before the first instruction is read.
        let mut statements = Vec::new();
        for statement in body.split(';') {
            let statement = self.take_labels(statement.trim(), statements.len());
            match statement.strip_prefix(".reg") {
                Some(declared) => self.declare(declared)?,
                None if statement.is_empty() => {}
                None => statements.push(statement),
            }
        }
        let code =
            statements.iter().map(|line| self.instruction(line)).collect::<Result<_, _>>()?;
        Ok(Kernel { parameters: self.parameters, register_count: self.registers.len(), code })
    }

    fn take_labels<'a>(&mut self, mut statement: &'a str, at: usize) -> &'a str {
        while let Some((label, rest)) = statement.split_once(':') {
            self.labels.insert(label.trim().to_owned(), at);
            statement = rest.trim();
        }
        statement
    }

    /// `.b64 %a, %b` or `.b64 %rd<8>`
    fn declare(&mut self, declared: &str) -> Result<(), String> {
        let (_, names) = declared
            .trim()
            .split_once(char::is_whitespace)
            .ok_or_else(|| format!("`.reg {declared}` names no register"))?;
        for name in names.split(',').map(str::trim) {
            let Some((stem, count)) = name.split_once('<') else {
                self.add_register(name.to_owned());
                continue;
            };
            let count: usize = count
                .trim_end_matches('>')
                .parse()
                .map_err(|_| format!("`{name}` is no range of registers"))?;
            (0..count).for_each(|number| self.add_register(format!("{stem}{number}")));
        }
        Ok(())
    }

    fn add_register(&mut self, name: String) {
        let next = self.registers.len();
        self.registers.entry(name).or_insert(next);
    }

    fn instruction(&self, statement: &str) -> Result<Instruction, String> {
        let (guard, statement) = match statement.strip_prefix('@') {
            Some(guarded) => {
                let (name, rest) = guarded.split_once(char::is_whitespace).ok_or("a bare guard")?;
                let wanted = !name.starts_with('!');
                let predicate = self.register(name.trim_start_matches('!'))?;
                (Some(Guard { predicate, wanted }), rest.trim())
            }
            None => (None, statement),
        };
        let (opcode, operands) =
            statement.split_once(char::is_whitespace).unwrap_or((statement, ""));
        let operands: Vec<&str> =
            operands.split(',').map(str::trim).filter(|operand| !operand.is_empty()).collect();
        let operation = self
            .operation(opcode, &operands)
            .map_err(|reason| format!("{reason} in `{}`", one_line(statement)))?;
        Ok(Instruction { guard, operation })
    }

    fn operation(&self, opcode: &str, operands: &[&str]) -> Result<Operation, String> {
        let words: Vec<&str> = opcode.split('.').collect();
        let types: Vec<Type> = words.iter().filter_map(|word| type_named(word)).collect();
        let of = types.last().copied();
        let typed = || of.ok_or("no type that is known");
        let operand = |index: usize| self.operand(operands.get(index).copied().unwrap_or(""));
        let register = |index: usize| self.register(operands.get(index).copied().unwrap_or(""));
        let address = |index: usize| self.address(operands.get(index).copied().unwrap_or(""));
        if let Some(kind) = arithmetic(&words) {
            let (to, left, right) = (register(0)?, operand(1)?, operand(2)?);
            return Ok(Operation::Compute { kind, to, left, right, of: typed()? });
        }
        Ok(match words[0] {
            "mov" => Operation::Move { to: register(0)?, from: operand(1)?, of: typed()? },
            // All memory is one address space here, so the spaces need no conversion.
            "cvta" => Operation::Move { to: register(0)?, from: operand(1)?, of: typed()? },
            "not" => Operation::Not { to: register(0)?, from: operand(1)?, of: typed()? },
            "ld" if words.get(1) == Some(&"param") => {
                let of = typed()?;
                let offset = self.parameter_offset(operands.get(1).copied().unwrap_or(""), of)?;
                Operation::LoadParameter { to: register(0)?, offset, of }
            }
            "ld" if known_memory(&words) => {
                Operation::Load { to: register(0)?, at: address(1)?, of: typed()? }
            }
            "st" if known_memory(&words) => Operation::Store {
                at: address(0)?,
                value: operand(1)?,
                of: typed()?,
                system: words.contains(&"sys"),
            },
            "atom" => Operation::Atomic {
                update: update(&words)?,
                to: register(0)?,
                at: address(1)?,
                value: operand(2)?,
                of: typed()?,
            },
            "mul" if words.get(1) == Some(&"wide") => Operation::MultiplyWide {
                to: register(0)?,
                left: operand(1)?,
                right: operand(2)?,
                of: typed()?,
            },
            "mad" if words.get(1) == Some(&"lo") => Operation::MultiplyAdd {
                to: register(0)?,
                factors: [operand(1)?, operand(2)?],
                plus: operand(3)?,
                of: typed()?,
            },
            "setp" if words.len() == 3 => {
                let (kind, of) = comparison(words[1], typed()?).ok_or("comparison not known")?;
                Operation::Compare {
                    kind,
                    to: register(0)?,
                    left: operand(1)?,
                    right: operand(2)?,
                    of,
                }
            }
            "selp" => Operation::Select {
                to: register(0)?,
                yes: operand(1)?,
                no: operand(2)?,
                when: register(3)?,
                of: typed()?,
            },
            "cvt" if words.len() == 3 && types.len() == 2 => Operation::Convert {
                to: register(0)?,
                from: operand(1)?,
                target: types[0],
                source: types[1],
            },
            "bra" => Operation::Branch(self.label(operands.first().copied().unwrap_or(""))?),
            // A barrier of some threads only would need their number; the stamps use all.
            "bar" | "barrier" if words.get(1) == Some(&"sync") && operands == ["0"] => {
                Operation::Barrier
            }
            "nanosleep" => Operation::Sleep(operand(0)?),
            "membar" | "fence" => Operation::Fence,
            "ret" | "exit" => Operation::Return,
            _ => return Err("opcode not known".to_owned()),
        })
    }

    fn register(&self, name: &str) -> Result<Register, String> {
        self.registers.get(name).copied().ok_or_else(|| format!("register `{name}` not declared"))
    }

    fn label(&self, name: &str) -> Result<usize, String> {
        self.labels.get(name).copied().ok_or_else(|| format!("label `{name}` not found"))
    }

    fn operand(&self, text: &str) -> Result<Operand, String> {
        if let Some(register) = self.registers.get(text) {
            return Ok(Operand::Register(*register));
        }
        if let Some(special) = special(text) {
            return Ok(Operand::Special(special));
        }
        number(text).map(Operand::Immediate).ok_or_else(|| format!("operand `{text}` not known"))
    }

    /// `[%rd1]`, `[%rd1+8]` or `[%rd1+-8]`
    fn address(&self, text: &str) -> Result<Address, String> {
        let (base, offset) = bracketed(text)?;
        Ok(Address { base: self.operand(base)?, offset })
    }

    /// `[name]` or `[name+8]`
    fn parameter_offset(&self, text: &str, of: Type) -> Result<usize, String> {
        let (name, offset) = bracketed(text)?;
        let parameter = self
            .parameters
            .iter()
            .find(|parameter| parameter.name == name)
            .ok_or_else(|| format!("parameter `{name}` not found"))?;
        if offset.saturating_add(of.bytes().into()) > parameter.length as u64 {
            return Err(format!("`{text}` is outside its parameter"));
        }
        Ok(parameter.offset + offset as usize)
    }
}

/// `.param .u64 name` or, for a struct, `.param .align 8 .b8 name[16]`: name, bytes, alignment.
fn parameter(declared: &str) -> Result<(String, usize, usize), String> {
    let unknown = || format!("parameter `{}` not known", one_line(declared));
    let words: Vec<&str> = declared.split_whitespace().collect();
    let align = words.iter().skip_while(|word| **word != ".align").nth(1);
    let element = words
        .iter()
        .find_map(|word| word.strip_prefix('.').and_then(type_named))
        .ok_or_else(unknown)?
        .bits as usize
        / 8;
    let (name, count) = match words.last().ok_or_else(unknown)?.split_once('[') {
        Some((name, count)) => {
            (name, count.trim_end_matches(']').parse::<usize>().map_err(|_| unknown())?)
        }
        None => (words[words.len() - 1], 1),
    };
    let align = align.map_or(Ok(element), |align| align.parse()).map_err(|_| unknown())?;
    if element == 0 || align == 0 {
        return Err(unknown());
    }
    Ok((name.to_owned(), element * count, align))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn bracketed(text: &str) -> Result<(&str, u64), String> {
    let inside = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .ok_or_else(|| format!("`{text}` is no address"))?;
    match inside.split_once('+') {
        None => Ok((inside.trim(), 0)),
        Some((base, offset)) => {
            let offset = number(offset.trim()).ok_or_else(|| format!("`{offset}` is no offset"))?;
            Ok((base.trim(), offset))
        }
    }
}

/// Decimal or hexadecimal, with a sign or not; negative numbers in two's complement.
fn number(text: &str) -> Option<u64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let digits = digits.trim_end_matches('U');
    let magnitude = match digits.strip_prefix("0x") {
        Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

fn type_named(word: &str) -> Option<Type> {
    if word == "pred" {
        return Some(Type { bits: 1, signed: false });
    }
    let (kind, bits) = word.split_at_checked(1)?;
    let signed = match kind {
        "u" | "b" => false,
        "s" => true,
        _ => return None,
    };
    let bits = bits.parse().ok().filter(|bits| [8, 16, 32, 64].contains(bits))?;
    Some(Type { bits, signed })
}

fn special(text: &str) -> Option<Special> {
    if text == "%globaltimer" {
        return Some(Special::GlobalTimer);
    }
    let (name, axis) = text.split_once('.')?;
    let axis = ["x", "y", "z"].iter().position(|known| *known == axis)?;
    match name {
        "%tid" => Some(Special::ThreadIndex(axis)),
        "%ctaid" => Some(Special::BlockIndex(axis)),
        "%ntid" => Some(Special::BlockSize(axis)),
        "%nctaid" => Some(Special::GridSize(axis)),
        _ => None,
    }
}

/// Operations of two operands: `add.s64`, `mul.lo.u32`, `and.pred` and their like.
fn arithmetic(words: &[&str]) -> Option<Arithmetic> {
    match words {
        ["add", _] => Some(Arithmetic::Add),
        ["sub", _] => Some(Arithmetic::Subtract),
        ["mul", "lo", _] => Some(Arithmetic::Multiply),
        ["div", _] => Some(Arithmetic::Divide),
        ["rem", _] => Some(Arithmetic::Remainder),
        ["min", _] => Some(Arithmetic::Minimum),
        ["max", _] => Some(Arithmetic::Maximum),
        ["and", _] => Some(Arithmetic::And),
        ["or", _] => Some(Arithmetic::Or),
        ["xor", _] => Some(Arithmetic::Xor),
        ["shl", _] => Some(Arithmetic::ShiftLeft),
        ["shr", _] => Some(Arithmetic::ShiftRight),
        _ => None,
    }
}

/// Also says how to read the operands: `lo`, `ls`, `hi`, `hs` compare without a sign.
fn comparison(word: &str, of: Type) -> Option<(Comparison, Type)> {
    let unsigned = Type { signed: false, ..of };
    Some(match word {
        "eq" => (Comparison::Equal, of),
        "ne" => (Comparison::NotEqual, of),
        "lt" => (Comparison::Less, of),
        "le" => (Comparison::LessOrEqual, of),
        "gt" => (Comparison::Greater, of),
        "ge" => (Comparison::GreaterOrEqual, of),
        "lo" => (Comparison::Less, unsigned),
        "ls" => (Comparison::LessOrEqual, unsigned),
        "hi" => (Comparison::Greater, unsigned),
        "hs" => (Comparison::GreaterOrEqual, unsigned),
        _ => return None,
    })
}

/// `atom[.order][.scope][.space].<update>.<type>`
fn update(words: &[&str]) -> Result<Update, String> {
    match words[words.len().saturating_sub(2)] {
        "add" => Ok(Update::Arithmetic(Arithmetic::Add)),
        "min" => Ok(Update::Arithmetic(Arithmetic::Minimum)),
        "max" => Ok(Update::Arithmetic(Arithmetic::Maximum)),
        "and" => Ok(Update::Arithmetic(Arithmetic::And)),
        "or" => Ok(Update::Arithmetic(Arithmetic::Or)),
        "xor" => Ok(Update::Arithmetic(Arithmetic::Xor)),
        "inc" => Ok(Update::IncrementUpTo),
        "exch" => Ok(Update::Exchange),
        other => Err(format!("atomic `{other}` not known")),
    }
}

/// True for a load or store of the one address space, whatever its order, scope and cache hints.
fn known_memory(words: &[&str]) -> bool {
    words[1..].iter().all(|word| {
        type_named(word).is_some()
            || ["relaxed", "acquire", "release", "weak", "volatile"].contains(word)
            || ["cta", "gpu", "sys", "global", "ca", "cg", "cs", "wb", "wt"].contains(word)
    })
}
