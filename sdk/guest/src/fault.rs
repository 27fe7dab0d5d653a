//! The fault as a remedy reads it: parameters by name, numbers by name.

use crate::{Input, Value};

impl Input {
    /// The value of an `integer` parameter.
    ///
    /// The runner hands over every parameter of the manifest, within its bounds, so a missing one is a mistake in the
    /// remedy: it panics with the caller's file and line.
    #[track_caller]
    pub fn param_integer(&self, name: &str) -> i64 {
        match self.param(name) {
            Value::Integer(value) => *value,
            Value::Choice(_) | Value::Flag(_) => panic!("parameter `{name}` is no integer: see [params.{name}]"),
        }
    }

    /// The value of a `choice` parameter; panics as [`Input::param_integer`] does.
    #[track_caller]
    pub fn param_choice(&self, name: &str) -> &str {
        match self.param(name) {
            Value::Choice(value) => value,
            Value::Integer(_) | Value::Flag(_) => panic!("parameter `{name}` is no choice: see [params.{name}]"),
        }
    }

    /// The value of a `flag` parameter; panics as [`Input::param_integer`] does.
    #[track_caller]
    pub fn param_flag(&self, name: &str) -> bool {
        match self.param(name) {
            Value::Flag(value) => *value,
            Value::Integer(_) | Value::Choice(_) => panic!("parameter `{name}` is no flag: see [params.{name}]"),
        }
    }

    #[track_caller]
    fn param(&self, name: &str) -> &Value {
        match self.params.iter().find(|param| param.name == name) {
            Some(param) => &param.value,
            None => panic!("the manifest has no [params.{name}]"),
        }
    }

    /// A number that the runner measured, by name. It is the same in the dry run and in the live run, so that what is
    /// decided from it is decided alike.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.numbers.iter().find(|number| number.name == name).map(|number| number.value)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec;
    use std::panic::catch_unwind;

    use crate::{Input, Number, Param, Severity, Value};

    fn input() -> Input {
        let param = |name: &str, value| Param { name: name.to_string(), value };
        Input {
            kind: "disk-full".to_string(),
            severity: Severity::Critical,
            target: "mount:/var".to_string(),
            summary: String::new(),
            numbers: vec![Number { name: "available".to_string(), value: 4096.0, unit: "bytes".to_string() }],
            evidence: vec![],
            params: vec![
                param("keep_days", Value::Integer(7)),
                param("mode", Value::Choice("archive".to_string())),
                param("force", Value::Flag(true)),
            ],
        }
    }

    #[test]
    fn parameters_are_read_by_name_and_type() {
        assert_eq!(input().param_integer("keep_days"), 7);
        assert_eq!(input().param_choice("mode"), "archive");
        assert!(input().param_flag("force"));
        assert_eq!(input().number("available"), Some(4096.0));
        assert_eq!(input().number("inodes"), None);
    }

    #[test]
    fn a_parameter_that_the_manifest_lacks_panics_with_its_name() {
        for (name, read) in [
            ("days", (|| assert_eq!(input().param_integer("days"), 7)) as fn()),
            ("mode", || assert_eq!(input().param_integer("mode"), 7)),
            ("keep_days", || assert_eq!(input().param_choice("keep_days"), "7")),
            ("keep_days", || assert!(input().param_flag("keep_days"))),
        ] {
            let panic = catch_unwind(read).unwrap_err();
            assert!(panic.downcast_ref::<String>().unwrap().contains(name));
        }
    }
}
