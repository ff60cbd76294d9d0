//! Admits the clients of one listener, or says why not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use traffic::{ClientAddress, Failure, FailureKind, Side, Stage};

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
        let Some(mut login) = login else {
            let text = "the proxy asks for a user name and a password";
            return Err(self.refusal(FailureKind::Unauthorized, text));
        };
        if self.admitted.holds(&login) {
            login.has_checked_name = self.admission.verifier.checks_name();
            return Ok(login);
        }
        if let Some(wait) = self.attempts.barred(client) {
            self.counters.login_barred();
            let seconds = wait.as_secs().saturating_add(1);
            let text = format!("too many wrong logins from here; come again in {seconds} s");
            return Err(self.refusal(FailureKind::TooManyAttempts, text));
        }
        let verified = match tokio::time::timeout(VERIFICATION_TIMEOUT, self.verify(&login)).await {
            Ok(verified) => verified,
            Err(_elapsed) => Err(VerifierError("it took too long".to_owned())),
        };
        match verified {
            Ok(true) => {
                self.admitted.keep(&login, self.admission.kept_for);
                login.has_checked_name = self.admission.verifier.checks_name();
                Ok(login)
            }
            Ok(false) => {
                let wrong = self.attempts.count(client);
                self.counters.login_refused();
                tracing::warn!(%client, user = ?login.user, wrong, "a login to the proxy was wrong");
                let text = "the user name or the password for the proxy is wrong";
                Err(self.refusal(FailureKind::Unauthorized, text))
            }
            Err(error) => {
                tracing::error!(%client, user = ?login.user, %error, "who may use the proxy cannot be found out");
                let text = "it cannot be found out at present who may use the proxy";
                Err(self.refusal(FailureKind::VerifierFailed, text))
            }
        }
    }

    async fn verify(&self, login: &Login) -> Result<bool, VerifierError> {
        // It is never closed.
        let _permit = self.verifying.acquire().await;
        self.admission.verifier.verify(login).await
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
