//! Reading a file that a person wrote, with line numbers.
//!
//! TOML and YAML are read into one small tree; a parser then takes typed values out of it. What is wrong is told as a
//! [`Mistake`]: where, what, and what to write instead. Nothing is guessed, coerced or defaulted here.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use theriac_model::time::Span;
use theriac_model::units::Bytes;

/// Longest file that is read: the longest real one of ours has 10 KiB, and a parser's memory is a multiple of its input.
pub const MAX_DOCUMENT: usize = 256 * 1024;
/// The same, for reading one from a file.
pub const MAX_FILE: u64 = MAX_DOCUMENT as u64;

/// Deepest nesting of lists and tables; our deepest real file has five levels.
const MAX_DEPTH: usize = 16;

/// The first thing that is wrong in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Line, from 1.
    pub line: usize,
    /// The key, in full, such as `grants.files.logs.verbs`; empty where the file can't be read at all.
    pub key: String,
    /// What is wrong.
    pub problem: String,
    /// What to write instead; empty where the problem says it already.
    pub hint: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key.escape_debug())?;
        }
        f.write_str(&self.problem)?;
        if self.hint.is_empty() { Ok(()) } else { write!(f, "; {}", self.hint) }
    }
}

impl std::error::Error for Mistake {}

/// One value with its place in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    path: String,
    line: usize,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
    /// A date, a null: nothing of ours is one.
    Other(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
struct Node {
    line: usize,
    value: Value,
}

/// A value that is neither list nor table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// A text.
    Text(&'a str),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Flag(bool),
}

/// A table whose keys are all known to be valid.
#[derive(Debug)]
pub struct Table {
    path: String,
    line: usize,
    fields: BTreeMap<String, Node>,
}

/// Reads TOML.
pub fn toml(text: &str) -> Result<Field, Mistake> {
    within_size(text)?;
    let table = ::toml::de::DeTable::parse(text).map_err(|error| Mistake {
        line: line_at(text, error.span().map_or(0, |span| span.start)),
        key: String::new(),
        problem: one_line(error.message()),
        hint: "this is not TOML".to_owned(),
    })?;
    let value = toml_table(text, table.get_ref(), 0)?;
    Ok(Field { path: String::new(), line: 1, value })
}

/// Reads YAML: one document, no anchors that multiply.
pub fn yaml(text: &str) -> Result<Field, Mistake> {
    within_size(text)?;
    // Without this, `y` and `on` are read as true.
    let options = serde_saphyr::options! { strict_booleans: true };
    let read: Result<serde_saphyr::Spanned<Value>, _> = serde_saphyr::from_str_with_options(text, options);
    let read = read.map_err(|error| Mistake {
        line: error.location().and_then(|place| usize::try_from(place.line()).ok()).unwrap_or(1),
        key: String::new(),
        problem: yaml_words(&error.without_snippet().to_string()),
        hint: "this is not YAML of the kind read here".to_owned(),
    })?;
    Ok(Field { path: String::new(), line: 1, value: read.value })
}

fn within_size(text: &str) -> Result<(), Mistake> {
    if text.len() <= MAX_DOCUMENT {
        return Ok(());
    }
    let problem = format!("the file has {}, at most {} are read", Bytes(text.len() as u64), Bytes(MAX_DOCUMENT as u64));
    Err(Mistake { line: 1, key: String::new(), problem, hint: String::new() })
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(200).collect()
}

/// The parser's sentence without the place, which we say ourselves, and without advice to programmers.
fn yaml_words(text: &str) -> String {
    let cut = [" at line ", ", set "].into_iter().filter_map(|mark| text.find(mark)).min().unwrap_or(text.len());
    one_line(text.get(..cut).unwrap_or(text))
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn toml_table(text: &str, table: &::toml::de::DeTable<'_>, depth: usize) -> Result<Value, Mistake> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let line = line_at(text, key.span().start);
        entries.push((key.get_ref().to_string(), toml_node(text, line, value.get_ref(), depth + 1)?));
    }
    Ok(Value::Table(entries))
}

fn toml_node(text: &str, line: usize, value: &::toml::de::DeValue<'_>, depth: usize) -> Result<Node, Mistake> {
    use ::toml::de::DeValue;
    if depth > MAX_DEPTH {
        return Err(Mistake {
            line,
            key: String::new(),
            problem: format!("nested more than {MAX_DEPTH} levels deep"),
            hint: String::new(),
        });
    }
    let value = match value {
        DeValue::String(string) => Value::Text(string.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::Float(number) => {
            number.as_str().parse().map_or(Value::Other("a number that can't be read"), Value::Float)
        }
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(items) => {
            let item = |item: &::toml::Spanned<DeValue<'_>>| {
                toml_node(text, line_at(text, item.span().start), item.get_ref(), depth + 1)
            };
            Value::List(items.iter().map(item).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => toml_table(text, table, depth)?,
    };
    Ok(Node { line, value })
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlValue)
    }
}

struct YamlValue;

fn yaml_node(read: serde_saphyr::Spanned<Value>) -> Node {
    Node { line: usize::try_from(read.referenced.line()).unwrap_or(1), value: read.value }
}

impl<'de> Visitor<'de> for YamlValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, true, false, a list or a table")
    }
    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }
    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or(Value::Other("a number beyond 64 bits"), Value::Integer))
    }
    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Other("nothing"))
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Other("nothing"))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<serde_saphyr::Spanned<Value>>()? {
            list.push(yaml_node(item));
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = entries.next_key::<serde_saphyr::Spanned<String>>()? {
            let line = usize::try_from(key.referenced.line()).unwrap_or(1);
            let node = yaml_node(entries.next_value()?);
            table.push((key.value, Node { line, ..node }));
        }
        Ok(Value::Table(table))
    }
}

