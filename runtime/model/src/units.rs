//! Newtypes with units, so that a percentage is never taken for a permille and bytes never for blocks.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A share in thousandths, 0 to 1000. Cedar has no floats, so risk and traffic share are integers everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Permille(u16);

/// A number above 1000 is no permille.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a permille: use 0 to 1000")]
pub struct PermilleError(u16);

impl Permille {
    /// The whole.
    pub const FULL: Self = Self(1000);
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Takes 0 to 1000.
    pub const fn new(value: u16) -> Result<Self, PermilleError> {
        if value <= 1000 { Ok(Self(value)) } else { Err(PermilleError(value)) }
    }

    /// Takes any number; what is above 1000 becomes 1000.
    pub const fn clamped(value: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the branch keeps it at or below 1000")]
        if value > 1000 { Self::FULL } else { Self(value as u16) }
    }

    /// The number, 0 to 1000.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The chance that at least one of two independent things happens: `1 − (1−a)(1−b)`, rounded up so that combining
    /// many small risks never loses one.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let kept = u64::from(1000 - self.0) * u64::from(1000 - other.0);
        Self::clamped(1000 - kept / 1000)
    }
}

impl TryFrom<u16> for Permille {
    type Error = PermilleError;
    fn try_from(value: u16) -> Result<Self, PermilleError> {
        Self::new(value)
    }
}

impl From<Permille> for u16 {
    fn from(value: Permille) -> u16 {
        value.0
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}‰", self.0)
    }
}

/// A number of bytes; in files written `512`, `64KiB`, `32MiB`, `5GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a size: write a whole number and `B`, `KiB`, `MiB`, `GiB` or `TiB`, such as `32MiB`", text.escape_debug())]
pub struct BytesError {
    text: String,
}

const SIZES: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Bytes {
    /// Parses `32MiB` and its like.
    pub fn parse(text: &str) -> Result<Self, BytesError> {
        let wrong = || BytesError { text: text.chars().take(40).collect() };
        let (unit, factor) = SIZES.into_iter().find(|(unit, _)| text.ends_with(unit)).ok_or_else(wrong)?;
        let number = text.strip_suffix(unit).ok_or_else(wrong)?;
        if number.is_empty() || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = number.parse().map_err(|_too_large| wrong())?;
        number.checked_mul(factor).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for Bytes {
    /// For people: the largest unit that keeps the number at or above one, one decimal where it is not whole.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = SIZES.into_iter().find(|(_, factor)| self.0 >= *factor).unwrap_or(("B", 1));
        if self.0.is_multiple_of(factor) {
            write!(f, "{} {unit}", self.0 / factor)
        } else {
            let tenths = u128::from(self.0) * 10 / u128::from(factor);
            write!(f, "{}.{} {unit}", tenths / 10, tenths % 10)
        }
    }
}

/// Bytes in a JSON message, as base64 (a list of numbers would be four times as long).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Blob(pub Vec<u8>);

impl TryFrom<String> for Blob {
    type Error = base64::DecodeError;
    fn try_from(text: String) -> Result<Self, base64::DecodeError> {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.decode(text).map(Self)
    }
}

impl From<Blob> for String {
    fn from(blob: Blob) -> String {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(blob.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_risks_combine_as_independent_chances() {
        let (a, b) = (Permille::new(300).unwrap(), Permille::new(500).unwrap());
        assert_eq!(a.or(b).get(), 650);
        assert_eq!(a.or(Permille::ZERO), a);
        assert_eq!(a.or(Permille::FULL), Permille::FULL);
        assert!(Permille::new(1).unwrap().or(Permille::new(1).unwrap()) >= Permille::new(2).unwrap());
    }

    #[test]
    fn sizes_are_read_with_their_unit_only() {
        assert_eq!(Bytes::parse("5GiB").unwrap(), Bytes(5 << 30));
        for text in ["5", "5GB", "GiB", "-1B", "1.5MiB", "99999999999TiB", "+5B"] {
            assert!(Bytes::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
    }
}
