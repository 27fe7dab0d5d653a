//! CEL, narrowed: an expression over a closed set of names that gives yes or no.
//!
//! An unknown name is an error when the file is read, not a rule that never fires. Numbers are doubles throughout; CEL adds
//! no double to an integer, so `x + 20` is refused with a hint when the rule is read, by trying it once.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Program, Value};

/// The longest expression; CEL's own depth limit bounds its nesting.
const MAX_LENGTH: usize = 1_000;

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What a name stands for while an expression is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fact {
    Number(f64),
    Flag(bool),
    Text(String),
}

/// Values by name.
pub(crate) type Values = BTreeMap<&'static str, Fact>;

/// Why a text is no expression of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Longer than any rule needs.
    #[error("an expression may have {MAX_LENGTH} characters")]
    TooLong,
    /// CEL can't read it.
    #[error("not a CEL expression: {0}")]
    Syntax(String),
    /// A name that stands for nothing.
    #[error("unknown name `{name}`; known are: {known}")]
    UnknownName { name: String, known: String },
    /// It gives something else than yes or no.
    #[error(
        "the expression gives no yes or no: {0} (write numbers with a decimal point, as in `20.0`, when you calculate with them)"
    )]
    NotBoolean(String),
}

/// A compiled expression.
pub(crate) struct Expression {
    program: Program,
    names: BTreeSet<&'static str>,
}

impl Expression {
    /// Compiles the text. `known` has an example value for every name it may use.
    pub(crate) fn compile(text: &str, known: &Values) -> Result<Self, ExpressionError> {
        if text.len() > MAX_LENGTH {
            return Err(ExpressionError::TooLong);
        }
        let program = ENV.compile(text).map_err(|errors| {
            let first = errors.errors.first().map_or_else(String::new, |error| error.msg.clone());
            ExpressionError::Syntax(first)
        })?;
        let mut names = BTreeSet::new();
        for name in program.references().variables() {
            let Some((name, _)) = known.get_key_value(name) else {
                let known: Vec<&str> = known.keys().copied().collect();
                return Err(ExpressionError::UnknownName { name: name.to_owned(), known: known.join(", ") });
            };
            names.insert(*name);
        }
        let expression = Self { program, names };
        expression.run(known).map_err(ExpressionError::NotBoolean)?;
        Ok(expression)
    }

    /// The names it uses.
    pub(crate) const fn names(&self) -> &BTreeSet<&'static str> {
        &self.names
    }

    /// `None` when a value it needs is missing: neither yes nor no.
    pub(crate) fn holds(&self, values: &Values) -> Option<bool> {
        self.run(values).ok()
    }

    fn run(&self, values: &Values) -> Result<bool, String> {
        let mut context = Context::with_env(Arc::clone(&ENV));
        for name in &self.names {
            match values.get(name) {
                Some(Fact::Number(value)) => context.add_variable_from_value(*name, *value),
                Some(Fact::Flag(value)) => context.add_variable_from_value(*name, *value),
                Some(Fact::Text(value)) => context.add_variable_from_value(*name, value.clone()),
                None => {}
            }
        }
        match self.program.execute(&context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Ok(other) => Err(format!("it gives a value of type {:?}", other.type_of())),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expression").field("names", &self.names).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(up: f64) -> Values {
        Values::from([("up", Fact::Number(up)), ("result", Fact::Text("signal".into())), ("busy", Fact::Flag(true))])
    }

    #[test]
    fn an_expression_over_known_names_is_evaluated() {
        let expression = Expression::compile("up < 1 && result == 'signal' || !busy", &values(1.0)).unwrap();
        assert_eq!(expression.holds(&values(0.0)), Some(true));
        assert_eq!(expression.holds(&values(2.0)), Some(false));
        assert_eq!(expression.names().len(), 3);
    }

    #[test]
    fn a_missing_value_is_neither_yes_nor_no() {
        let expression = Expression::compile("up < 1.0", &values(1.0)).unwrap();
        assert_eq!(expression.holds(&Values::new()), None);
    }

    #[test]
    fn a_wrong_expression_is_refused_when_it_is_read() {
        let compile = |text: &str| Expression::compile(text, &values(1.0)).unwrap_err();
        assert!(matches!(compile("up <"), ExpressionError::Syntax(_)));
        assert!(matches!(compile("upp < 1.0"), ExpressionError::UnknownName { name, .. } if name == "upp"));
        assert!(matches!(compile("up + 1.0"), ExpressionError::NotBoolean(_)));
        assert!(matches!(compile("up + 1 > 2.0"), ExpressionError::NotBoolean(_)));
        assert!(matches!(compile(&"!".repeat(2_000)), ExpressionError::TooLong));
    }
}
