//! Code that no slip in a kernel's source can change, recognised by its shape.
//!
//! A mutant stands for a slip in the source. The compiler turns some single expressions of it into code with a choice of
//! its own, and a slip changes all of that or nothing of it:
//!
//! - a division of 64 bits is done in 32 if both numbers fit. The choice and the wide way are left alone; the short way,
//!   which computes the same, is not;
//! - a library function has a branch for arguments that are infinite, NaN or negative, and a logarithm one for 0. They are
//!   left alone.
//!
//! Whatever looks only a little different is not recognised, and stays in the draw.

use std::collections::BTreeSet;
use std::ops::Range;

use super::operators::Statement;

/// A line of a kernel's body that counts: a label, or a statement (without its semicolon) and its number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    Label(&'a str),
    Statement(usize, &'a str),
}

/// The numbers of the statements that are the compiler's own.
pub(super) fn statements(items: &[Item<'_>]) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for at in 0..items.len() {
        for place in [wide_division(items, at), special_arguments(items, at)].into_iter().flatten().flatten()
        {
            if let Item::Statement(number, _) = items[place] {
                found.insert(number);
            }
        }
    }
    found
}

fn statement<'a>(items: &[Item<'a>], at: usize) -> Option<Statement<'a>> {
    match items.get(at)? {
        Item::Statement(_, text) => Statement::parse(text),
        Item::Label(_) => None,
    }
}

/// The statement at `at` if it has this opcode and so many operands.
fn expect<'a>(items: &[Item<'a>], at: usize, opcode: &str, operands: usize) -> Option<Vec<&'a str>> {
    let statement = statement(items, at)?;
    let fits = statement.guard.is_none() && statement.opcode == opcode;
    (fits && statement.operands.len() == operands).then_some(statement.operands)
}

/// The label that `@condition bra label` goes to.
fn branch_on<'a>(items: &[Item<'a>], at: usize, condition: &str) -> Option<&'a str> {
    let statement = statement(items, at)?;
    (statement.guard == Some(condition) && statement.opcode == "bra")
        .then(|| statement.operands.first().copied())?
}

