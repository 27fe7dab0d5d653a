//! One order in two steps: ask for the challenges, and, when their answers are in place, have them looked at and fetch the chain.
//! Nothing is tried a second time: authorities count attempts, and the runner keeps the time between two of them.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Error, Identifier, Key, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rustls::pki_types::PrivateKeyDer;
use theriac_model::certificate::DnsName;
use theriac_protocol::acme::Challenge;

use super::client::Client;
use super::config::AcmeConfig;
use crate::names::Names;

/// How long the authority may take to look at the answers, and again to sign: seconds at the common ones.
const PATIENCE: Duration = Duration::from_secs(45);
const FIRST_LOOK: Duration = Duration::from_millis(250);
/// Characters of what an authority says that are handed on.
const MAX_WORDS: usize = 300;

/// An order whose challenges are known.
pub(super) struct Open {
    order: Order,
}

/// Why there is no certificate, in words of ours and, cut and escaped, the authority's.
#[derive(Debug)]
pub(super) struct Failure(pub(super) String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut words = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            let more = cause.to_string();
            if !words.ends_with(&more) {
                words = format!("{words}: {more}");
            }
            source = cause.source();
        }
        Self(words.chars().take(MAX_WORDS).flat_map(char::escape_debug).collect())
    }
}

fn failed<T>(words: &str) -> Result<T, Failure> {
    Err(Failure(words.to_owned()))
}

/// Places an order, and says what the authority wants to see.
pub(super) async fn open(
    config: &AcmeConfig,
    names: &Names,
    wanted: &[DnsName],
) -> Result<(Open, Vec<Challenge>), Failure> {
    let client = Client::new(config.directory.clone(), config.tls.clone(), names.clone());
    let key = (Key::from_pkcs8_der(config.key.clone_key())?, PrivateKeyDer::Pkcs8(config.key.clone_key()));
    // The same account for the same key, whether it is new to the authority or not.
    let builder = Account::builder_with_http(Box::new(client));
    let (account, _credentials) = builder.create_from_key(key, config.directory.to_string()).await?;
    let identifiers: Vec<Identifier> = wanted.iter().map(|name| Identifier::Dns(name.to_string())).collect();
    let mut open = Open { order: account.new_order(&NewOrder::new(&identifiers)).await? };
    let challenges = open.challenges(wanted).await?;
    Ok((open, challenges))
}

impl Open {
    async fn challenges(&mut self, wanted: &[DnsName]) -> Result<Vec<Challenge>, Failure> {
        let mut challenges = Vec::new();
        let mut authorizations = self.order.authorizations();
        let mut seen = 0;
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            seen += 1;
            if seen > wanted.len() {
                return failed("the authority wants more names proved than were asked for");
            }
            match authorization.status {
                AuthorizationStatus::Valid => continue,
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Invalid
                | AuthorizationStatus::Revoked
                | AuthorizationStatus::Expired
                | AuthorizationStatus::Deactivated => return failed("the authority does not let a name be proved"),
            }
            let Some(challenge) = authorization.challenge(ChallengeType::Http01) else {
                return failed("the authority offers no HTTP challenge");
            };
            let answer = challenge.key_authorization().as_str().to_owned();
            challenges.push(Challenge { token: challenge.token.clone(), answer });
        }
        Ok(challenges)
    }

    /// Has the answers looked at, hands the request in, and waits for the chain.
    pub(super) async fn finish(mut self, csr: &[u8]) -> Result<String, Failure> {
        let mut authorizations = self.order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Pending
                && let Some(mut challenge) = authorization.challenge(ChallengeType::Http01)
            {
                challenge.set_ready().await?;
            }
        }
        let patience = RetryPolicy::new().initial_delay(FIRST_LOOK).backoff(1.5).timeout(PATIENCE);
        if self.order.poll_ready(&patience).await? != OrderStatus::Ready {
            return failed("the authority did not find the answers it wants to see");
        }
        self.order.finalize_csr(csr).await?;
        Ok(self.order.poll_certificate(&patience).await?)
    }
}
