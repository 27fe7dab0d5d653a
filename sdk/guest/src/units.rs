//! One unit of the service manager (`[grants.units.LABEL]`): systemd's, or a service that the launcher supervises.

pub use crate::bindings::theriac::remedy::units::{Active, Property, Status, Unit, Whom};

impl Status {
    /// Up, or reloading, which serves as before.
    pub const fn is_up(&self) -> bool {
        matches!(self.active, Active::Active | Active::Reloading)
    }

    /// The service manager has given up restarting it.
    pub fn hit_start_limit(&self) -> bool {
        self.result == "start-limit-hit"
    }
}

impl Active {
    /// The service manager's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Reloading => "reloading",
            Self::Other => "other",
        }
    }
}
