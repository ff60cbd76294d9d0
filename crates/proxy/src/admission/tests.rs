//! Who is let in, how often the verifier is asked, and when somebody has to wait.

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use traffic::{ClientAddress, FailureKind};

use super::*;
use crate::limits::{
    ADMITTED_MAX, ATTEMPTS_MAX, ATTEMPTS_WINDOW, VERIFICATION_TIMEOUT, VERIFICATIONS_MAX,
};
use crate::metrics::Counters;

/// Knows one password, and answers as it is told to.
#[derive(Clone, Debug, Default)]
struct Asked {
    times: Arc<AtomicUsize>,
    behaves: Arc<Mutex<Behaviour>>,
    ignores_name: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Behaviour {
    #[default]
    Answers,
    AnswersLater,
    Fails,
    Hangs,
}

impl Verifier for Asked {
    fn verify<'a>(&'a self, login: &'a Login) -> BoxFuture<'a, Result<bool, VerifierError>> {
        self.times.fetch_add(1, Ordering::Relaxed);
        let behaviour = *self.behaves.lock();
        Box::pin(async move {
            if behaviour == Behaviour::AnswersLater {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            match behaviour {
                Behaviour::Answers | Behaviour::AnswersLater => {
                    Ok(login.password.reveal() == "right")
                }
                Behaviour::Fails => Err(VerifierError("no answer".to_owned())),
                Behaviour::Hangs => std::future::pending().await,
            }
        })
    }

    fn checks_name(&self) -> bool {
        !self.ignores_name
    }
}

impl Asked {
    fn times(&self) -> usize {
        self.times.load(Ordering::Relaxed)
    }

