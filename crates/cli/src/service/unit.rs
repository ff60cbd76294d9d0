//! What has a service manager start the service when its person logs in: a user unit of systemd
//! (systemd.service(5)), or an agent of launchd (launchd.plist(5)).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::authority::{make_private_folder, replace};
use crate::paths::Paths;
use crate::problem::Problem;

use super::unusable;

/// A file for the service manager of this system.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) path: PathBuf,
    /// What has the service manager heed it.
    pub(crate) enable: String,
    text: String,
}

impl Unit {
    /// `words` are those of the command line after the program.
    pub(crate) fn new(paths: &Paths, program: &Path, words: &[OsString]) -> Self {
        let mut command = vec![program.to_string_lossy().into_owned()];
        command.extend(serve_words(words));
        if cfg!(target_os = "macos") {
            let path = paths.home.join("Library/LaunchAgents/dev.oriel.plist");
            return Self {
                enable: format!("launchctl load -w {}", path.display()),
                text: plist(&command),
                path,
            };
        }
        let config = paths.user_config.ancestors().nth(2);
        let config = config.unwrap_or_else(|| Path::new("."));
        Self {
            path: config.join("systemd/user/oriel.service"),
            enable: "systemctl --user daemon-reload; systemctl --user enable oriel".to_owned(),
            text: systemd(&command),
        }
    }

    /// Writes it over the one before.
    pub(crate) fn write(&self) -> Result<(), Problem> {
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        make_private_folder(folder)
            .and_then(|()| replace(&self.path, self.text.as_bytes(), 0o644))
            .map_err(|error| unusable(&self.path, error))
    }
}

/// The words of `oriel start --enable` as those of `oriel serve`.
fn serve_words(words: &[OsString]) -> Vec<String> {
    let mut started = false;
    let words = words.iter().map(|word| word.to_string_lossy().into_owned());
    words
        .filter(|word| word != "--enable")
        .map(|word| match word.as_str() {
            "start" if !std::mem::replace(&mut started, true) => "serve".to_owned(),
            _ => word,
        })
        .collect()
}

fn systemd(command: &[String]) -> String {
    let quoted: Vec<String> = command.iter().map(|word| quoted(word)).collect();
    format!(
        "[Unit]\n\
         Description=oriel, an intercepting proxy for AI agents\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\n\
         # What is open may end, and what is queued is stored.\n\
         TimeoutStopSec=60\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        quoted.join(" ")
    )
}

/// A word of ExecStart, in which `$` and `%` would mean something.
fn quoted(word: &str) -> String {
    let word = word.replace('\\', "\\\\").replace('"', "\\\"");
    let word = word.replace('$', "$$").replace('%', "%%");
    format!("\"{}\"", word.replace('\n', "\\n"))
}

fn plist(command: &[String]) -> String {
    let words: Vec<String> = command
        .iter()
        .map(|word| {
            let word = word.replace('&', "&amp;").replace('<', "&lt;");
            format!("    <string>{word}</string>\n")
        })
        .collect();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \
         \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n<dict>\n  <key>Label</key>\n  <string>dev.oriel</string>\n  \
         <key>ProgramArguments</key>\n  <array>\n{}  </array>\n  <key>RunAtLoad</key>\n  <true/>\n  \
         <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n\
         </dict>\n</plist>\n",
        words.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_serves_with_the_same_words() {
        let words = ["start", "--enable", "--data", "/a b/%h$x", "start"].map(OsString::from);
        assert_eq!(
            serve_words(&words),
            ["serve", "--data", "/a b/%h$x", "start"]
        );
        let text = systemd(&["/bin/oriel".to_owned(), "/a b/%h$x\"".to_owned()]);
        assert!(
            text.contains("ExecStart=\"/bin/oriel\" \"/a b/%%h$$x\\\"\"\n"),
            "{text}"
        );
        assert!(plist(&["a<b&c".to_owned()]).contains("<string>a&lt;b&amp;c</string>"));
    }
}
