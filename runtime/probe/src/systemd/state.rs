//! From systemd's properties to a [`UnitState`]: pure, so that recorded properties are its tests.

use std::collections::HashMap;

use theriac_model::id::UnitName;
use theriac_model::unit::{ActiveState, UnitState};
use zbus::wire::OwnedVariant;

/// Properties as `GetAll` answers, of the Unit interface and of the unit's own type.
pub(super) struct Properties {
    pub(super) unit: HashMap<String, OwnedVariant>,
    pub(super) own: HashMap<String, OwnedVariant>,
}

impl Properties {
    fn text(&self, name: &str) -> Option<&str> {
        let value = self.own.get(name).or_else(|| self.unit.get(name))?;
        <&str>::try_from(value).ok()
    }

    fn number(&self, name: &str) -> Option<u32> {
        u32::try_from(self.own.get(name).or_else(|| self.unit.get(name))?).ok()
    }

    fn micros(&self, name: &str) -> Option<u64> {
        u64::try_from(self.unit.get(name)?).ok()
    }

    fn flag(&self, name: &str) -> bool {
        self.unit.get(name).and_then(|value| bool::try_from(value).ok()).unwrap_or(false)
    }

    fn invocation(&self) -> String {
        let bytes = self.unit.get("InvocationID").and_then(|value| value.try_clone().ok());
        let bytes = bytes.and_then(|value| Vec::<u8>::try_from(value).ok()).unwrap_or_default();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The start limit was hit by automatic restarts. systemd 252 then keeps the `Result` of the last exit, so this is told by
    /// the counters: it would have restarted once more, and did not.
    fn gave_up_restarting(&self) -> bool {
        let restarts_itself = self.text("Restart").is_some_and(|policy| policy != "no");
        let burst = self.number("StartLimitBurst").unwrap_or(0);
        restarts_itself && burst > 0 && self.number("NRestarts").is_some_and(|restarts| restarts >= burst)
    }

    /// The state; `now_us` is CLOCK_MONOTONIC, which systemd's monotonic timestamps are in.
    pub(super) fn state(&self, asked: &UnitName, now_us: u64, start_of: impl Fn(u32) -> u64) -> UnitState {
        let active = active_state(self.text("ActiveState").unwrap_or_default());
        let sub = self.text("SubState").unwrap_or_default();
        let result = match self.text("Result").unwrap_or("success") {
            _ if active == ActiveState::Failed && self.gave_up_restarting() => "start-limit-hit",
            said => said,
        };
        // `auto-restart`, and `auto-restart-queued` from version 254 on.
        let will_restart = sub.starts_with("auto-restart");
        let since = match active {
            ActiveState::Active | ActiveState::Reloading => "ActiveEnterTimestampMonotonic",
            ActiveState::Activating => "InactiveExitTimestampMonotonic",
            ActiveState::Deactivating => "ActiveExitTimestampMonotonic",
            ActiveState::Inactive | ActiveState::Failed => "InactiveEnterTimestampMonotonic",
            ActiveState::Other => "StateChangeTimestampMonotonic",
        };
        let main_pid = self.number("MainPID").unwrap_or(0);
        UnitState {
            name: self.text("Id").and_then(|id| UnitName::parse(id).ok()).unwrap_or_else(|| asked.clone()),
            active,
            sub: sub.to_owned(),
            result: result.to_owned(),
            invocation: self.invocation(),
            main_pid,
            main_start: if main_pid == 0 { 0 } else { start_of(main_pid) },
            restarts: self.number("NRestarts").unwrap_or(0),
            since_ms: self.micros(since).filter(|at| *at > 0).map_or(0, |at| now_us.saturating_sub(at) / 1000),
            will_restart,
            stopped_on_purpose: active == ActiveState::Inactive && result == "success" && !will_restart,
            needs_reload: self.flag("NeedDaemonReload"),
            cgroup: self.text("ControlGroup").unwrap_or_default().to_owned(),
            pids: Vec::new(),
        }
    }
}

fn active_state(word: &str) -> ActiveState {
    match word {
        "active" => ActiveState::Active,
        "activating" => ActiveState::Activating,
        "deactivating" => ActiveState::Deactivating,
        "inactive" => ActiveState::Inactive,
        "failed" => ActiveState::Failed,
        "reloading" => ActiveState::Reloading,
        _a_later_versions_word => ActiveState::Other,
    }
}

#[cfg(test)]
mod tests {
    use zbus::wire::Variant;