    fn gatekeeper(&self) -> Gatekeeper {
        keeper(&Admission::by(self.clone()).kept_for(Duration::from_secs(60)))
    }
}

fn keeper(admission: &Admission) -> Gatekeeper {
    let (attempts, counters) = (Arc::<Attempts>::default(), Arc::<Counters>::default());
    Gatekeeper::new(admission, &attempts, &counters)
}

fn client() -> ClientAddress {
    ClientAddress::Tcp("192.0.2.1:1".parse().unwrap())
}

async fn admit(keeper: &Gatekeeper, password: &str) -> Result<String, FailureKind> {
    let login = Some(Login::new("me", password));
    let admitted = keeper.admit(login, client()).await;
    admitted
        .map(|login| login.user)
        .map_err(|failure| failure.kind)
}

#[test]
fn a_field_says_who_it_is() {
    let read = |value: &str| {
        let login = Login::from_field(value.as_bytes())?;
        Some((login.user, login.password.reveal().clone()))
    };
    for (field, user, password) in [
        ("Basic bWU6c2VjcmV0", "me", "secret"),
        ("bAsIc  bWU6c2VjcmV0 ", "me", "secret"),
        // The first colon parts them (RFC 7617 section 2).
        ("Basic OmE6Yg==", "", "a:b"),
        ("Basic bWU6", "me", ""),
        ("Basic w7zDpDrDtg==", "üä", "ö"),
    ] {
        let said = Some((user.to_owned(), password.to_owned()));
        assert_eq!(read(field), said, "{field}");
    }
    for field in [
        "",
        "Basic",
        "Basic ",
        "Bearer bWU6c2VjcmV0",
        "BasicbWU6c2VjcmV0",
        // No base64, no colon, no UTF-8.
        "Basic bWU6c2VjcmV0!",
        "Basic bWU=",
        "Basic /zr/",
    ] {
        assert_eq!(read(field), None, "{field}");
    }
}

#[tokio::test]
async fn each_verifier_admits_whom_it_should() {
    let one = Admission::from(Credentials::new("me", "secret"));
    let any = Admission::by(AnyPassword);
    for (user, password, by_one, by_any) in [
        ("me", "secret", true, true),
        ("mE", "secret", false, true),
        ("me", "secre", false, true),
        ("me", "secret2", false, true),
        ("", "token", false, true),
        ("me", "", false, false),
        ("", "", false, false),
    ] {
        let login = Login::new(user, password);
        for (admission, expected) in [(&one, by_one), (&any, by_any)] {
            let admitted = admission.verifier.verify(&login).await;
            assert_eq!(admitted.unwrap(), expected, "{user}:{password}");
        }
    }
}

#[test]
fn secrets_are_not_shown() {
    let shown = format!(
        "{:?} {:?}",
        Login::new("me", "secret"),
        Admission::from(Credentials::new("me", "secret"))
    );
    assert!(shown.contains("me") && !shown.contains("secret"), "{shown}");
}

#[test]
fn a_realm_cannot_leave_its_quotes() {
    let admission = Admission::by(AnyPassword).realm("a \"b\\\r\nSet-Cookie: é");
    assert_eq!(admission.realm, "a bSet-Cookie: ");
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_remembered_for_a_while_and_a_no_is_not() {
    let asked = Asked::default();
    let keeper = asked.gatekeeper();
    assert_eq!(
        keeper.admit(None, client()).await.unwrap_err().kind,
        FailureKind::Unauthorized
    );
    assert_eq!(asked.times(), 0);
    for _ in 0..3 {
        assert_eq!(admit(&keeper, "right").await.as_deref(), Ok("me"));
    }
    assert_eq!(asked.times(), 1);
    for times in 2..4 {
        assert_eq!(
            admit(&keeper, "wrong").await,
            Err(FailureKind::Unauthorized)
        );
        assert_eq!(asked.times(), times);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert!(admit(&keeper, "right").await.is_ok());
    assert_eq!(asked.times(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_name_is_told_only_where_it_was_checked() {
    let login = || Login::new("me", "secret");
    let checked = keeper(&Credentials::new("me", "secret").into());
    let unchecked = keeper(&Admission::by(AnyPassword));
    // The second time from memory.
    for _ in 0..2 {
        let admitted = checked.admit(Some(login()), client()).await.unwrap();
        assert_eq!(admitted.told_name(), Some("me"));
        let admitted = unchecked.admit(Some(login()), client()).await.unwrap();
        assert_eq!(admitted.told_name(), None);
    }
    assert_eq!(login().told_name(), None);
}

#[tokio::test(start_paused = true)]
async fn who_guesses_is_not_asked_about_any_more() {
    let asked = Asked::default();
    let keeper = asked.gatekeeper();
    for _ in 0..ATTEMPTS_MAX {
        let refused = admit(&keeper, "wrong").await;
        assert_eq!(refused, Err(FailureKind::Unauthorized));
    }
    // Even the right one: otherwise guessing would go on.
    for password in ["wrong", "right"] {
        let refused = admit(&keeper, password).await;
        assert_eq!(refused, Err(FailureKind::TooManyAttempts));
    }
    assert_eq!(asked.times(), ATTEMPTS_MAX as usize);
    tokio::time::advance(ATTEMPTS_WINDOW).await;
    assert!(admit(&keeper, "right").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_guesses_a_thousand_times_at_once_guesses_no_more_often() {
    let asked = Asked::default();
    *asked.behaves.lock() = Behaviour::AnswersLater;
    let keeper = asked.gatekeeper();
    let guesses = (0..1000).map(|_| admit(&keeper, "wrong"));
    let refused = futures_util::future::join_all(guesses).await;
    let wrong = |refused: &&Result<_, _>| **refused == Err(FailureKind::Unauthorized);
    assert_eq!(refused.iter().filter(wrong).count(), ATTEMPTS_MAX as usize);
    assert_eq!(asked.times(), ATTEMPTS_MAX as usize);
    let barred = |refused: &Result<_, _>| *refused == Err(FailureKind::TooManyAttempts);
    assert!(refused.iter().filter(|refused| !wrong(refused)).all(barred));
}

#[tokio::test(start_paused = true)]
async fn who_is_right_a_hundred_times_at_once_is_let_in_each_time() {
    let asked = Asked::default();
    *asked.behaves.lock() = Behaviour::AnswersLater;
    let keeper = asked.gatekeeper();
    let requests = (0..100).map(|_| admit(&keeper, "right"));
    let admitted = futures_util::future::join_all(requests).await;
    assert!(admitted.iter().all(Result::is_ok), "{admitted:?}");
    // Those that waited are answered from memory.
    assert_eq!(asked.times(), VERIFICATIONS_MAX);
    assert!(admit(&keeper, "wrong").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_name_is_logged_only_where_it_is_checked() {
    for (checks_name, behaviour) in [
        (true, Behaviour::Answers),
        (true, Behaviour::Fails),
        (false, Behaviour::Answers),
        (false, Behaviour::Fails),
    ] {
        let log = tempfile::NamedTempFile::new().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(Arc::new(log.reopen().unwrap()));
        let _logging = tracing::subscriber::set_default(subscriber.finish());
        let asked = Asked {
            ignores_name: !checks_name,
            ..Asked::default()
        };
        *asked.behaves.lock() = behaviour;
        let keeper = asked.gatekeeper();
        let login = Login::new("name-or-token", "wrong");
        assert!(keeper.admit(Some(login), client()).await.is_err());
        let log = std::fs::read_to_string(log.path()).unwrap();
        assert!(log.contains("192.0.2.1"), "{log}");
        assert_eq!(log.contains("name-or-token"), checks_name, "{log}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_found_right_is_served_while_others_guess_from_there() {
    let keeper = Asked::default().gatekeeper();
    assert!(admit(&keeper, "right").await.is_ok());
    for _ in 0..=ATTEMPTS_MAX {
        assert!(admit(&keeper, "wrong").await.is_err());
    }
    assert!(admit(&keeper, "right").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_verifier_that_does_not_answer_admits_nobody_and_blames_nobody() {
    let asked = Asked::default();
    let keeper = asked.gatekeeper();
    for behaviour in [Behaviour::Fails, Behaviour::Hangs] {
        *asked.behaves.lock() = behaviour;
        let begun = tokio::time::Instant::now();
        for _ in 0..=ATTEMPTS_MAX {
            let refused = admit(&keeper, "right").await;
            assert_eq!(refused, Err(FailureKind::VerifierFailed));
        }
        let each = match behaviour {
            Behaviour::Hangs => VERIFICATION_TIMEOUT,
            _ => Duration::ZERO,
        };
        assert_eq!(
            begun.elapsed().as_secs(),
            (each * (ATTEMPTS_MAX + 1)).as_secs()
        );
    }
    *asked.behaves.lock() = Behaviour::Answers;
    assert!(admit(&keeper, "right").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn no_more_logins_are_remembered_than_is_bounded() {
    let keeper = keeper(&Admission::by(AnyPassword));
    for index in 0..ADMITTED_MAX + 10 {
        assert!(admit(&keeper, &index.to_string()).await.is_ok());
    }
    assert!(keeper.remembered() <= ADMITTED_MAX);
}
