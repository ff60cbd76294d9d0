//! Masks credentials in the arguments of a command, which a run keeps to say what it was.
//!
//! Commands are no protocol; this knows the ways in which people pass credentials to HTTP programs
//! and agents: a field in any argument, a URL, an option, a variable, a name in a script, and what has the
//! form of a credential wherever it stands.

mod script;

use super::{Redaction, SECRET_FIELDS, SECRET_PARAMETERS, known};

/// Options, besides the names of secret fields and parameters, whose value is a credential.
const SECRET_OPTIONS: [&str; 5] = ["auth", "oauth2-bearer", "password", "proxy-user", "user"];
/// Short options of curl whose value is a credential.
const CURL_OPTIONS: [(&str, &str); 3] = [("-b", "cookie"), ("-u", "user"), ("-U", "proxy-user")];
/// The last word in the name of a variable whose value is a credential.
const SECRET_VARIABLES: [&str; 6] = [
    "APIKEY",
    "KEY",
    "TOKEN",
    "SECRET",
    "PASSWORD",
    "CREDENTIALS",
];

impl Redaction {
    /// Masks the arguments of a command, the program's name the first of them.
    #[must_use]
    pub fn mask_arguments(self, arguments: &[String]) -> Vec<String> {
        if self == Self::None {
            return arguments.to_vec();
        }
        let program = arguments.first().map_or("", |program| file_name(program));
        let mut masked = Vec::with_capacity(arguments.len());
        let mut expected = None;
        for argument in arguments {
            if let Some(name) = expected.take() {
                masked.push(mark(name, argument));
                continue;
            }
            expected = option_before_secret(argument, program);
            masked.push(match expected {
                Some(_) => argument.clone(),
                None => self.mask_argument(argument, program),
            });
        }
        masked
    }

    fn mask_argument(self, argument: &str, program: &str) -> String {
        script::mask(&self.mask_named(argument, program))
    }

    /// Masks what the argument as a whole says is a credential.
    fn mask_named(self, argument: &str, program: &str) -> String {
        if let Some((name, value)) = assigned(argument).or_else(|| attached(argument, program)) {
            return before(argument, value) + &mark(name, value);
        }
        if let Some((name, value)) = field(argument) {
            return before(argument, value) + &mark(name, value);
        }
        let masked = self.mask_url(argument.as_bytes());
        String::from_utf8_lossy(&masked).into_owned()
    }
}

/// The name of an option whose value is the next argument and a credential.
fn option_before_secret(argument: &str, program: &str) -> Option<&'static str> {
    if program == "curl"
        && let Some((_, name)) = CURL_OPTIONS.iter().find(|(option, _)| *option == argument)
    {
        return Some(name);
    }
    secret_option(argument.strip_prefix("--")?)
}

/// `--option=value`, and `NAME=value` of an environment.
fn assigned(argument: &str) -> Option<(&'static str, &str)> {
    let (name, value) = argument.split_once('=')?;
    if let Some(option) = name.strip_prefix("--") {
        return Some((secret_option(option)?, value));
    }
    let is_name =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    let last_word = name.rsplit('_').next().unwrap_or(name);
    let is_secret = SECRET_VARIABLES.contains(&last_word);
    (is_secret && name.chars().all(is_name)).then_some(("variable", value))
}

/// The value that stands right behind a short option of curl.
fn attached<'a>(argument: &'a str, program: &str) -> Option<(&'static str, &'a str)> {
    if program != "curl" {
        return None;
    }
    let mut options = CURL_OPTIONS.iter();
    options.find_map(|(option, name)| Some((*name, argument.strip_prefix(option)?)))
}

