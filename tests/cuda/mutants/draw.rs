//! Which mutants are tried. A kernel's draw depends on the seed, its name and its own text alone: other kernels may
//! come and go.

use std::collections::BTreeMap;

use inbatch::cuda::Ptx;

use super::operators::Operator;
use crate::support::{Random, hash};

/// One changed statement of one kernel.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    pub file: &'static Ptx,
    pub kernel: &'static str,
    pub operator: Operator,
    /// The statement as it ships, blanks made alike.
    pub original: String,
    /// Which of the kernel's statements with that very text it is, from 1.
    pub place: usize,
    /// What it becomes; nothing if it is taken away.
    pub changed: String,
    /// Its place in the text.
    start: usize,
    end: usize,
}

impl Mutant {
    /// The whole file with the change in it.
    pub(super) fn text(&self) -> String {
        // The semicolon goes with a statement that is taken away.
        let end = self.end + usize::from(self.changed.is_empty());
        format!("{}{}{}", &self.file.text[..self.start], self.changed, &self.file.text[end..])
    }

    /// The file as it ships with a trap before the statement: it shows whether a case gets there at all.
    pub(super) fn trapped(&self) -> String {
        format!("{}trap; {}", &self.file.text[..self.start], &self.file.text[self.start..])
    }

    pub(super) fn describe(&self) -> String {
        let changed = if self.changed.is_empty() { "nothing" } else { &self.changed };
        let place = if self.place > 1 { format!(" (no. {})", self.place) } else { String::new() };
        format!("{}, {}: `{}`{place} became `{changed}`", self.kernel, self.operator.name(), self.original)
    }
}

/// A kernel of the embedded PTX: its name, and where its statements stand.
struct Body {
    file: &'static Ptx,
    kernel: &'static str,
    range: std::ops::Range<usize>,
}

/// The kernels of all files that ship.
fn bodies() -> Vec<Body> {
    inbatch::cuda::ptx().iter().flat_map(bodies_of).collect()
}

fn bodies_of(file: &'static Ptx) -> Vec<Body> {
    const ENTRY: &str = ".entry ";
    let mut bodies = Vec::new();
    let mut from = 0;
    while let Some(entry) = file.text[from..].find(ENTRY).map(|at| from + at + ENTRY.len()) {
        let name_end = file.text[entry..].find('(').map_or(file.text.len(), |at| entry + at);
        // Braces inside a body are indented.
        let start = file.text[name_end..].find("\n{").map_or(file.text.len(), |at| name_end + at + 2);
        let end = file.text[start..].find("\n}").map_or(file.text.len(), |at| start + at);
        bodies.push(Body { file, kernel: file.text[entry..name_end].trim(), range: start..end });
        from = end;
    }
    bodies
}

/// The names of the kernels that ship.
pub(super) fn kernels() -> Vec<&'static str> {
    bodies().iter().map(|body| body.kernel).collect()
}

impl Body {
    /// The statements, each from its first letter to its semicolon.
    fn statements(&self) -> impl Iterator<Item = (usize, usize)> {
        let text = self.file.text;
        let mut at = self.range.start;
        let lines = text[self.range.clone()].split_inclusive('\n').map(move |line| {
            at += line.len();
            (at - line.len(), line)
        });
        lines.flat_map(move |(line_start, line)| {
            let code = line.split("//").next().unwrap_or_default();
            let mut start = line_start;
            let mut statements = Vec::new();
            for piece in code.split_inclusive(';') {
                let end = start + piece.len();
                if piece.ends_with(';') {
                    let blanks = |letter: char| letter.is_whitespace() || letter == '{';
                    statements.push((end - piece.trim_start_matches(blanks).len(), end - 1));
                }
                start = end;
            }
            statements
        })
    }

    fn sites(&self, operator: Operator) -> Vec<Mutant> {
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mutants = self.statements().flat_map(|(start, end)| {
            let statement = &self.file.text[start..end];
            let original = statement.split_whitespace().collect::<Vec<_>>().join(" ");
            let place = places.entry(original.clone()).or_default();
            *place += 1;
            let place = *place;
            operator.changes(statement).into_iter().map(move |changed| Mutant {
                file: self.file,
                kernel: self.kernel,
                operator,
                original: original.clone(),
                place,
                changed,
                start,
                end,
            })
        });
        mutants.collect()
    }

    /// Up to `count` mutants: the operator is drawn first, then the place, so that rare operators have their share.
    fn draw(&self, count: usize, seed: u64) -> Vec<Mutant> {
        let mut random = Random(seed ^ hash(self.kernel));
        let mut sites: Vec<Vec<Mutant>> =
            Operator::ALL.iter().map(|operator| self.sites(*operator)).collect();
        let mut drawn = Vec::new();
        while drawn.len() < count {
            sites.retain(|sites| !sites.is_empty());
            if sites.is_empty() {
                break;
            }
            let operator = random.below(sites.len() as u64) as usize;
            let place = random.below(sites[operator].len() as u64) as usize;
            drawn.push(sites[operator].swap_remove(place));
        }
        drawn
    }
}

/// Up to `each` mutants of every kernel that ships.
pub(super) fn draw(each: usize, seed: u64) -> Vec<Mutant> {
    bodies().iter().flat_map(|body| body.draw(each, seed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_its_share_and_each_mutant_differs_in_one_statement() {
        let mutants = draw(3, 1);
        for kernel in kernels() {
            assert_eq!(mutants.iter().filter(|mutant| mutant.kernel == kernel).count(), 3, "{kernel}");
        }
        for mutant in &mutants {
            let (before, after) = (mutant.file.text, mutant.text());
            let changed: Vec<_> = before.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
            assert_eq!(before.lines().count(), after.lines().count());
            assert_eq!(changed.len(), 1, "{}", mutant.describe());
        }
        let again: Vec<_> = draw(3, 1).iter().map(Mutant::describe).collect();
        assert_eq!(mutants.iter().map(Mutant::describe).collect::<Vec<_>>(), again, "the seed decides");
        assert_ne!(draw(3, 2).iter().map(Mutant::describe).collect::<Vec<_>>(), again);
    }
}
