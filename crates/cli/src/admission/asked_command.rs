//! A program that is asked who may use the proxy.
//!
//! It gets one line of JSON on its standard input, `{"user":"…","password":"…"}`, and answers with
//! its exit code: 0 admits, 1 refuses, anything else is an error.

use std::process::{ExitStatus, Stdio};

use proxy::{Login, Verifier, VerifierError};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::escape::escape_line;

#[derive(Debug)]
pub(crate) struct AskedCommand {
    program: String,
    arguments: Vec<String>,
}

impl AskedCommand {
    /// `None` if it names no program.
    pub(crate) fn new(command: &[String]) -> Option<Self> {
        let (program, arguments) = command.split_first()?;
        Some(Self {
            program: program.clone(),
            arguments: arguments.to_vec(),
        })
    }

    async fn ask(&self, login: &Login) -> std::io::Result<(ExitStatus, Vec<u8>)> {
        let mut child = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut input) = child.stdin.take() {
            let question = serde_json::json!({
                "user": login.user,
                "password": login.password.reveal(),
            });
            // One that decides without reading is free to.
            let _written = input.write_all(format!("{question}\n").as_bytes()).await;
        }
        let output = child.wait_with_output().await?;
        Ok((output.status, output.stderr))
    }
}

impl Verifier for AskedCommand {
    fn verify<'a>(
        &'a self,
        login: &'a Login,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<bool, VerifierError>> + Send + 'a>> {
        Box::pin(async move {
            let failed = |why: String| VerifierError(format!("{}: {why}", self.program));
            let (status, errors) = self
                .ask(login)
                .await
                .map_err(|error| failed(error.to_string()))?;
            match status.code() {
                Some(0) => Ok(true),
                Some(1) => Ok(false),
                _ => {
                    let errors = String::from_utf8_lossy(&errors);
                    let first = escape_line(errors.lines().next().unwrap_or_default());
                    Err(failed(format!("{status}: {first}")))
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(script: &str) -> Result<bool, String> {
        let command = ["sh", "-c", script].map(str::to_owned);
        let asked = AskedCommand::new(&command).unwrap();
        let login = Login::new("da\"na", "sec\nret");
        asked
            .verify(&login)
            .await
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn the_exit_code_decides() {
        let checks = r#"read -r line; test "$line" = '{"password":"sec\nret","user":"da\"na"}'"#;
        assert_eq!(ask(checks).await, Ok(true));
        assert_eq!(ask("exit 1").await, Ok(false));
        let error = ask("echo 'no database' >&2; exit 3").await.unwrap_err();
        assert!(error.contains("3: no database"), "{error}");
        let killed = ask("kill -9 $$").await.unwrap_err();
        assert!(killed.contains("signal"), "{killed}");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_an_error() {
        assert!(AskedCommand::new(&[]).is_none());
        let asked = AskedCommand::new(&["/no/such/program".to_owned()]).unwrap();
        let error = asked.verify(&Login::new("a", "b")).await.unwrap_err();
        assert!(error.to_string().contains("/no/such/program"));
    }
}
