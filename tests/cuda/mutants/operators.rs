//! The ways to break a PTX statement. Each is what a slip in a kernel's source would look like.

/// A kind of defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operator {
    DroppedBarrier,
    NudgedImmediate,
    FlippedComparison,
    SwappedOperands,
    RemovedWait,
    WrongPredicate,
}

impl Operator {
    pub(super) const ALL: [Self; 6] = [
        Self::DroppedBarrier,
        Self::NudgedImmediate,
        Self::FlippedComparison,
        Self::SwappedOperands,
        Self::RemovedWait,
        Self::WrongPredicate,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DroppedBarrier => "dropped barrier",
            Self::NudgedImmediate => "nudged immediate",
            Self::FlippedComparison => "flipped comparison",
            Self::SwappedOperands => "swapped operands",
            Self::RemovedWait => "removed wait",
            Self::WrongPredicate => "wrong predicate",
        }
    }

    /// What can become of a statement (without its semicolon); an empty text takes it away.
    pub(super) fn changes(self, statement: &str) -> Vec<String> {
        let Some(parsed) = Statement::parse(statement) else { return Vec::new() };
        let taken_away = |is: bool| if is { vec![String::new()] } else { Vec::new() };
        match self {
            Self::DroppedBarrier => {
                let barriers =
                    ["bar.sync", "bar.arrive", "bar.warp.sync", "barrier.sync", "barrier.cta.sync"];
                taken_away(barriers.iter().any(|name| parsed.opcode.starts_with(name)))
            }
            Self::RemovedWait => taken_away(parsed.opcode.starts_with("cp.async.wait")),
            Self::NudgedImmediate => nudged(&parsed),
            Self::FlippedComparison => flipped(&parsed).into_iter().collect(),
            Self::SwappedOperands => swapped(&parsed).into_iter().collect(),
            Self::WrongPredicate => negated(&parsed).into_iter().collect(),
        }
    }
}

/// `@!%p1 add.s32 %r1, %r2, 4` in its parts.
pub(super) struct Statement<'a> {
    pub guard: Option<&'a str>,
    pub opcode: &'a str,
    pub operands: Vec<&'a str>,
}

impl<'a> Statement<'a> {
    /// `None` for directives and whatever else is no instruction.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let (guard, text) = match text.strip_prefix('@') {
            Some(rest) => {
                rest.split_once(char::is_whitespace).map(|(guard, rest)| (Some(guard), rest.trim()))?
            }
            None => (None, text),
        };
        if !text.starts_with(|first: char| first.is_ascii_lowercase()) {
            return None;
        }
        let (opcode, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        Some(Self { guard, opcode, operands: split_operands(rest) })
    }

    fn write(&self, opcode: &str, operands: &[String]) -> String {
        let guard = self.guard.map(|guard| format!("@{guard} ")).unwrap_or_default();
        format!("{guard}{opcode} {}", operands.join(", ")).trim_end().to_owned()
    }

    fn owned_operands(&self) -> Vec<String> {
        self.operands.iter().map(|&operand| operand.to_owned()).collect()
    }

    fn with_operand(&self, index: usize, operand: String) -> String {
        let mut operands = self.owned_operands();
        operands[index] = operand;
        self.write(self.opcode, &operands)
    }
}