impl Value {
    const fn called(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number with a point",
            Self::Flag(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(called) => called,
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Field {
    /// A mistake at this place.
    pub fn mistake(&self, problem: impl fmt::Display, hint: impl fmt::Display) -> Mistake {
        Mistake { line: self.line, key: self.path.clone(), problem: problem.to_string(), hint: hint.to_string() }
    }

    fn not(&self, wanted: &str) -> Mistake {
        self.mistake(format!("{} is written here", self.value.called()), format!("write {wanted}"))
    }

    /// The line, from 1.
    pub const fn line(&self) -> usize {
        self.line
    }

    /// It is a table (and not, say, a text): for keys that take either.
    pub const fn is_table(&self) -> bool {
        matches!(self.value, Value::Table(_))
    }

    /// A text, as it stands.
    pub fn text(&self) -> Result<&str, Mistake> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Integer(_)
            | Value::Float(_)
            | Value::Flag(_)
            | Value::List(_)
            | Value::Table(_)
            | Value::Other(_) => Err(self.not("a text in quotes")),
        }
    }

    /// One line for people: not empty, at most `max` characters, nothing that moves a terminal's cursor.
    pub fn sentence(&self, max: usize) -> Result<String, Mistake> {
        let text = self.text()?;
        let printable = text.chars().all(|c| {
            !c.is_control() && !matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
        });
        if text.trim().is_empty() || text.chars().count() > max || !printable {
            let problem = "it is not one readable line";
            return Err(
                self.mistake(problem, format!("write 1 to {max} characters without line breaks or control characters"))
            );
        }
        Ok(text.to_owned())
    }

    /// A text that a type of ours parses; its error says what to write.
    pub fn parse<T: FromStr<Err: fmt::Display>>(&self) -> Result<T, Mistake> {
        self.text()?.parse().map_err(|error: T::Err| self.mistake(error, ""))
    }

    /// A text that `parse` takes; its error says what to write.
    pub fn parse_with<T, E: fmt::Display>(&self, parse: impl FnOnce(&str) -> Result<T, E>) -> Result<T, Mistake> {
        parse(self.text()?).map_err(|error| self.mistake(error, ""))
    }

    /// A span of time between two bounds, both allowed.
    pub fn span(&self, min: Span, max: Span) -> Result<Span, Mistake> {
        let span = self.parse_with(Span::parse)?;
        if (min..=max).contains(&span) {
            Ok(span)
        } else {
            Err(self.mistake(format!("`{span}` is out of bounds"), format!("write {min} to {max}")))
        }
    }

    /// A size between two bounds, both allowed.
    pub fn bytes(&self, min: Bytes, max: Bytes) -> Result<Bytes, Mistake> {
        let bytes = self.parse_with(Bytes::parse)?;
        if (min..=max).contains(&bytes) {
            Ok(bytes)
        } else {
            Err(self.mistake(format!("`{bytes}` is out of bounds"), format!("write {min} to {max}")))
        }
    }

    /// A whole number between two bounds, both allowed.
    pub fn integer<T: TryFrom<i64> + PartialOrd + fmt::Display>(&self, min: T, max: T) -> Result<T, Mistake> {
        let wanted = format!("a whole number from {min} to {max}");
        let number = match &self.value {
            Value::Integer(number) => *number,
            Value::Text(_) | Value::Float(_) | Value::Flag(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                return Err(self.not(&wanted));
            }
        };
        match T::try_from(number) {
            Ok(value) if value >= min && value <= max => Ok(value),
            Ok(_) | Err(_) => Err(self.mistake(format!("{number} is out of bounds"), format!("write {wanted}"))),
        }
    }

    /// A share from 0.0 to 1.0.
    pub fn share(&self) -> Result<theriac_model::units::Permille, Mistake> {
        let share = match &self.value {
            Value::Float(share) => *share,
            Value::Integer(0) => 0.0,
            Value::Integer(1) => 1.0,
            Value::Integer(_)
            | Value::Text(_)
            | Value::Flag(_)
            | Value::List(_)
            | Value::Table(_)
            | Value::Other(_) => {
                return Err(self.not("a share from 0.0 to 1.0"));
            }
        };
        if !(0.0..=1.0).contains(&share) {
            return Err(self.mistake(format!("{share} is out of bounds"), "write a share from 0.0 to 1.0"));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0.0 to 1.0 was checked just above"
        )]
        Ok(theriac_model::units::Permille::clamped((share * 1000.0).round() as u64))
    }