/// The value of a secret field that is named anywhere in the argument, up to the end of it.
fn field(argument: &str) -> Option<(&'static str, &str)> {
    let colons = argument.match_indices(':').map(|(at, _)| at);
    for colon in colons {
        let (head, value) = argument.split_at_checked(colon)?;
        let head = head.trim_ascii_end();
        let secret = SECRET_FIELDS.iter().find(|name| {
            let before = head.len().checked_sub(name.len());
            let before = before.and_then(|before| head.split_at_checked(before));
            before.is_some_and(|(before, found)| {
                let is_part =
                    |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
                found.eq_ignore_ascii_case(name) && (before == "-H" || !before.ends_with(is_part))
            })
        });
        if let Some(name) = secret {
            return Some((name, value.get(1..)?.trim_ascii_start()));
        }
    }
    None
}

fn secret_option(option: &str) -> Option<&'static str> {
    let option = option.as_bytes();
    known(&SECRET_FIELDS, option)
        .or_else(|| known(&SECRET_PARAMETERS, option))
        .or_else(|| known(&SECRET_OPTIONS, option))
}

fn mark(name: &str, value: &str) -> String {
    match value.len() {
        0 => String::new(),
        length => format!("[redacted:{name}:{length}]"),
    }
}

/// What stands before the value at the end of an argument.
fn before(argument: &str, value: &str) -> String {
    let kept = argument.len() - value.len();
    argument.get(..kept).unwrap_or_default().to_owned()
}

fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(command: &[&str], expected: &[&str]) {
        let command: Vec<String> = command
            .iter()
            .map(|&argument| argument.to_owned())
            .collect();
        assert_eq!(Redaction::Basic.mask_arguments(&command), expected);
        assert_eq!(Redaction::None.mask_arguments(&command), command);
    }

    #[test]
    fn masks_the_ways_credentials_are_passed() {
        check(
            &[
                "curl",
                "-H",
                "Authorization: Bearer abc",
                "-Hx-api-key:abc",
                "https://u:p@h/?key=abc",
            ],
            &[
                "curl",
                "-H",
                "Authorization: [redacted:authorization:10]",
                "-Hx-api-key:[redacted:x-api-key:3]",
                "https://[redacted:userinfo:3]@h/?key=[redacted:key:3]",
            ],
        );
        check(
            &[
                "/usr/bin/curl",
                "-u",
                "me:pw",
                "-bs=1",
                "--header=Cookie: s=1",
                "--oauth2-bearer",
                "abc",
            ],
            &[
                "/usr/bin/curl",
                "-u",
                "[redacted:user:5]",
                "-b[redacted:cookie:3]",
                "--header=Cookie: [redacted:cookie:3]",
                "--oauth2-bearer",
                "[redacted:oauth2-bearer:3]",
            ],
        );
        check(
            &[
                "env",
                "OPENAI_API_KEY=abc",
                "agent",
                "--api-key=abc",
                "--token",
                "abc",
                "-p",
                "hi",
            ],
            &[
                "env",
                "OPENAI_API_KEY=[redacted:variable:3]",
                "agent",
                "--api-key=[redacted:api-key:3]",
                "--token",
                "[redacted:token:3]",
                "-p",
                "hi",
            ],
        );
        check(
            &[
                "sh",
                "-c",
                "cd x; MY_KEY=abc curl -H 'authorization: abc' http://h",
            ],
            &[
                "sh",
                "-c",
                "cd x; MY_KEY=[redacted:credential:3] curl -H 'authorization: [redacted:authorization:13]",
            ],
        );
        check(
            &["python3", "-c", "OpenAI(api_key='abc')"],
            &["python3", "-c", "OpenAI(api_key='[redacted:credential:3]')"],
        );
    }

    #[test]
    fn leaves_what_is_none() {
        let command = [
            "python3",
            "-u",
            "x.py",
            "--keys",
            "a",
            "MONKEY=b:c",
            "what is a token: a word",
            "-b",
            "",
        ];
        check(&command, &command);
        check(&[], &[]);
    }

    proptest! {
        #[test]
        fn takes_any_arguments(arguments in prop::collection::vec(".{0,20}", 0..6)) {
            let masked = Redaction::Basic.mask_arguments(&arguments);
            prop_assert_eq!(masked.len(), arguments.len());
        }
    }
}
