//! Components of the world `remedy` as text. A part that is left empty does the least that is valid.

/// The parts that tests vary.
#[derive(Default)]
pub(crate) struct Parts {
    /// Imported interfaces (component level) and their lowered functions.
    pub(crate) imports: &'static str,
    /// Arguments of the main instance, such as `(with "log" (instance …))`.
    pub(crate) with: &'static str,
    /// Fields of the main module: imports, globals, functions, data.
    pub(crate) fields: &'static str,
    /// Body of `remediate`; the result is the address of the answer.
    pub(crate) remediate: &'static str,
    /// Body of `check`.
    pub(crate) check: &'static str,
    /// Body of what runs after `remediate` returned.
    pub(crate) post_return: &'static str,
    /// Body of `realloc`, in the module that owns the memory; the size is local 3.
    pub(crate) realloc: &'static str,
}

/// Zeros at this address are `ok(treated(""))`, and for `check` `ok(satisfied)`.
pub(crate) const RETURN_ZEROS: &str = "(i32.const 1024)";

/// `log.info`.
pub(crate) const LOG: &str = r#"
  (import "theriac:remedy/log@0.1.0" (instance $log
    (export "info" (func (param "text" string)))
    (export "panicked" (func (param "message" string) (param "file" string) (param "line" u32)))))
  (core func $info (canon lower (func $log "info") (memory $store "memory")))
  (core func $panicked (canon lower (func $log "panicked") (memory $store "memory")))"#;
pub(crate) const WITH_LOG: &str =
    r#"(with "log" (instance (export "info" (func $info)) (export "panicked" (func $panicked))))"#;
pub(crate) const FIELDS_LOG: &str = r#"
    (import "log" "info" (func $info (param i32 i32)))
    (import "log" "panicked" (func $panicked (param i32 i32 i32 i32 i32)))
    (data (i32.const 2048) "boom 42src/lib.rs")"#;

/// `files.dir.open` and the drop of a directory.
pub(crate) const FILES: &str = r#"
  (import "theriac:remedy/files@0.1.0" (instance $files
    (alias outer 1 $denial (type $d))
    (export "denial" (type $denial (eq $d)))
    (export "dir" (type $dir (sub resource)))
    (export "[static]dir.open" (func (param "label" string) (result (result (own $dir) (error $denial)))))))
  (alias export $files "dir" (type $dir))
  (core func $open (canon lower (func $files "[static]dir.open") (memory $store "memory") (realloc (func $store "realloc"))))
  (core func $drop (canon resource.drop $dir))"#;
pub(crate) const WITH_FILES: &str =
    r#"(with "files" (instance (export "open" (func $open)) (export "drop" (func $drop))))"#;
pub(crate) const FIELDS_FILES: &str = r#"
    (import "files" "open" (func $open (param i32 i32 i32)))
    (import "files" "drop" (func $drop (param i32)))
    (data (i32.const 2048) "logs")"#;

const TYPES: &str = r#"
  (import "theriac:remedy/types@0.1.0" (instance $types
    (type $r (record (field "label" string) (field "rule" string) (field "attempted" string) (field "suggestion" string)))
    (export "refusal" (type $refusal (eq $r)))
    (type $d (variant (case "not-granted" $refusal) (case "off-plan" $refusal) (case "over-budget" $refusal)
      (case "stale-target" $refusal) (case "conflict" $refusal) (case "unavailable" $refusal) (case "failed" $refusal)))
    (export "denial" (type (eq $d)))))
  (alias export $types "denial" (type $denial0))
  (import "denial" (type $denial (eq $denial0)))
  (import "theriac:remedy/fault@0.1.0" (instance $fault
    (type $s (enum "info" "warning" "critical")) (export "severity" (type $severity (eq $s)))
    (type $n (record (field "name" string) (field "value" f64) (field "unit" string)))
    (export "number" (type $number (eq $n)))
    (type $e (record (field "id" string) (field "summary" string))) (export "evidence" (type $evidence (eq $e)))
    (type $v (variant (case "integer" s64) (case "choice" string) (case "flag" bool)))
    (export "value" (type $value (eq $v)))
    (type $p (record (field "name" string) (field "value" $value))) (export "param" (type $param (eq $p)))
    (type $i (record (field "kind" string) (field "severity" $severity) (field "target" string)
      (field "summary" string) (field "numbers" (list $number)) (field "evidence" (list $evidence))
      (field "params" (list $param))))
    (export "input" (type (eq $i)))
    (type $t (variant (case "treated" string) (case "nothing-to-do" string) (case "gave-up" string)))
    (export "report" (type (eq $t)))
    (type $o (variant (case "satisfied") (case "unsure" string) (case "not-improved" string)))
    (export "opinion" (type (eq $o)))))
  (alias export $fault "input" (type $input0))
  (import "input" (type $input (eq $input0)))
  (alias export $fault "report" (type $report))
  (alias export $fault "opinion" (type $opinion))"#;

const SIGNATURE: &str =
    "(param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (local $i i32) (local $j i32)";

fn or<'a>(part: &'a str, least: &'a str) -> &'a str {
    if part.is_empty() { least } else { part }
}

/// The text.
pub(crate) fn text(parts: &Parts) -> String {
    let realloc = or(
        parts.realloc,
        "(global.set $next (i32.add (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8))))
         (i32.sub (global.get $next) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -8)))",
    );
    format!(
        r#"(component {TYPES}
  (core module $Store (memory (export "memory") 1) (global $next (mut i32) (i32.const 8192))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) {realloc}))
  (core instance $store (instantiate $Store))
  {imports}
  (core module $Main (import "store" "memory" (memory 1)) {fields}
    (func (export "remediate") {SIGNATURE} {remediate})
    (func (export "check") {SIGNATURE} {check})
    (func (export "post-return") (param i32) {post_return}))
  (core instance $main (instantiate $Main (with "store" (instance $store)) {with}))
  (func $remediate (param "fault" $input) (result (result $report (error $denial)))
    (canon lift (core func $main "remediate") (memory $store "memory") (realloc (func $store "realloc"))
      (post-return (func $main "post-return"))))
  (func $check (param "fault" $input) (result (result $opinion (error $denial)))
    (canon lift (core func $main "check") (memory $store "memory") (realloc (func $store "realloc"))))
  (export "remediate" (func $remediate))
  (export "check" (func $check)))"#,
        imports = parts.imports,
        fields = parts.fields,
        remediate = or(parts.remediate, RETURN_ZEROS),
        check = or(parts.check, RETURN_ZEROS),
        post_return = parts.post_return,
        with = parts.with,
    )
}

/// The component.
pub(crate) fn component(parts: &Parts) -> Vec<u8> {
    wat::parse_str(text(parts)).unwrap()
}

/// A remedy that only runs this.
pub(crate) fn running(remediate: &'static str) -> Vec<u8> {
    component(&Parts { remediate, ..Parts::default() })
}

/// The same with `log`.
pub(crate) fn logging(remediate: &'static str) -> Vec<u8> {
    component(&Parts { imports: LOG, with: WITH_LOG, fields: FIELDS_LOG, remediate, ..Parts::default() })
}

/// The same with `files`.
pub(crate) fn opening(remediate: &'static str) -> Vec<u8> {
    component(&Parts { imports: FILES, with: WITH_FILES, fields: FIELDS_FILES, remediate, ..Parts::default() })
}