    /// True or false.
    pub fn flag(&self) -> Result<bool, Mistake> {
        match &self.value {
            Value::Flag(flag) => Ok(*flag),
            Value::Text(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::List(_)
            | Value::Table(_)
            | Value::Other(_) => Err(self.not("true or false")),
        }
    }

    /// A whole number, a text, true or false.
    pub fn scalar(&self) -> Result<Scalar<'_>, Mistake> {
        match &self.value {
            Value::Text(text) => Ok(Scalar::Text(text)),
            Value::Integer(number) => Ok(Scalar::Integer(*number)),
            Value::Flag(flag) => Ok(Scalar::Flag(*flag)),
            Value::Float(_) | Value::List(_) | Value::Table(_) | Value::Other(_) => {
                Err(self.not("a whole number, a word, true or false"))
            }
        }
    }

    /// The items of a list.
    pub fn list(self) -> Result<Vec<Self>, Mistake> {
        let Value::List(items) = self.value else { return Err(self.not("a list in square brackets")) };
        let field = |(index, node): (usize, Node)| Self {
            path: format!("{}[{index}]", self.path),
            line: node.line,
            value: node.value,
        };
        Ok(items.into_iter().enumerate().map(field).collect())
    }

    /// A list without repetitions, each item parsed; `what` names one item in the hint.
    pub fn set<T: FromStr<Err: fmt::Display> + Ord>(self) -> Result<std::collections::BTreeSet<T>, Mistake> {
        let mut set = std::collections::BTreeSet::new();
        for item in self.list()? {
            if !set.insert(item.parse()?) {
                return Err(item.mistake("it is listed twice", "leave one out"));
            }
        }
        Ok(set)
    }

    /// A table whose keys are names that the writer chose.
    pub fn named(self) -> Result<Vec<(String, Self)>, Mistake> {
        let Value::Table(entries) = self.value else { return Err(self.not("a table")) };
        let field = |(key, node): (String, Node)| {
            let field = Self { path: join(&self.path, &key), line: node.line, value: node.value };
            (key, field)
        };
        Ok(entries.into_iter().map(field).collect())
    }

    /// A table with these keys and no others.
    pub fn table(self, valid: &[&str]) -> Result<Table, Mistake> {
        let Value::Table(entries) = self.value else { return Err(self.not("a table")) };
        for (key, node) in &entries {
            if !valid.contains(&key.as_str()) {
                let place = if self.path.is_empty() { "at the top".to_owned() } else { format!("in `{}`", self.path) };
                return Err(Mistake {
                    line: node.line,
                    key: join(&self.path, key),
                    problem: format!("there is no such key {place}"),
                    hint: format!("valid keys: {}", valid.join(", ")),
                });
            }
        }
        Ok(Table { path: self.path, line: self.line, fields: entries.into_iter().collect() })
    }
}

