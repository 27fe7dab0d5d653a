//! Argument templates: text with `{slot}` in it. A slot stands for exactly one value inside exactly one argument; nothing that is
//! filled in is looked at again, split or expanded.

use theriac_model::id::Label;

/// One argument, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Slot(Label),
}

impl Template {
    /// `None` where a brace stands alone, or its content is no label.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return None;
            }
            let (name, tail) = after.split_once('}')?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Slot(Label::parse(name).ok()?));
            rest = tail;
        }
        if rest.contains('}') {
            return None;
        }
        parts.push(Part::Text(rest.to_owned()));
        Some(Self(parts))
    }

    /// Its slots, in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Label> {
        self.0.iter().filter_map(|part| match part {
            Part::Slot(slot) => Some(slot),
            Part::Text(_) => None,
        })
    }

    /// The argument with every slot filled; `None` where a value is missing.
    pub(crate) fn fill<'v>(&self, value: impl Fn(&Label) -> Option<&'v str>) -> Option<String> {
        let mut argument = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => argument.push_str(text),
                Part::Slot(slot) => argument.push_str(value(slot)?),
            }
        }
        Some(argument)
    }
}

/// The argument has that slot.
pub(crate) fn uses(argument: &str, slot: &Label) -> bool {
    Template::parse(argument).is_some_and(|template| template.slots().any(|used| used == slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_filled_once_and_never_looked_at_again() {
        let template = Template::parse("--name={name}:{name}").unwrap();
        assert_eq!(template.fill(|_| Some("{name} $(id)")).unwrap(), "--name={name} $(id):{name} $(id)");
        assert_eq!(template.fill(|_| None), None);
    }

    #[test]
    fn a_brace_that_is_not_closed_or_has_no_label_is_no_template() {
        for text in ["{", "}", "{a", "a}", "{}", "{A}", "{a}}", "{{a}}", "{a b}"] {
            assert_eq!(Template::parse(text), None, "{text}");
        }
        assert!(Template::parse("plain").is_some() && Template::parse("").is_some());
    }
}
