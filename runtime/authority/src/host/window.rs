//! `[[window]]`: times in which nothing is healed, in UTC so that no change of the clocks moves them.

use std::collections::BTreeSet;

use theriac_model::time::Timestamp;

use crate::document::{Field, Mistake};
use crate::grant::WordError;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    /// From Thursday on, because 1970-01-01 was one.
    const SINCE_EPOCH: [Self; 7] = [Self::Thu, Self::Fri, Self::Sat, Self::Sun, Self::Mon, Self::Tue, Self::Wed];

    /// The word used in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

impl std::str::FromStr for Weekday {
    type Err = WordError;
    fn from_str(word: &str) -> Result<Self, WordError> {
        let all = Self::SINCE_EPOCH;
        all.into_iter()
            .find(|day| day.as_str() == word)
            .ok_or_else(|| WordError::new("a day", word, all.iter().map(|day| day.as_str())))
    }
}

/// One window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    days: BTreeSet<Weekday>,
    /// Minutes after midnight.
    from: u32,
    to: u32,
    why: String,
}

const DAY_MINUTES: u64 = 1440;

impl Window {
    /// Why nothing is healed inside.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The moment lies inside. The beginning belongs to the window, the end does not.
    pub fn contains(&self, at: Timestamp) -> bool {
        let minutes = at.0 / 60_000;
        let (day, minute) = (minutes / DAY_MINUTES, minutes % DAY_MINUTES);
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        if from < to {
            return self.on(day) && (from..to).contains(&minute);
        }
        // Over midnight: the evening part counts for its own day, the morning part for the day before.
        (minute >= from && self.on(day)) || (minute < to && day > 0 && self.on(day - 1))
    }

    fn on(&self, day: u64) -> bool {
        let index = usize::try_from(day % 7).unwrap_or_default();
        Weekday::SINCE_EPOCH.get(index).is_some_and(|day| self.days.contains(day))
    }
}

pub(super) fn parse(field: Field) -> Result<Window, Mistake> {
    let mut table = field.table(&["days", "from", "to", "why"])?;
    let days = table.optional("days").map(Field::set).transpose()?;
    let days = days.unwrap_or_else(|| BTreeSet::from(Weekday::SINCE_EPOCH));
    let from = clock(&table.required("from", "a time such as \"02:00\" (UTC)")?)?;
    let end = table.required("to", "a time such as \"04:30\" (UTC)")?;
    let to = clock(&end)?;
    let why = table.required("why", "one line for people who wonder why nothing is healed")?.sentence(160)?;
    if days.is_empty() || from == to {
        return Err(
            end.mistake("the window is empty", "write different times, and at least one day or no `days` at all")
        );
    }
    Ok(Window { days, from, to, why })
}

/// `HH:MM`, `24:00` for the end of a day.
fn clock(field: &Field) -> Result<u32, Mistake> {
    let wrong = || field.mistake("it is not a time of day", "write hours and minutes such as \"02:00\"");
    let (hours, minutes) = field.text()?.split_once(':').ok_or_else(wrong)?;
    let two = |text: &str| {
        (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse::<u32>().ok()).flatten()
    };
    match (two(hours), two(minutes)) {
        (Some(hours @ 0..=23), Some(minutes @ 0..=59)) => Ok(hours * 60 + minutes),
        (Some(24), Some(0)) => Ok(1440),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::HostConfig;

    /// Minutes since Thursday 1970-01-01 00:00.
    fn at(day: u64, hour: u64, minute: u64) -> Timestamp {
        Timestamp(((day * 24 + hour) * 60 + minute) * 60_000)
    }

    fn window(text: &str) -> Window {
        HostConfig::parse(&format!("[[window]]\nwhy = 'backup'\n{text}")).unwrap().windows.remove(0)
    }

    // CF39.
    #[test]
    fn a_window_holds_its_beginning_and_not_its_end() {
        let window = window("from = '02:00'\nto = '04:30'\n");
        assert!(!window.contains(at(0, 1, 59)) && window.contains(at(0, 2, 0)));
        assert!(window.contains(at(5, 4, 29)) && !window.contains(at(5, 4, 30)));
    }

    // CF39.
    #[test]
    fn a_window_over_midnight_belongs_to_the_day_it_begins_on() {
        let window = window("days = ['fri']\nfrom = '22:00'\nto = '02:00'\n");
        assert!(window.contains(at(1, 23, 0)), "Friday evening");
        assert!(window.contains(at(2, 1, 0)), "the night to Saturday");
        assert!(!window.contains(at(1, 1, 0)), "the night to Friday");
        assert!(!window.contains(at(2, 23, 0)), "Saturday evening");
    }

    // CF39.
    #[test]
    fn a_leap_day_is_a_day_and_no_clock_is_put_forward_or_back() {
        // Thursday 2024-02-29, so many days after 1970-01-01. Windows are in UTC, which has no summer time.
        let thursday = window("days = ['thu']\nfrom = '01:30'\nto = '02:30'\n");
        assert!(thursday.contains(at(19_782, 2, 0)));
        assert!(!thursday.contains(at(19_781, 2, 0)) && !thursday.contains(at(19_783, 2, 0)));
        // Sunday 2024-03-31, on which there was no 02:30 in much of Europe.
        let sunday = window("days = ['sun']\nfrom = '02:00'\nto = '03:00'\n");
        assert!(sunday.contains(at(19_813, 2, 30)) && !sunday.contains(at(19_813, 3, 0)));
    }

    #[test]
    fn times_and_days_that_are_none_are_refused() {
        for text in [
            "from = '2:00'\nto = '04:00'",
            "from = '25:00'\nto = '04:00'",
            "from = '04:00'\nto = '04:00'",
            "days = ['someday']\nfrom = '01:00'\nto = '02:00'",
            "days = []\nfrom = '01:00'\nto = '02:00'",
        ] {
            assert!(HostConfig::parse(&format!("[[window]]\nwhy = 'x'\n{text}")).is_err(), "{text}");
        }
    }
}