/// Operands between commas, those of a vector or an address together.
fn split_operands(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut operands) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' | '[' | '(' => depth += 1,
            '}' | ']' | ')' => depth -= 1,
            ',' if depth == 0 => {
                operands.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    operands.push(text[start..].trim());
    operands.retain(|operand| !operand.is_empty());
    operands
}

fn negated(statement: &Statement<'_>) -> Option<String> {
    let guard = statement.guard?;
    let other = guard.strip_prefix('!').map_or_else(|| format!("!{guard}"), str::to_owned);
    let mirrored =
        Statement { guard: Some(&other), opcode: statement.opcode, operands: statement.operands.clone() };
    Some(mirrored.write(statement.opcode, &statement.owned_operands()))
}

/// The comparison the other way round; equality becomes inequality.
fn flipped(statement: &Statement<'_>) -> Option<String> {
    const PAIRS: [(&str, &str); 10] = [
        ("eq", "ne"),
        ("lt", "gt"),
        ("le", "ge"),
        ("lo", "hi"),
        ("ls", "hs"),
        ("equ", "neu"),
        ("ltu", "gtu"),
        ("leu", "geu"),
        ("num", "nan"),
        ("min", "max"),
    ];
    let mut parts: Vec<&str> = statement.opcode.split('.').collect();
    // The word that says what is compared: `setp.lt.s32`, `max.f32`.
    let place = match parts[0] {
        "setp" | "set" => 1,
        "min" | "max" => 0,
        _ => return None,
    };
    let word = *parts.get(place)?;
    parts[place] =
        PAIRS.iter().find_map(|&(a, b)| if word == a { Some(b) } else { (word == b).then_some(a) })?;
    Some(statement.write(&parts.join("."), &statement.owned_operands()))
}

/// Two operands of one type that do not commute, exchanged.
fn swapped(statement: &Statement<'_>) -> Option<String> {
    let opcode = statement.opcode;
    let starts = |names: &[&str]| names.iter().any(|name| opcode.starts_with(name));
    let mut operands = statement.owned_operands();
    if opcode.starts_with("mov.b") {
        // Two halves packed into one register.
        let (low, high) = operands.get(1)?.strip_prefix('{')?.strip_suffix('}')?.split_once(',')?;
        let (low, high) = (low.trim(), high.trim());
        if low == high || high.contains(',') {
            return None;
        }
        operands[1] = format!("{{{high}, {low}}}");
        return Some(statement.write(opcode, &operands));
    }
    let (first, second) = if starts(&["fma.", "mad.lo."]) {
        (2, 3)
    } else if starts(&["sub.", "div.", "rem.", "shl.b32", "shr.u32", "shr.s32", "shr.b32", "selp."])
        || starts(&["cvt.rn.f16x2.", "cvt.rn.bf16x2."])
    {
        (1, 2)
    } else {
        return None;
    };
    if operands.get(first)? == operands.get(second)? {
        return None;
    }
    operands.swap(first, second);
    Some(statement.write(opcode, &operands))
}

/// Each immediate larger and smaller, by what cannot be lost in rounding.
fn nudged(statement: &Statement<'_>) -> Vec<String> {
    // The numbers of these are names (of barriers), sizes or hints: another one is no PTX, or no defect.
    const NAMES: [&str; 7] = ["bar", "barrier", "bra", "ret", "prefetch", "createpolicy", "setmaxnreg"];
    let root = statement.opcode.split('.').next().unwrap_or_default();
    if NAMES.contains(&root) {
        return Vec::new();
    }
    if statement.opcode.starts_with("cp.async.wait_group") {
        // One group more may be under way; waiting for more than is needed would be no defect.
        let more = |operand: &str| operand.parse::<i64>().ok().map(|groups| (groups + 1).to_string());
        let operand = statement.operands.first().and_then(|operand| more(operand));
        return operand.into_iter().map(|operand| statement.with_operand(0, operand)).collect();
    }
    if statement.opcode == "mov.pred" {
        // Of a truth value there is one other.
        let other = |operand: &str| if operand == "0" { "-1" } else { "0" }.to_owned();
        let constant = statement.operands.get(1).filter(|operand| !operand.starts_with('%'));
        return constant.map(|operand| statement.with_operand(1, other(operand))).into_iter().collect();
    }
    let only_addresses = statement.opcode.starts_with("cp.");
    let mut changes = Vec::new();
    for (index, operand) in statement.operands.iter().enumerate() {
        let operands = match operand.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(address) => nudged_address(address, access_bytes(statement.opcode)),
            None if only_addresses => Vec::new(),
            None => nudged_number(operand),
        };
        changes.extend(operands.into_iter().map(|operand| statement.with_operand(index, operand)));
    }
    changes
}

/// A number one more and one less; a large one, often bits with a meaning, twice and half. An infinity has the other sign.
fn nudged_number(number: &str) -> Vec<String> {
    if let Some(digits) = number.strip_prefix("0f") {
        let Ok(bits) = u32::from_str_radix(digits, 16) else { return Vec::new() };
        let near = nudged_float(f64::from(f32::from_bits(bits)));
        return near.into_iter().map(|value| format!("0f{:08X}", (value as f32).to_bits())).collect();
    }
    if let Some(digits) = number.strip_prefix("0d") {
        let Ok(bits) = u64::from_str_radix(digits, 16) else { return Vec::new() };
        let near = nudged_float(f64::from_bits(bits));
        return near.into_iter().map(|value| format!("0d{:016X}", value.to_bits())).collect();
    }
    let Ok(value) = number.parse::<i64>() else { return Vec::new() };
    // 32 bits stay 32 bits.
    let is_narrow = |value: i64| (i64::from(i32::MIN)..=i64::from(u32::MAX)).contains(&value);
    let near = if value.unsigned_abs() < LARGE as u64 {
        [Some(value + 1), Some(value - 1)]
    } else {
        [value.checked_mul(2).filter(|twice| is_narrow(*twice) || !is_narrow(value)), Some(value / 2)]
    };
    near.into_iter().flatten().map(|value| value.to_string()).collect()
}

/// From here on one more or less can be lost in rounding.
const LARGE: f64 = 65536.0;

fn nudged_float(value: f64) -> Vec<f64> {
    if value.is_nan() {
        vec![0.0]
    } else if value.is_infinite() {
        vec![-value]
    } else if value.abs() < LARGE {
        vec![value + 1.0, value - 1.0]
    } else {
        vec![value * 2.0, value / 2.0]
    }
}

/// The neighbour of what is accessed: by one byte more it would only be misaligned.
fn nudged_address(address: &str, bytes: i64) -> Vec<String> {
    let Some((base, offset)) = address.split_once('+') else { return Vec::new() };
    let Ok(offset) = offset.trim().parse::<i64>() else { return Vec::new() };
    [offset + bytes, offset - bytes].map(|offset| format!("[{base}+{offset}]")).to_vec()
}

/// Bytes that an access takes, by its opcode.
fn access_bytes(opcode: &str) -> i64 {
    if opcode.starts_with("cp.async") || opcode.starts_with("ldmatrix") {
        return 16;
    }
    let mut lanes = 1;
    let mut bytes = 4;
    for part in opcode.split('.') {
        match part {
            "v2" => lanes = 2,
            "v4" => lanes = 4,
            _ => {
                let bits = part.trim_start_matches(|letter: char| letter.is_ascii_lowercase());
                if let Ok(bits @ (8 | 16 | 32 | 64 | 128)) = bits.parse::<i64>() {
                    bytes = bits / 8;
                }
            }
        }
    }
    lanes * bytes
}

#[cfg(test)]
mod tests {
    use super::Operator::{self, *};

    /// Each operator on the statements it is for, and on some that it leaves alone.
    #[test]
    fn statements_change_as_meant() {
        let cases: [(Operator, &str, &[&str]); 29] = [
            (DroppedBarrier, "bar.sync \t0", &[""]),
            (DroppedBarrier, "bar.red.or.pred %p1, 0, %p2", &[]),
            (RemovedWait, "cp.async.wait_group 1", &[""]),
            (RemovedWait, "fence.proxy.async", &[]),
            (NudgedImmediate, "add.s32 \t%r1, %r2, -4", &["add.s32 %r1, %r2, -3", "add.s32 %r1, %r2, -5"]),
            (
                NudgedImmediate,
                "and.b32 %r1, %r2, -8388608",
                &["and.b32 %r1, %r2, -16777216", "and.b32 %r1, %r2, -4194304"],
            ),
            (NudgedImmediate, "mov.u32 %r1, 4294967295", &["mov.u32 %r1, 2147483647"]),
            (
                NudgedImmediate,
                "mov.f32 %f1, 0f3F800000",
                &["mov.f32 %f1, 0f40000000", "mov.f32 %f1, 0f00000000"],
            ),
            (
                NudgedImmediate,
                "mov.f32 %f1, 0f32A57060",
                &["mov.f32 %f1, 0f3F800000", "mov.f32 %f1, 0fBF800000"],
            ),
            (
                NudgedImmediate,
                "mov.f32 %f1, 0f4B000000",
                &["mov.f32 %f1, 0f4B800000", "mov.f32 %f1, 0f4A800000"],
            ),
            (NudgedImmediate, "mov.f32 %f1, 0fFF800000", &["mov.f32 %f1, 0f7F800000"]),
            (
                NudgedImmediate,
                "mov.f64 %fd1, 0d0000000000000000",
                &["mov.f64 %fd1, 0d3FF0000000000000", "mov.f64 %fd1, 0dBFF0000000000000"],
            ),
            (
                NudgedImmediate,
                "@%p1 ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1+64]",
                &[
                    "@%p1 ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1+80]",
                    "@%p1 ld.shared.v4.f32 {%f1, %f2, %f3, %f4}, [%r1+48]",
                ],
            ),
            (NudgedImmediate, "cp.async.cg.shared.global [%r1], [%rd1], 16", &[]),
            (NudgedImmediate, "cp.async.wait_group 1", &["cp.async.wait_group 2"]),
            (NudgedImmediate, "mov.pred %p1, -1", &["mov.pred %p1, 0"]),
            (NudgedImmediate, "bar.sync 0", &[]),
            (NudgedImmediate, "bra.uni $L__BB0_4", &[]),
            (FlippedComparison, "setp.lt.s32 %p1, %r1, 4", &["setp.gt.s32 %p1, %r1, 4"]),
            (FlippedComparison, "setp.neu.f32 %p1, %f1, %f2", &["setp.equ.f32 %p1, %f1, %f2"]),
            (FlippedComparison, "max.f32 %f1, %f2, %f3", &["min.f32 %f1, %f2, %f3"]),
            (FlippedComparison, "mul.lo.s32 %r1, %r2, %r3", &[]),
            (SwappedOperands, "fma.rn.f32 %f1, %f2, %f3, %f1", &["fma.rn.f32 %f1, %f2, %f1, %f3"]),
            (SwappedOperands, "selp.b32 %r1, 1, 0, %p1", &["selp.b32 %r1, 0, 1, %p1"]),
            (SwappedOperands, "mov.b32 %r1, {%rs1, %rs2}", &["mov.b32 %r1, {%rs2, %rs1}"]),
            (SwappedOperands, "add.f32 %f1, %f2, %f3", &[]),
            (WrongPredicate, "@%p1 bra $L__BB0_4", &["@!%p1 bra $L__BB0_4"]),
            (WrongPredicate, "@!%p1 bra $L__BB0_4", &["@%p1 bra $L__BB0_4"]),
            (WrongPredicate, ".pragma \"nounroll\"", &[]),
        ];
        for (operator, statement, expected) in cases {
            assert_eq!(operator.changes(statement), expected, "{} of `{statement}`", operator.name());
        }
    }
}
