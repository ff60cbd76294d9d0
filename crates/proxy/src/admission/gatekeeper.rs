//! Admits the clients of one listener, or says why not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::field::DebugValue;
use traffic::{ClientAddress, Failure, FailureKind, Side, Stage};

use super::attempts::Attempt;
use super::{Admission, Attempts, Login, VerifierError};
use crate::error;
use crate::limits::{ADMITTED_MAX, VERIFICATION_TIMEOUT, VERIFICATIONS_MAX};
use crate::metrics::Counters;
use crate::tls::certificate::sha256;
use crate::tls::nonce;

/// Stands at one listener.
#[derive(Debug)]
pub(crate) struct Gatekeeper {
    admission: Admission,
    attempts: Arc<Attempts>,
    counters: Arc<Counters>,
    verifying: Semaphore,
    admitted: Admitted,
}

/// Where a client asks to be admitted.
#[derive(Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) keeper: &'a Gatekeeper,
    pub(crate) client: ClientAddress,
}

/// A client that was admitted once, and who admitted it.
#[derive(Clone, Debug)]
pub(crate) struct Guest {
    pub(crate) login: Arc<Login>,
    pub(crate) keeper: Arc<Gatekeeper>,
}

impl Guest {
    /// Asks again for a client that says no more who it is, once the remembered answer is out of date.
    ///
    /// # Errors
    /// Why it may not go on, as [`Gatekeeper::admit`] says it.
    pub(crate) async fn still_admitted(&self, client: ClientAddress) -> Result<(), Failure> {
        if self.keeper.knows(&self.login) {
            return Ok(());
        }
        let login = Login::clone(&self.login);
        // In a box: it is seldom asked, and requests hold no room for it.
        Box::pin(self.keeper.admit(Some(login), client)).await?;
        Ok(())
    }
}

/// What became of the question whether a login is right.
enum Found<'a> {
    Right,
    /// The same login was found right while this one waited.
    KnownMeanwhile,
    Wrong(Attempt<'a>),
    /// The client was wrong too often; how long it has to wait.
    Barred(Duration),
}

impl Gatekeeper {
    pub(crate) fn new(
        admission: &Admission,
        attempts: &Arc<Attempts>,
        counters: &Arc<Counters>,
    ) -> Self {
        Self {
            admission: admission.clone(),
            attempts: Arc::clone(attempts),
            counters: Arc::clone(counters),
            verifying: Semaphore::new(VERIFICATIONS_MAX),
            admitted: Admitted::new(),
        }
    }

    /// Says whether a client with this login may go on; `None` for one that says nothing.
    pub(crate) async fn admit(
        &self,
        login: Option<Login>,
        client: ClientAddress,
    ) -> Result<Login, Failure> {
        let Some(login) = login else {
            let text = "the proxy asks for a user name and a password";
            return Err(self.refusal(FailureKind::Unauthorized, text));
        };
        if self.knows(&login) {
            return Ok(self.named(login));
        }
        if let Some(wait) = self.attempts.barred(client) {
            return Err(self.barred(wait));
        }
        let found = tokio::time::timeout(VERIFICATION_TIMEOUT, self.verify(&login, client)).await;
        let timed_out = |_elapsed| Err(VerifierError("it took too long".to_owned()));
        match found.unwrap_or_else(timed_out) {
            Ok(Found::Right) => {
                self.admitted.keep(&login, self.admission.kept_for);
                Ok(self.named(login))
            }
            Ok(Found::KnownMeanwhile) => Ok(self.named(login)),
            Ok(Found::Barred(wait)) => Err(self.barred(wait)),
            Ok(Found::Wrong(attempt)) => {
                let wrong = attempt.was_wrong();
                self.counters.login_refused();
                let user = self.logged_name(&login);
                tracing::warn!(%client, user, wrong, "a login to the proxy was wrong");
                let text = "the user name or the password for the proxy is wrong";
                Err(self.refusal(FailureKind::Unauthorized, text))
            }
            Err(error) => {
                let user = self.logged_name(&login);
                tracing::error!(%client, user, %error, "who may use the proxy cannot be found out");
                let text = "it cannot be found out at present who may use the proxy";
                Err(self.refusal(FailureKind::VerifierFailed, text))
            }
        }
    }

    /// Whether a login was found right and its answer is not out of date.
    fn knows(&self, login: &Login) -> bool {
        self.admitted.holds(login)
    }

    /// Asks the verifier, unless that has become needless while others were looked at.
    async fn verify(
        &self,
        login: &Login,
        client: ClientAddress,
    ) -> Result<Found<'_>, VerifierError> {
        // It is never closed.
        let _permit = self.verifying.acquire().await;
        if self.knows(login) {
            return Ok(Found::KnownMeanwhile);
        }
        let attempt = match self.attempts.begin(client) {
            Ok(attempt) => attempt,
            Err(wait) => return Ok(Found::Barred(wait)),
        };
        let right = self.admission.verifier.verify(login).await?;
        Ok(match right {
            true => Found::Right,
            false => Found::Wrong(attempt),
        })
    }

    /// A login that was found right.
    fn named(&self, mut login: Login) -> Login {
        login.has_checked_name = self.admission.verifier.checks_name();
        login
    }

    /// The name as it is logged: none where nobody looks at names, and clients put tokens there.
    fn logged_name(&self, login: &Login) -> Option<DebugValue<String>> {
        let checks = self.admission.verifier.checks_name();
        checks.then(|| tracing::field::debug(login.short_name().to_owned()))
    }

    fn barred(&self, wait: Duration) -> Failure {
        self.counters.login_barred();
        let seconds = wait.as_secs().saturating_add(1);
        let text = format!("too many wrong logins from here; come again in {seconds} s");
        self.refusal(FailureKind::TooManyAttempts, text)
    }

    /// What clients are told that they are asked for.
    pub(crate) fn realm(&self) -> &str {
        &self.admission.realm
    }

    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.admitted.until.lock().len()
    }

    fn refusal(&self, kind: FailureKind, text: impl Into<String>) -> Failure {
        error::failure(Side::Client, Stage::Front, kind, text)
    }
}

/// Logins that were found right, by their digest under a key that nobody knows.
#[derive(Debug)]
struct Admitted {
    key: [u8; 16],
    until: Mutex<HashMap<[u8; 32], Instant>>,
}

impl Admitted {
    fn new() -> Self {
        Self {
            key: nonce(),
            until: Mutex::default(),
        }
    }

    fn holds(&self, login: &Login) -> bool {
        let until = self.until.lock();
        if until.is_empty() {
            return false;
        }
        let known = until.get(&self.digest(login));
        known.is_some_and(|until| Instant::now() < *until)
    }

    fn keep(&self, login: &Login, kept_for: Duration) {
        if kept_for.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut until = self.until.lock();
        if until.len() >= ADMITTED_MAX {
            until.retain(|_, until| now < *until);
        }
        if until.len() >= ADMITTED_MAX {
            // They are all found right anew.
            until.clear();
        }
        until.insert(self.digest(login), now + kept_for);
    }

    fn digest(&self, login: &Login) -> [u8; 32] {
        let mut text = self.key.to_vec();
        text.extend_from_slice(&login.user.len().to_be_bytes());
        text.extend_from_slice(login.user.as_bytes());
        text.extend_from_slice(login.password.reveal().as_bytes());
        sha256(&text)
    }
}
