//! Instruction families whose modifiers combine freely: patterns that are both matched and listed.
use super::builder::Builder;
use crate::exec::LoadError;
use crate::ptx::ast::Instruction;

/// One place in a pattern.
pub(crate) struct Group {
    pub(crate) choices: &'static [&'static str],
    pub(crate) optional: bool,
}

/// A place that must be filled.
pub(crate) const fn one(choices: &'static [&'static str]) -> Group {
    Group { choices, optional: false }
}

/// A place that may be empty.
pub(crate) const fn maybe(choices: &'static [&'static str]) -> Group {
    Group { choices, optional: true }
}

/// What was chosen for each group of a pattern.
pub(crate) type Picks = Vec<Option<&'static str>>;

/// Translates one instruction of a family.
pub(crate) type Build = fn(&mut Builder<'_>, &Instruction, &Picks) -> Result<(), LoadError>;

/// An opcode, the modifiers it takes in order, and its translation.
pub(crate) struct Family {
    pub(crate) opcode: &'static str,
    pub(crate) groups: &'static [Group],
    pub(crate) build: Build,
}

impl Family {
    /// What each group takes of the modifiers; nothing if they do not fit the pattern.
    pub(crate) fn matches(&self, modifiers: &[String]) -> Option<Picks> {
        fn fit(groups: &'static [Group], modifiers: &[String], picks: &mut Picks) -> bool {
            let Some((group, rest)) = groups.split_first() else { return modifiers.is_empty() };
            if let Some((first, others)) = modifiers.split_first()
                && let Some(choice) = group.choices.iter().find(|choice| *choice == first)
            {
                picks.push(Some(choice));
                if fit(rest, others, picks) {
                    return true;
                }
                picks.pop();
            }
            if group.optional {
                picks.push(None);
                if fit(rest, modifiers, picks) {
                    return true;
                }
                picks.pop();
            }
            false
        }
        let mut picks = Vec::with_capacity(self.groups.len());
        fit(self.groups, modifiers, &mut picks).then_some(picks)
    }

    /// The pattern as text: `ld[.volatile|.relaxed]…`.
    pub(crate) fn pattern(&self) -> String {
        let mut text = self.opcode.to_string();
        for Group { choices, optional } in self.groups {
            let choices: Vec<String> = choices.iter().map(|choice| format!(".{choice}")).collect();
            match (optional, choices.len()) {
                (true, _) => text += &format!("[{}]", choices.join("|")),
                (false, 1) => text += &choices[0],
                (false, _) => text += &format!("{{{}}}", choices.join("|")),
            }
        }
        text
    }
}
