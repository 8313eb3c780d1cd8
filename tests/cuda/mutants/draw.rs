//! Which mutants are tried. A kernel's draw depends on the seed, its name and its own text alone: other kernels may
//! come and go.

use std::collections::BTreeMap;

use inbatch::cuda::Ptx;

use super::compiled::{self, Item};
use super::operators::Operator;
use crate::support::{Random, hash};

/// One changed statement of one kernel.
#[derive(Clone, Debug)]
pub(super) struct Mutant {
    pub file: &'static Ptx,
    pub kernel: &'static str,
    pub operator: Operator,
    pub site: Site,
    /// What the statement becomes; nothing if it is taken away.
    pub changed: String,
}

/// A statement of a kernel.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Its place in the text.
    start: usize,
    end: usize,
    /// The statement as it ships, blanks made alike.
    pub original: String,
    /// Which of the kernel's statements with that very text it is, from 1.
    pub place: usize,
    /// The statement among its neighbours, without what changes with every compilation.
    pub around: String,
}

/// Statements on either side that tell one statement from others like it.
const AROUND: usize = 3;

/// A line of a kernel that counts.
enum Line {
    Label(&'static str),
    /// From its first letter to its semicolon.
    Statement(usize, usize),
}

/// A statement without the numbers of its registers and labels, which change with every compilation.
pub(super) fn shape(statement: &str) -> String {
    let mut shape = String::new();
    let mut is_name = false;
    for letter in statement.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        match letter {
            '%' | '$' => is_name = true,
            _ if !letter.is_alphanumeric() && letter != '_' => is_name = false,
            _ => {}
        }
        if !(is_name && letter.is_ascii_digit()) {
            shape.push(letter);
        }
    }
    shape
}

impl Mutant {
    /// The whole file with the change in it.
    pub(super) fn text(&self) -> String {
        // The semicolon goes with a statement that is taken away.
        let Site { start, end, .. } = self.site;
        let end = end + usize::from(self.changed.is_empty());
        format!("{}{}{}", &self.file.text[..start], self.changed, &self.file.text[end..])
    }

    /// The file as it ships with a trap before the statement: it shows whether a case gets there at all.
    pub(super) fn trapped(&self) -> String {
        let (before, after) = self.file.text.split_at(self.site.start);
        format!("{before}trap; {after}")
    }

    pub(super) fn describe(&self) -> String {
        let changed = if self.changed.is_empty() { "nothing" } else { &self.changed };
        let Site { original, place, .. } = &self.site;
        let place = if *place > 1 { format!(" (no. {place})") } else { String::new() };
        format!("{}, {}: `{original}`{place} became `{changed}`", self.kernel, self.operator.name())
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
    /// Labels and statements, the latter each from its first letter to its semicolon.
    fn lines(&self) -> Vec<Line> {
        let text = self.file.text;
        let mut at = self.range.start;
        let mut found = Vec::new();
        for line in text[self.range.clone()].split_inclusive('\n') {
            let mut start = at;
            at += line.len();
            let code = line.split("//").next().unwrap_or_default();
            if let Some(label) = code.trim().strip_suffix(':') {
                found.push(Line::Label(label));
            }
            for piece in code.split_inclusive(';') {
                let end = start + piece.len();
                if piece.ends_with(';') {
                    let blanks = |letter: char| letter.is_whitespace() || letter == '{';
                    found.push(Line::Statement(end - piece.trim_start_matches(blanks).len(), end - 1));
                }
                start = end;
            }
        }
        found
    }

    /// The statements that a slip in the source can change, each with its text (blanks made alike) and its surroundings.
    fn statements(&self) -> Vec<Site> {
        let lines = self.lines();
        let items: Vec<_> = lines
            .iter()
            .enumerate()
            .map(|(number, line)| match *line {
                Line::Label(label) => Item::Label(label),
                Line::Statement(start, end) => Item::Statement(number, &self.file.text[start..end]),
            })
            .collect();
        let left_alone = compiled::statements(&items);
        let shapes: Vec<_> = items
            .iter()
            .map(|item| match item {
                Item::Label(_) => ":".to_owned(),
                Item::Statement(_, text) => shape(text),
            })
            .collect();
        let mut places: BTreeMap<String, usize> = BTreeMap::new();
        let mut sites = Vec::new();
        for (number, line) in lines.iter().enumerate() {
            let Line::Statement(start, end) = *line else { continue };
            let original = self.file.text[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
            let place = places.entry(original.clone()).or_default();
            *place += 1;
            let around = number.saturating_sub(AROUND)..(number + AROUND + 1).min(shapes.len());
            let site = Site { start, end, original, place: *place, around: shapes[around].join("; ") };
            if !left_alone.contains(&number) {
                sites.push(site);
            }
        }
        sites
    }

    fn mutants(&self, sites: &[Site], operator: Operator) -> Vec<Mutant> {
        let of_site = |site: &Site| {
            let changes = operator.changes(&self.file.text[site.start..site.end]);
            let (file, kernel, site) = (self.file, self.kernel, site.clone());
            changes.into_iter().map(move |changed| Mutant {
                file,
                kernel,
                operator,
                site: site.clone(),
                changed,
            })
        };
        sites.iter().flat_map(of_site).collect()
    }

    /// Up to `count` mutants: the operator is drawn first, then the place, so that rare operators have their share.
    fn draw(&self, count: usize, seed: u64) -> Vec<Mutant> {
        let mut random = Random(seed ^ hash(self.kernel));
        let sites = self.statements();
        let mut mutants: Vec<Vec<Mutant>> =
            Operator::ALL.iter().map(|operator| self.mutants(&sites, *operator)).collect();
        let mut drawn = Vec::new();
        while drawn.len() < count {
            mutants.retain(|mutants| !mutants.is_empty());
            if mutants.is_empty() {
                break;
            }
            let operator = random.below(mutants.len() as u64) as usize;
            let place = random.below(mutants[operator].len() as u64) as usize;
            drawn.push(mutants[operator].swap_remove(place));
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