/// From `from` up to a label or behind a branch.
fn block(items: &[Item<'_>], from: usize) -> Range<usize> {
    let is_end = |at: &usize| match items[*at] {
        Item::Label(_) => true,
        Item::Statement(_, text) => text.trim_start().starts_with("bra"),
    };
    match (from..items.len()).find(is_end) {
        Some(end) if matches!(items[end], Item::Label(_)) => from..end,
        Some(end) => from..end + 1,
        None => from..items.len(),
    }
}

/// Whether the statements of `range` compute and branch, and do nothing else.
fn only_computes(items: &[Item<'_>], mut range: Range<usize>) -> bool {
    const EFFECTS: [&str; 14] = [
        "st", "ld", "atom", "red", "bar", "barrier", "call", "ret", "exit", "trap", "shfl", "vote", "cp",
        "mma",
    ];
    range.all(|at| match items[at] {
        Item::Label(_) => true,
        Item::Statement(_, text) => {
            let root = |statement: Statement<'_>| {
                EFFECTS.contains(&statement.opcode.split('.').next().unwrap_or_default())
            };
            !Statement::parse(text).is_some_and(root)
        }
    })
}

/// ```text
/// or.b64 x, a, b;  and.b64 y, x, -4294967296;  setp.eq.s64 p, y, 0;  @p bra SHORT;
/// div.s64 ...;  bra.uni JOIN;
/// ```
/// with the first statement at `at`: its four statements, and the block behind them.
fn wide_division(items: &[Item<'_>], at: usize) -> Option<Vec<usize>> {
    let both = expect(items, at, "or.b64", 3)?;
    let upper = expect(items, at + 1, "and.b64", 3)?;
    let none = expect(items, at + 2, "setp.eq.s64", 3)?;
    branch_on(items, at + 3, none[0])?;
    let one_value = upper[1] == both[0] && none[1] == upper[0];
    if !one_value || upper[2] != "-4294967296" || none[2] != "0" {
        return None;
    }
    let wide = block(items, at + 4);
    let divides = |at: usize| {
        let opcode = statement(items, at).map(|statement| statement.opcode);
        matches!(opcode, Some("div.s64" | "div.u64" | "rem.s64" | "rem.u64"))
    };
    let is_division = wide.clone().any(divides) && only_computes(items, wide.clone());
    is_division.then(|| (at..at + 4).chain(wide).collect())
}

/// ```text
/// mov.b32 r, f;  ...  setp.lt.u32 p, r, 2139095040;  @p bra JOIN;
/// ...
/// JOIN:
/// setp.eq.f32 q, f, 0f00000000;  selp.f32 f, 0fFF800000, f, q;
/// ```
/// with the comparison at `at`, where `r` are the bits of a float and 2139095040 those of infinity: the comparison, the
/// branch, what stands before the label, and behind it, if it is there, what makes -inf of the logarithm of 0.
fn special_arguments(items: &[Item<'_>], at: usize) -> Option<Vec<usize>> {
    let comparison = expect(items, at, "setp.lt.u32", 3)?;
    let join = branch_on(items, at + 1, comparison[0])?;
    let is_bits = |at: &usize| {
        expect(items, *at, "mov.b32", 2)
            .is_some_and(|mov| mov[0] == comparison[1] && mov[1].starts_with("%f"))
    };
    let first = at + 2;
    let is_join = |at: &usize| matches!(items[*at], Item::Label(label) if label == join);
    let end = (first..items.len().min(first + 16)).find(is_join)?;
    let is_special = comparison[2] == "2139095040" && (0..at).any(|at| is_bits(&at));
    let of_zero = if logarithm_of_zero(items, end + 1).is_some() { end + 1..end + 3 } else { end..end };
    (is_special && only_computes(items, first..end)).then(|| (at..end).chain(of_zero).collect())
}

fn logarithm_of_zero(items: &[Item<'_>], at: usize) -> Option<()> {
    let is_zero = expect(items, at, "setp.eq.f32", 3)?;
    let chosen = expect(items, at + 1, "selp.f32", 4)?;
    (is_zero[2] == "0f00000000" && chosen[1] == "0fFF800000" && chosen[3] == is_zero[0]).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of the compiler's own statements in a text with one item a line.
    fn found(text: &str) -> Vec<usize> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let items: Vec<_> = lines
            .enumerate()
            .map(|(number, line)| match line.strip_suffix(':') {
                Some(label) => Item::Label(label),
                None => Item::Statement(number, line),
            })
            .collect();
        statements(&items).into_iter().collect()
    }

    const DIVISION: &str = "
        or.b64 %rd3, %rd1, %rd2
        and.b64 %rd4, %rd3, -4294967296
        setp.eq.s64 %p1, %rd4, 0
        @%p1 bra $L1
        div.s64 %rd5, %rd1, %rd2
        bra.uni $L2
        $L1:
        div.u32 %r3, %r1, %r2
        $L2:
        st.global.u64 [%rd6], %rd5";

    #[test]
    fn the_wide_way_of_a_division_is_the_compilers() {
        assert_eq!(found(DIVISION), [0, 1, 2, 3, 4, 5]);
        let others = [
            ("-4294967296", "-4294967295"),
            ("%rd4, 0", "%rd3, 0"),
            ("setp.eq", "setp.ne"),
            ("div.s64", "mul.lo.s64"),
            ("bra.uni $L2", "st.global.u64 [%rd6], %rd5"),
        ];
        for (text, other) in others {
            assert_eq!(found(&DIVISION.replace(text, other)), [0; 0], "{other}");
        }
    }

    const SPECIAL: &str = "
        mov.b32 %r1, %f1
        add.f32 %f2, %f1, %f1
        setp.lt.u32 %p1, %r1, 2139095040
        @%p1 bra $L1
        fma.rn.f32 %f2, %f1, 0f7F800000, 0f7F800000
        $L1:
        setp.eq.f32 %p2, %f1, 0f00000000
        selp.f32 %f3, 0fFF800000, %f2, %p2
        st.global.f32 [%rd6], %f2";

    #[test]
    fn the_branch_for_special_arguments_is_the_librarys() {
        assert_eq!(found(SPECIAL), [2, 3, 4, 6, 7]);
        assert_eq!(found(&SPECIAL.replace("0fFF800000", "0f3F800000")), [2, 3, 4]);
        let others = [
            ("mov.b32 %r1, %f1", "mov.b32 %r1, %r7"),
            ("2139095040", "2139095039"),
            ("fma.rn.f32 %f2, %f1, 0f7F800000, 0f7F800000", "st.global.f32 [%rd6], %f1"),
            ("bra $L1", "bra $L9"),
        ];
        for (text, other) in others {
            assert_eq!(found(&SPECIAL.replace(text, other)), [0; 0], "{other}");
        }
    }
}
