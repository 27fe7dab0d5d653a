//! `[[endpoint]]` of `runner.toml`: origins that remedies may send requests to, through the `net` courier.

use std::collections::BTreeSet;

use theriac_model::http::{HttpMethod, Origin, Reach};

use crate::document::{Field, Mistake};
use crate::grant::WordError;

/// One listed origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointConfig {
    /// Which.
    pub origin: Origin,
    /// What remedies may send beside `GET` and `HEAD`.
    pub methods: BTreeSet<HttpMethod>,
    /// Which addresses its name may stand for, beside public ones.
    pub reach: Reach,
    /// What a request changes there can be made again.
    pub reproducible: bool,
}

pub(super) fn parse(field: Field) -> Result<EndpointConfig, Mistake> {
    let mut table = field.table(&["origin", "methods", "addresses", "reproducible"])?;
    let origin = table.required("origin", "such as \"http://127.0.0.1:9000\"")?.parse_with(Origin::parse)?;
    let methods = table.optional("methods").map_or_else(|| Ok(BTreeSet::new()), methods)?;
    let reach = table.optional("addresses").map_or(Ok(PUBLIC), addresses)?;
    let reproducible = table.optional("reproducible").map_or(Ok(false), |field| field.flag())?;
    Ok(EndpointConfig { origin, methods, reach, reproducible })
}

const PUBLIC: Reach = Reach { loopback: false, private: false, metadata: false };

fn methods(field: Field) -> Result<BTreeSet<HttpMethod>, Mistake> {
    let changing = || HttpMethod::ALL.into_iter().filter(|method| method.changes());
    let one = |item: &Field| {
        item.parse_with(|word| {
            let known = changing().find(|method| method.as_str() == word);
            known.ok_or_else(|| {
                WordError::new("a method that changes something", word, changing().map(HttpMethod::as_str))
            })
        })
    };
    field.list()?.iter().map(one).collect()
}

fn addresses(field: Field) -> Result<Reach, Mistake> {
    let mut reach = PUBLIC;
    for item in field.list()? {
        match item.text()? {
            "loopback" => reach.loopback = true,
            "private" => reach.private = true,
            "metadata" => reach.metadata = true,
            _ => return Err(item.mistake("there is no such kind of address", "write loopback, private or metadata")),
        }
    }
    Ok(reach)
}
