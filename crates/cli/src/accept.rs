//! How the small servers for this machine take connections: the admin port and the control socket.

use tokio::task::JoinSet;

use crate::limits::{ADMIN_CONNECTIONS_MAX, ADMIN_TIMEOUT};

/// Answers each connection that `accept` gives, so many at a time, until it is dropped; what is being
/// answered ends with it.
pub(crate) async fn answer_each<S, A>(
    accept: impl AsyncFn() -> std::io::Result<S>,
    answer: impl Fn(S) -> A,
) where
    A: Future<Output = ()> + Send + 'static,
{
    let mut answers = JoinSet::new();
    loop {
        while answers.len() >= ADMIN_CONNECTIONS_MAX {
            answers.join_next().await;
        }
        let Ok(stream) = accept().await else {
            // Out of descriptors, most likely: others end before the next try.
            tokio::time::sleep(ADMIN_TIMEOUT / 10).await;
            continue;
        };
        while answers.try_join_next().is_some() {}
        answers.spawn(answer(stream));
    }
}