impl Table {
    /// A mistake of the table as a whole.
    pub fn mistake(&self, problem: impl fmt::Display, hint: impl fmt::Display) -> Mistake {
        Mistake { line: self.line, key: self.path.clone(), problem: problem.to_string(), hint: hint.to_string() }
    }

    /// Takes the value of a key that may be absent.
    pub fn optional(&mut self, key: &str) -> Option<Field> {
        let node = self.fields.remove(key)?;
        Some(Field { path: join(&self.path, key), line: node.line, value: node.value })
    }

    /// Takes the value of a key that must be there; `hint` says what to write.
    pub fn required(&mut self, key: &str, hint: &str) -> Result<Field, Mistake> {
        self.optional(key).ok_or_else(|| Mistake {
            line: self.line,
            key: join(&self.path, key),
            problem: "it is missing".to_owned(),
            hint: format!("write {hint}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(read: Result<Field, Mistake>, keys: &[&str], expected: &Expect) {
        let answer = read.and_then(|field| field.table(keys)).and_then(|mut table| {
            let field = table.required("n", "`n = 3`")?;
            field.integer(1_u32, 9)
        });
        expected.assert_eq(&answer.map_or_else(|mistake| mistake.to_string(), |number| format!("{number}")));
    }

    #[test]
    fn a_number_is_taken_with_its_bounds() {
        check(toml("n = 9"), &["n"], &expect!["9"]);
        check(toml("\nn = 10"), &["n"], &expect!["line 2: `n`: 10 is out of bounds; write a whole number from 1 to 9"]);
        check(
            toml("n = '9'"),
            &["n"],
            &expect!["line 1: `n`: a text is written here; write a whole number from 1 to 9"],
        );
        check(toml("m = 9"), &["n", "m"], &expect!["line 1: `n`: it is missing; write `n = 3`"]);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_valid_ones() {
        let valid = &["n", "size"];
        check(
            toml("n = 1\n\nsizes = 2\n"),
            valid,
            &expect!["line 3: `sizes`: there is no such key at the top; valid keys: n, size"],
        );
        check(
            yaml("n: 1\n\nsizes: 2\n"),
            valid,
            &expect!["line 3: `sizes`: there is no such key at the top; valid keys: n, size"],
        );
    }

    #[test]
    fn what_is_not_the_format_is_told_with_its_line() {
        check(toml("n = 1\nn = 2"), &["n"], &expect!["line 2: duplicate key; this is not TOML"]);
        check(
            yaml("n: 1\nn: 2"),
            &["n"],
            &expect!["line 2: duplicate mapping key: n; this is not YAML of the kind read here"],
        );
        check(yaml("n: [1"), &["n"], &expect!["line 1: unclosed bracket '['; this is not YAML of the kind read here"]);
        check(
            yaml("n: *a"),
            &["n"],
            &expect!["line 1: alias references unknown anchor; this is not YAML of the kind read here"],
        );
    }

    #[test]
    fn lines_are_told_inside_yaml_lists() {
        let rungs = yaml("rungs:\n  - a: 1\n  - b: 2\n").unwrap().table(&["rungs"]).unwrap().optional("rungs").unwrap();
        let lines: Vec<usize> = rungs.list().unwrap().iter().map(Field::line).collect();
        assert_eq!(lines, [2, 3]);
    }

    #[test]
    fn a_huge_or_deep_file_is_refused() {
        assert!(toml(&format!("a = '{}'", "x".repeat(MAX_DOCUMENT))).is_err());
        assert!(toml(&format!("a = {}1{}", "[".repeat(40), "]".repeat(40))).is_err());
        assert!(yaml(&format!("a: {}1{}", "[".repeat(4000), "]".repeat(4000))).is_err());
    }

    #[test]
    fn a_sentence_holds_nothing_that_moves_the_cursor() {
        let sentence = |text: &str| Field { path: "why".into(), line: 1, value: Value::Text(text.into()) }.sentence(20);
        assert!(sentence("rotated logs").is_ok());
        for wrong in ["", "  ", "a\nb", "a\u{1b}[2J", "a\u{202e}b", &"x".repeat(21)] {
            assert!(sentence(wrong).is_err(), "{wrong:?}");
        }
    }
}
