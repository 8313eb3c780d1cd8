//! Constant integer expressions, folded as they are read.

use super::{Kind, Parsed, Parser, limit};

/// Binary operators by how tightly they bind, as in C.
fn precedence(kind: Kind<'_>) -> Option<(u8, char)> {
    Some(match kind {
        Kind::Punct(operator @ ('*' | '/' | '%')) => (6, operator),
        Kind::Punct(operator @ ('+' | '-')) => (5, operator),
        Kind::Shift(operator) => (4, operator),
        Kind::Punct('&') => (3, '&'),
        Kind::Punct('^') => (2, '^'),
        Kind::Punct('|') => (1, '|'),
        _ => return None,
    })
}

fn apply(operator: char, a: i128, b: i128) -> Option<i128> {
    match operator {
        '*' => a.checked_mul(b),
        '/' => a.checked_div(b),
        '%' => a.checked_rem(b),
        '+' => a.checked_add(b),
        '-' => a.checked_sub(b),
        '<' => a.checked_mul(1i128.checked_shl(u32::try_from(b).ok()?)?),
        '>' => a.checked_shr(u32::try_from(b).ok()?),
        '&' => Some(a & b),
        '^' => Some(a ^ b),
        '|' => Some(a | b),
        _ => None,
    }
}

impl Parser<'_> {
    /// A constant expression whose value fits 64 bits, signed or unsigned.
    pub(super) fn integer(&mut self) -> Parsed<i128> {
        let at = self.token.at;
        let value = self.binary(1, 0)?;
        if value < i128::from(i64::MIN) || value > i128::from(u64::MAX) {
            return Err(self.error_at(at, "this constant does not fit in 64 bits"));
        }
        Ok(value)
    }

    fn binary(&mut self, least: u8, depth: u32) -> Parsed<i128> {
        let mut value = self.unary(depth)?;
        while let Some((tightness, operator)) = precedence(self.token.kind) {
            if tightness < least {
                break;
            }
            let at = self.take()?.at;
            let right = self.binary(tightness + 1, depth)?;
            value = apply(operator, value, right).ok_or_else(|| {
                self.error_at(at, "this constant cannot be computed: it overflows or divides by zero")
            })?;
        }
        Ok(value)
    }

    fn unary(&mut self, depth: u32) -> Parsed<i128> {
        if depth > limit::OPERAND_DEPTH {
            return Err(self.error("the expression is nested too deeply"));
        }
        match self.token.kind {
            Kind::Integer(value) => {
                self.take()?;
                Ok(i128::from(value))
            }
            Kind::Name("WARP_SZ") => {
                self.take()?;
                Ok(32)
            }
            Kind::Punct(sign @ ('-' | '+' | '~' | '!')) => {
                let at = self.take()?.at;
                let value = self.unary(depth + 1)?;
                let folded = match sign {
                    '-' => value.checked_neg(),
                    '~' => Some(!value),
                    '!' => Some(i128::from(value == 0)),
                    _ => Some(value),
                };
                folded.ok_or_else(|| self.error_at(at, "this constant overflows"))
            }
            Kind::Punct('(') => {
                self.take()?;
                let value = self.binary(1, depth + 1)?;
                self.expect_punct(')')?;
                Ok(value)
            }
            _ => Err(self.expected("a constant")),
        }
    }
}
