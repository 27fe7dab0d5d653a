//! Renews a certificate that has expired or soon will, and lets who serves it load it.
//!
//! The common case first: the file was renewed and nobody loaded it. Then a reload is the whole repair, and no authority is asked.
#![no_std]

use theriac_sdk::certificates::{Certificate, Facts};
use theriac_sdk::prelude::*;

theriac_sdk::remedy!(treat, check);

const DAY: i64 = 86_400;

fn treat(input: &Input) -> Result<Report, Denial> {
    let (certificate, server) = (Certificate::open("target")?, Unit::open("server")?);
    let good = input.param_integer("good_days").saturating_mul(DAY);
    let file = certificate.inspect()?;
    info!("the file's: {}, from {}, {} days left", names(&file), file.issuer, file.left / DAY);
    let served = match certificate.served() {
        Ok(served) => Some(served),
        // Nothing is served, or nobody said where: the file is what counts.
        Err(denial) => {
            info!("what is served can't be seen (rule {})", denial.refusal().rule);
            None
        }
    };
    let done = match needed(&file, served.as_ref(), good) {
        Step::Nothing => {
            return Ok(Report::NothingToDo("the certificate is good, and it is the one that is served".to_string()));
        }
        Step::Load => "is good and was not loaded",
        Step::Renew => {
            certificate.renew()?;
            "was renewed"
        }
    };
    if !server.status()?.is_up() {
        // It loads what is there when it starts.
        return Ok(Report::Treated(format!("the certificate {done}; {} is not up", server.name())));
    }
    server.reload()?;
    Ok(Report::Treated(format!("the certificate {done}; {} loads it", server.name())))
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Load,
    Renew,
}

/// A key that does not belong to the certificate can't be loaded: that is for people, and a renewal makes a pair again.
fn needed(file: &Facts, served: Option<&Facts>, good: i64) -> Step {
    if file.left < good || !file.key_matches {
        return Step::Renew;
    }
    match served {
        Some(served) if served.fingerprint != file.fingerprint => Step::Load,
        Some(_) | None => Step::Nothing,
    }
}

fn names(facts: &Facts) -> String {
    facts.names.join(", ")
}

/// What is served is what counts; the runner measures the days.
fn check(_: &Input) -> Result<Opinion, Denial> {
    let certificate = Certificate::open("target")?;
    let file = certificate.inspect()?;
    if !file.key_matches {
        return Ok(Opinion::NotImproved("the key is not the certificate's".to_string()));
    }
    Ok(match certificate.served() {
        Ok(served) if served.fingerprint == file.fingerprint && served.key_matches => Opinion::Satisfied,
        Ok(_) => Opinion::Unsure("another certificate is served than the file's".to_string()),
        Err(_) => Opinion::Satisfied,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(fingerprint: &str, left: i64) -> Facts {
        Facts {
            names: vec!["a.test".to_string()],
            issuer: "CN=x".to_string(),
            self_signed: false,
            not_before: 0,
            not_after: 1,
            left,
            fingerprint: fingerprint.to_string(),
            key_matches: true,
            assumed: false,
        }
    }

    #[test]
    fn a_good_file_that_nobody_loaded_is_loaded_and_nobody_is_asked_for_another() {
        let (new, old) = (facts("new", 60 * DAY), facts("old", -DAY));
        assert_eq!(needed(&new, Some(&old), 14 * DAY), Step::Load);
        assert_eq!(needed(&new, Some(&new), 14 * DAY), Step::Nothing);
        assert_eq!(needed(&new, None, 14 * DAY), Step::Nothing);
    }

    #[test]
    fn what_ends_soon_or_has_ended_or_is_no_pair_is_renewed() {
        for left in [-DAY, 0, 14 * DAY - 1] {
            assert_eq!(needed(&facts("x", left), None, 14 * DAY), Step::Renew);
        }
        assert_eq!(needed(&facts("x", 14 * DAY), None, 14 * DAY), Step::Nothing);
        assert_eq!(needed(&Facts { key_matches: false, ..facts("x", 60 * DAY) }, None, 14 * DAY), Step::Renew);
    }
}