    use super::*;

    fn variant<'a>(value: impl Into<Variant<'a>>) -> OwnedVariant {
        OwnedVariant::try_from(value.into()).unwrap()
    }

    fn properties(active: &str, sub: &str, result: &str) -> Properties {
        let unit = HashMap::from([
            ("Id".to_owned(), variant("nginx.service")),
            ("ActiveState".to_owned(), variant(active)),
            ("SubState".to_owned(), variant(sub)),
            ("InvocationID".to_owned(), variant(vec![0xab_u8; 16])),
            ("NeedDaemonReload".to_owned(), variant(true)),
            ("ActiveEnterTimestampMonotonic".to_owned(), variant(2_000_000_u64)),
            ("InactiveEnterTimestampMonotonic".to_owned(), variant(4_000_000_u64)),
        ]);
        let own = HashMap::from([
            ("Result".to_owned(), variant(result)),
            ("MainPID".to_owned(), variant(42_u32)),
            ("NRestarts".to_owned(), variant(3_u32)),
            ("ControlGroup".to_owned(), variant("/system.slice/nginx.service")),
        ]);
        Properties { unit, own }
    }

    fn state(active: &str, sub: &str, result: &str) -> UnitState {
        let asked = UnitName::parse("web.service").unwrap();
        properties(active, sub, result).state(&asked, 5_000_000, |pid| u64::from(pid) + 1)
    }

    // SV05.
    #[test]
    fn an_alias_takes_its_units_own_name_and_every_field_is_read() {
        let state = state("active", "running", "success");
        assert_eq!(state.name.as_str(), "nginx.service");
        assert_eq!(state.invocation, "ab".repeat(16));
        assert_eq!((state.main_pid, state.main_start, state.restarts, state.since_ms), (42, 43, 3, 3_000));
        assert_eq!(state.cgroup, "/system.slice/nginx.service");
        assert!(state.is_up() && state.needs_reload && !state.stopped_on_purpose);
    }

    #[test]
    fn a_stop_is_on_purpose_and_a_failure_is_not() {
        assert!(state("inactive", "dead", "success").stopped_on_purpose);
        assert!(!state("failed", "failed", "exit-code").stopped_on_purpose);
        assert_eq!(state("failed", "failed", "exit-code").since_ms, 1_000);
        let restarting = state("activating", "auto-restart", "exit-code");
        assert!(restarting.will_restart && !restarting.stopped_on_purpose);
    }

    #[test]
    fn a_crash_loop_that_ended_at_the_start_limit_is_told_by_its_counters() {
        let asked = UnitName::parse("web.service").unwrap();
        let mut looping = properties("failed", "failed", "exit-code");
        looping.unit.insert("StartLimitBurst".to_owned(), variant(3_u32));
        looping.own.insert("Restart".to_owned(), variant("on-failure"));
        assert_eq!(looping.state(&asked, 0, |_| 0).result, "start-limit-hit");
        looping.unit.insert("StartLimitBurst".to_owned(), variant(5_u32));
        assert_eq!(looping.state(&asked, 0, |_| 0).result, "exit-code");
        looping.unit.insert("StartLimitBurst".to_owned(), variant(3_u32));
        looping.own.insert("Restart".to_owned(), variant("no"));
        assert_eq!(looping.state(&asked, 0, |_| 0).result, "exit-code");
    }

    #[test]
    fn a_word_of_a_later_version_is_neither_up_nor_failed() {
        let state = state("hibernating", "deep", "success");
        assert!(state.active == ActiveState::Other && !state.is_up());
    }

    #[test]
    fn a_unit_without_properties_has_the_name_that_was_asked_for() {
        let asked = UnitName::parse("web.service").unwrap();
        let none = Properties { unit: HashMap::new(), own: HashMap::new() };
        let state = none.state(&asked, 0, |_| 0);
        assert_eq!((state.name, state.main_start), (asked, 0));
    }
}
